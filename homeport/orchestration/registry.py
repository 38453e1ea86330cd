"""Every kind of job with its program, the tasks people see, and the event that starts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from homeport.model.protection import Event
from homeport.orchestration import (
    commit,
    disable,
    failover,
    protect,
    reprotect,
    test_failover,
    undo,
    unsent,
)
from homeport.orchestration.ports import JobKind, Program


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """
    One kind of job. `event` moves the item when the request is accepted.

    None: the item's state stays (test failovers are beside it), or the item is new.
    """

    program: Program
    tasks: tuple[str, ...]
    event: Event | None


PROGRAMS: Mapping[JobKind, Entry] = {
    JobKind.ENABLE: Entry(program=protect.protect, tasks=protect.TASKS, event=None),
    JobKind.FAILOVER: Entry(program=failover.failover, tasks=failover.TASKS, event=Event.FAILOVER),
    JobKind.PLANNED_FAILOVER: Entry(
        program=failover.failover, tasks=failover.TASKS, event=Event.FAILOVER
    ),
    JobKind.UNDO: Entry(program=undo.undo, tasks=undo.TASKS, event=Event.UNDO),
    JobKind.COMMIT: Entry(program=commit.commit, tasks=commit.TASKS, event=Event.COMMIT),
    JobKind.REPROTECT: Entry(
        program=reprotect.reprotect, tasks=reprotect.TASKS, event=Event.REPROTECT
    ),
    JobKind.TEST_FAILOVER: Entry(
        program=test_failover.test_failover, tasks=test_failover.TASKS, event=None
    ),
    JobKind.TEST_CLEANUP: Entry(
        program=test_failover.test_cleanup, tasks=test_failover.CLEANUP_TASKS, event=None
    ),
    JobKind.DISABLE: Entry(program=disable.disable, tasks=disable.TASKS, event=Event.DISABLE),
    JobKind.EXPORT_UNSENT: Entry(program=unsent.export_unsent, tasks=unsent.TASKS, event=None),
}
