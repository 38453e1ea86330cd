"""
The policies' commit timers: a failover nobody decides on is committed or undone in its time.

The time runs from the end of the job that booted the point, so a change of the point begins it
anew, and no longer once a person has decided: each failover is decided by a timer once. A decision
that is refused, because a side does not answer, is tried again in every round. With several
servers the first to move the item decides, and the others find it moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import structlog

from homeport.errors import RefusedError
from homeport.model.ids import ItemId
from homeport.model.policy import CommitTimer, ReplicationPolicy
from homeport.model.protection import State
from homeport.orchestration import accept
from homeport.orchestration.books import Books, Office
from homeport.orchestration.ports import ItemRow, Job, JobKind, JobState
from homeport.orchestration.rounds import Rounds

FAILOVERS = (JobKind.FAILOVER, JobKind.PLANNED_FAILOVER)
DECISIONS = (JobKind.COMMIT, JobKind.UNDO)
MOVED = "MovedMeanwhile"

log = structlog.get_logger(__name__)


def decision_at(row: ItemRow, policy: ReplicationPolicy, jobs: tuple[Job, ...]) -> datetime | None:
    """
    When the item's policy decides by itself; None when it does not. `jobs` are newest first.

    Not after a commit or an undo that has failed: what that left is for a person to look at.
    """
    if row.state is not State.COMMIT_PENDING or policy.commit_timer is CommitTimer.NONE:
        return None
    for job in jobs:
        if job.kind in DECISIONS and job.state is not JobState.CANCELLED:
            return None
        if job.kind in FAILOVERS and job.state is JobState.SUCCEEDED and job.ended_at:
            return job.ended_at + policy.commit_after
    return None


class CommitTimers(Rounds):
    """Looks at all items that wait for a decision, every few seconds."""

    def __init__(self, office: Office, *, every: float) -> None:
        super().__init__(name="commit timers", every=every)
        self._office = office
        self._refused: dict[ItemId, str] = {}

    def round(self) -> tuple[Job, ...]:
        """Decide what is due; the jobs begun."""
        begun = []
        for item, policy in self._due().items():
            try:
                with self._office.books() as books:
                    job = _decide(books, item, policy)
            except RefusedError as error:
                self._tell(item, error)
                continue
            self._refused.pop(item, None)
            log.warning("a commit timer has run out", item=job.item_name, job=job.id)
            begun.append(job)
        return tuple(begun)

    def _due(self) -> Mapping[ItemId, ReplicationPolicy]:
        with self._office.look() as books:
            now = books.now()
            due = {}
            for row in books.items():
                if row.state is not State.COMMIT_PENDING:
                    continue
                policy = books.policy(row.item.policy)
                at = decision_at(row, policy, books.jobs(item=row.item.id))
                if at is not None and at <= now:
                    due[row.item.id] = policy
            return due

    def _tell(self, item: ItemId, error: RefusedError) -> None:
        """Once for each reason: the rounds go on."""
        if error.code != MOVED and self._refused.get(item) != error.code:
            self._refused[item] = error.code
            log.warning("a commit timer cannot decide yet", item=item, message=error.message)


def _decide(books: Books, item: ItemId, policy: ReplicationPolicy) -> Job:
    by = f"policy {policy.name}"
    if policy.commit_timer is CommitTimer.UNDO:
        return accept.undo(books, item, by=by)
    return accept.commit(books, item, by=by)
