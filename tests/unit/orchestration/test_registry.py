"""Every kind of job has a program, tasks and an event that the state table knows."""

from __future__ import annotations

import pytest

from homeport.model.protection import TRANSITIONS, Event
from homeport.orchestration.ports import JobKind
from homeport.orchestration.registry import PROGRAMS


@pytest.mark.parametrize("kind", list(JobKind))
def test_it_is_complete(kind: JobKind) -> None:
    entry = PROGRAMS[kind]
    assert len(set(entry.tasks)) == len(entry.tasks) >= 2
    assert callable(entry.program)
    known = {event for _, event in TRANSITIONS}
    assert entry.event is None or entry.event in known


def test_only_what_stands_beside_the_life_moves_nothing() -> None:
    still = {kind for kind, entry in PROGRAMS.items() if entry.event is None}
    beside = {JobKind.TEST_FAILOVER, JobKind.TEST_CLEANUP, JobKind.EXPORT_UNSENT}
    assert still == {JobKind.ENABLE, *beside}
    assert PROGRAMS[JobKind.REPROTECT].event is Event.REPROTECT
