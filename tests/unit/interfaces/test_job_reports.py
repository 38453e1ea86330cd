"""What a job's report says besides its tasks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from homeport.interfaces.job_reports import job_notes
from homeport.model.ids import ItemId, JobId
from homeport.orchestration.ports import Job, JobKind, JobState

LAYERS = {"kind": "folder", "name": "/disks/homeport/shop", "reason": "no ledger", "made_at": ""}
SIDES: dict[str, tuple[list[dict[str, Any]], tuple[str, ...]]] = {
    "all gone": ([{"host": "e", "made": 3, "left": [], "pending": False}], ()),
    "something left": (
        [
            {"host": "e", "made": 1, "left": [LAYERS], "pending": False},
            {"host": "w", "made": 3, "left": [], "pending": False},
        ],
        ("left on e: folder /disks/homeport/shop; no ledger",),
    ),
    "a network that others use": (
        [{"host": "e", "made": 3, "left": [], "kept": ["network lan: in use"], "pending": False}],
        ("kept on e: network lan: in use",),
    ),
    "a host that was silent": (
        [{"host": "e", "made": 3, "left": [LAYERS], "pending": True}],
        ("e did not answer: what is there is removed on its return",),
    ),
}


def ended(kind: JobKind, result: dict[str, Any] | None) -> Job:
    return Job(
        id=JobId("j"),
        kind=kind,
        item=ItemId("i"),
        item_name="shop",
        request={},
        state=JobState.SUCCEEDED,
        attempt=1,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        result=result,
    )


@pytest.mark.parametrize(("sides", "notes"), SIDES.values(), ids=SIDES)
def test_a_disable_says_what_it_has_left(
    sides: list[dict[str, Any]], notes: tuple[str, ...]
) -> None:
    assert job_notes(ended(JobKind.DISABLE, {"sides": sides}), None) == notes
    assert job_notes(ended(JobKind.REPROTECT, {"sides": sides}), None) == ()


def test_one_that_failed_before_has_left_nothing_to_speak_of() -> None:
    assert job_notes(ended(JobKind.DISABLE, None), None) == ()
