"""
The life of an item as one table: states, events, moves.

An illegal move raises and changes nothing. The diagram in `docs/states.md` is generated from this
table (`python -m homeport.model.protection`), and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from homeport.errors import RefusedError


class State(StrEnum):
    """Where an item stands. The text is what people are shown."""

    ENABLING = "Enabling"
    SEEDING = "Seeding"
    PROTECTED = "Protected"
    FAILING_OVER = "Failing over"
    FAILOVER_FAILED = "Failover failed"
    COMMIT_PENDING = "Failover, commit pending"
    UNDOING = "Undoing failover"
    COMMITTING = "Committing"
    COMMITTED = "Failover committed"
    REPROTECTING = "Reprotecting"
    RESYNCING = "Resyncing"
    ENABLE_FAILED = "Enable failed"
    DISABLING = "Disabling"
    DISABLE_FAILED = "Disable failed"
    DISABLED = "Disabled"


class Event(StrEnum):
    """What moves an item on."""

    ENABLE = "enable"
    ARMED = "armed"
    SEEDED = "seeded"
    ENABLE_FAILED = "enable failed"
    FAILOVER = "failover"
    REVERTED = "failover stopped before the fence"
    BROKEN = "failover stopped after the fence"
    KEPT = "stopped with the new machine kept"
    BOOTED = "booted"
    COMMIT = "commit"
    ACCEPTED = "accepted"
    UNDO = "undo"
    UNDONE = "undone"
    REPROTECT = "reprotect"
    REVERSED = "reversed"
    REPROTECT_STOPPED = "reprotect stopped"
    RESYNC = "resync"
    RESYNCED = "resynced"
    DISABLE = "disable"
    DISABLE_STOPPED = "disable stopped"
    GONE = "gone"


S, E = State, Event
TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (S.ENABLE_FAILED, E.ENABLE): S.ENABLING,
    (S.ENABLING, E.ARMED): S.SEEDING,
    (S.ENABLING, E.ENABLE_FAILED): S.ENABLE_FAILED,
    (S.SEEDING, E.SEEDED): S.PROTECTED,
    (S.SEEDING, E.ENABLE_FAILED): S.ENABLE_FAILED,
    (S.PROTECTED, E.RESYNC): S.RESYNCING,
    (S.RESYNCING, E.RESYNCED): S.PROTECTED,
    (S.PROTECTED, E.FAILOVER): S.FAILING_OVER,
    (S.FAILOVER_FAILED, E.FAILOVER): S.FAILING_OVER,
    (S.COMMIT_PENDING, E.FAILOVER): S.FAILING_OVER,  # change recovery point
    (S.FAILING_OVER, E.REVERTED): S.PROTECTED,
    (S.FAILING_OVER, E.BROKEN): S.FAILOVER_FAILED,
    (S.FAILING_OVER, E.KEPT): S.COMMIT_PENDING,  # a change of point that changed nothing
    (S.FAILING_OVER, E.BOOTED): S.COMMIT_PENDING,
    (S.COMMIT_PENDING, E.UNDO): S.UNDOING,
    (S.FAILOVER_FAILED, E.UNDO): S.UNDOING,
    (S.UNDOING, E.UNDONE): S.PROTECTED,
    (S.UNDOING, E.BROKEN): S.FAILOVER_FAILED,
    (S.UNDOING, E.KEPT): S.COMMIT_PENDING,  # an undo that changed nothing
    (S.COMMIT_PENDING, E.COMMIT): S.COMMITTING,
    (S.COMMITTING, E.ACCEPTED): S.COMMITTED,
    (S.COMMITTING, E.BROKEN): S.COMMIT_PENDING,
    (S.COMMITTED, E.REPROTECT): S.REPROTECTING,
    (S.REPROTECTING, E.REVERSED): S.RESYNCING,
    (S.REPROTECTING, E.REPROTECT_STOPPED): S.COMMITTED,
    (S.RESYNCING, E.REPROTECT_STOPPED): S.COMMITTED,
    (S.DISABLING, E.GONE): S.DISABLED,
    (S.DISABLING, E.DISABLE_STOPPED): S.DISABLE_FAILED,
} | {
    (state, E.DISABLE): S.DISABLING
    for state in (
        S.ENABLE_FAILED,
        S.SEEDING,
        S.PROTECTED,
        S.COMMITTED,
        S.FAILOVER_FAILED,
        S.DISABLE_FAILED,
    )
}

REMEDIES: Mapping[tuple[State, Event], tuple[str, str, str]] = {
    (S.COMMIT_PENDING, E.REPROTECT): (
        "NotCommitted",
        "The failover has not been committed, and committing ends undo: a person does that.",
        "Commit the failover first (homeport commit), then reprotect.",
    ),
    (S.COMMIT_PENDING, E.DISABLE): (
        "NotCommitted",
        "Two machines exist until the failover is committed or undone.",
        "Commit or undo the failover first.",
    ),
    (S.COMMITTED, E.FAILOVER): (
        "NotReprotected",
        "After a commit the machine is unprotected: nothing is replicated to fail over to.",
        "Reprotect first (homeport reprotect); then it can fail over the other way.",
    ),
    (S.COMMITTED, E.UNDO): (
        "AlreadyCommitted",
        "Committing ended undo.",
        "To go back, reprotect and fail over in the other direction.",
    ),
    (S.PROTECTED, E.REPROTECT): (
        "NotFailedOver",
        "The machine runs where it is replicated from; there is nothing to reverse.",
        "Fail over and commit first.",
    ),
    (S.PROTECTED, E.COMMIT): (
        "NotFailedOver",
        "There is no failover to commit.",
        "Fail over first.",
    ),
}


class IllegalMoveError(RefusedError):
    """An operation that the item's state does not allow."""

    code = "NotAllowedNow"

    def __init__(self, state: State, event: Event) -> None:
        code, cause, remedy = REMEDIES.get(
            (state, event),
            (self.code, *_why_not(state, event)),
        )
        super().__init__(
            f"The item is in state {state.value!r}; {event.value} is not possible now.",
            cause=cause,
            remedy=remedy,
            code=code,
        )
        self.state = state
        self.event = event


def _why_not(state: State, event: Event) -> tuple[str, str]:
    allowed = sorted(e.value for e in events_of(state))
    fitting = sorted({s.value for s, e in TRANSITIONS if e is event})
    return (
        f"{event.value.capitalize()} is possible in: {', '.join(fitting)}.",
        "Wait until the running job has ended, or look at it (homeport jobs list)."
        if state in BUSY
        else f"What can happen from here: {', '.join(allowed) or 'nothing'}.",
    )


BUSY = frozenset(
    {
        S.ENABLING,
        S.SEEDING,
        S.FAILING_OVER,
        S.UNDOING,
        S.COMMITTING,
        S.REPROTECTING,
        S.RESYNCING,
        S.DISABLING,
    }
)
"""States in which a job is at work."""

NO_POINT = "no recovery point has landed yet"
UNPROTECTED: Mapping[State, str] = {
    S.ENABLING: "protection is being set up",
    S.SEEDING: "the first copy has not landed yet",
    S.FAILING_OVER: "it is failing over: nothing is replicated now",
    S.FAILOVER_FAILED: "the failover has failed: fail over again, or undo",
    S.COMMIT_PENDING: "nothing is replicated after a failover: commit, then reprotect",
    S.UNDOING: "the failover is being undone: nothing is replicated now",
    S.COMMITTING: "nothing is replicated after a failover: reprotect once it is committed",
    S.COMMITTED: "nothing is replicated after a failover: reprotect",
    S.REPROTECTING: "the reprotect has not ended: nothing is replicated yet",
    S.RESYNCING: "the resync has not landed yet",
    S.ENABLE_FAILED: "enabling has failed",
    S.DISABLING: "protection is being ended",
    S.DISABLE_FAILED: "disabling has stopped halfway: disable it again",
    S.DISABLED: "protection was disabled",
}
"""
States in which a loss of the running side would lose more than the policy allows, and why.

A resync that an item does beside points it has already leaves those points usable.
"""


def unprotected(state: State, *, has_points: bool) -> str:
    """Why the item is unprotected in `state`, in words; empty when it is protected."""
    if state is State.PROTECTED or (state is State.RESYNCING and has_points):
        return "" if has_points else NO_POINT
    return UNPROTECTED[state]


def events_of(state: State) -> tuple[Event, ...]:
    """The events that can happen in `state`."""
    return tuple(event for source, event in TRANSITIONS if source is state)


def advance(state: State, event: Event) -> State:
    """
    The state after `event`.

    Raises:
        IllegalMoveError: the table has no such move; its code names what to do first.
    """
    target = TRANSITIONS.get((state, event))
    if target is None:
        raise IllegalMoveError(state, event)
    return target


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    ids = {state: state.name.title().replace("_", "") for state in State}
    lines = ["stateDiagram-v2", f"    [*] --> {ids[S.ENABLING]}"]
    lines += [f'    state "{state.value}" as {ids[state]}' for state in State]
    lines += [
        f"    {ids[source]} --> {ids[target]}: {event.value}"
        for (source, event), target in TRANSITIONS.items()
    ]
    return "\n".join([*lines, f"    {ids[S.DISABLED]} --> [*]"])


if __name__ == "__main__":
    print(diagram())
