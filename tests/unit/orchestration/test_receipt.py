"""The loss receipt: what may be concluded, never more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.model.codec import from_plain, to_plain
from homeport.model.machine import PowerState
from homeport.model.messages import UnsentReport
from homeport.model.operations import FenceFacts, PromoteFacts
from homeport.model.position import Position
from homeport.model.reports import LossReceipt
from homeport.orchestration.receipt import (
    CONFIRMED,
    FENCED,
    NOT_KNOWN,
    NOTHING_LOST,
    SHUT_DOWN,
    Boot,
    Loss,
    complete_receipt,
    downtime_of,
    write_receipt,
)
from homeport.units import MiB
from tests.unit.orchestration.test_points import POINTS, START

STOPPED = START + timedelta(minutes=10)
NOW = START + timedelta(minutes=12)


def fence(unsent: int, captured: str = "2-3") -> FenceFacts:
    return FenceFacts(was=PowerState.RUNNING, captured=Position.parse(captured), unsent=unsent)


def loss(point: str = "2-1", **given: Any) -> Loss:
    facts = {
        "listed": POINTS,
        "captured": Position(2, 2),
        "fence": None,
        "planned": False,
        "stopped_at": STOPPED,
        "now": NOW,
    }
    return Loss(point=Position.parse(point), **{**facts, **given})


def image(path: str, size: int = MiB) -> UnsentReport:
    return UnsentReport(
        disk="d", path=path, position=Position(2, 1), size=size, set_aside_at=NOW, expires_at=None
    )


@pytest.mark.parametrize(
    ("given_loss", "missing", "seconds", "known", "assumption"),
    [
        (loss(), None, 540.0, NOT_KNOWN, CONFIRMED),
        (loss(fence=fence(0)), 0, 540.0, "0 B that never reached this side", FENCED),
        (loss(fence=fence(3 * MiB)), 3 * MiB, 540.0, "3 MiB that never reached this side", FENCED),
        (loss(planned=True, fence=fence(9)), 0, 0.0, NOTHING_LOST, SHUT_DOWN),
        (loss(planned=True), 0, 0.0, NOTHING_LOST, SHUT_DOWN),
        (loss("3-0"), None, None, NOT_KNOWN, CONFIRMED),
    ],
    ids=[
        "silent source",
        "fenced, all sent",
        "fenced, some unsent",
        "planned",
        "planned, silent",
        "a point that is not listed yet",
    ],
)
def test_what_may_be_concluded(
    given_loss: Loss, missing: int | None, seconds: float | None, known: str, assumption: str
) -> None:
    receipt = write_receipt(given_loss)
    assert receipt.missing_bytes == missing
    assert receipt.missing_seconds == seconds
    assert (receipt.known, receipt.assumption) == (known, assumption)
    assert receipt.failed_over_at == NOW
    assert receipt.completed_at is None


def test_points_that_were_left_out_are_counted_apart() -> None:
    receipt = write_receipt(loss("1-8"))
    assert receipt.left_out == 3
    assert receipt.known == NOT_KNOWN + ", and 3 B in newer points that were left out"


def test_the_newest_capture_known_is_the_highest_that_anybody_told_of() -> None:
    assert write_receipt(loss()).captured == Position(2, 2)
    assert write_receipt(loss(fence=fence(0, "2-3"))).captured == Position(2, 3)
    assert write_receipt(loss(captured=None)).captured == Position(2, 1)


def test_it_is_completed_when_the_old_side_is_back() -> None:
    receipt = complete_receipt(
        write_receipt(loss()), unsent=(image("/b"), image("/a")), missing=2 * MiB, now=NOW
    )
    assert receipt.missing_bytes == 2 * MiB
    assert receipt.known == "2 MiB that never reached this side"
    assert [one.path for one in receipt.unsent] == ["/a", "/b"]
    assert receipt.completed_at == NOW


@given(st.lists(st.tuples(st.integers(0, 10**12), st.sets(st.sampled_from("abc"))), min_size=1))
def test_completing_again_never_forgets(rounds: list[tuple[int, set[str]]]) -> None:
    receipt = write_receipt(loss(fence=fence(5)))
    for missing, paths in rounds:
        later = complete_receipt(
            receipt, unsent=tuple(image(path) for path in paths), missing=missing, now=NOW
        )
        assert (later.missing_bytes or 0) >= (receipt.missing_bytes or 0)
        assert {one.path for one in later.unsent} == {one.path for one in receipt.unsent} | paths
        receipt = later
    assert from_plain(LossReceipt, to_plain(LossReceipt, receipt)) == receipt


def boot(answered: float | None, *, told: float = 12.0, waited: float = 60.0) -> Boot:
    """A machine whose host's clock is an hour ahead; it answered so many seconds after its start"""
    started = START + timedelta(hours=1)
    at = None if answered is None else started + timedelta(seconds=answered)
    facts = PromoteFacts(started_at=started, answered_at=at, depth=1)
    return Boot(facts=facts, told_at=START + timedelta(seconds=told), waited=waited)


DOWN: dict[str, tuple[Boot, float, float | None]] = {
    "its guest answered": (boot(4.0), 8.0, 12.0),
    "at once": (boot(0.0), 12.0, 12.0),
    "a clock that was set back meanwhile": (boot(-3.0), 12.0, 12.0),
    "its guest was silent for as long as it was given": (boot(None, waited=5.0), 7.0, None),
    "nobody asked it": (boot(None, waited=0.0), 12.0, None),
    "silent longer than all of it took": (boot(None, waited=60.0), 0.0, None),
}


@pytest.mark.parametrize(("booted", "started", "answered"), DOWN.values(), ids=DOWN)
def test_an_interruption_is_measured_by_the_servers_clock(
    booted: Boot, started: float, answered: float | None
) -> None:
    found = downtime_of(booted, began_at=START, host="w1")
    assert found is not None
    assert (found.began_at, found.started, found.answered) == (START, started, answered)
    assert "the server's clock" in found.measured
    assert "w1" in found.measured


def test_one_that_nobody_saw_the_beginning_of_is_not_told() -> None:
    assert downtime_of(boot(4.0), began_at=None, host="w1") is None
    assert write_receipt(loss()).downtime is None


def test_the_receipt_has_the_interruption_also_when_it_is_completed() -> None:
    found = downtime_of(boot(4.0), began_at=START, host="w1")
    receipt = write_receipt(loss(planned=True, downtime=found))
    again = from_plain(LossReceipt, to_plain(LossReceipt, receipt))
    assert complete_receipt(again, unsent=(), missing=0, now=NOW).downtime == found
