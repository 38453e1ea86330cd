"""What may be asked of a job itself: to stop at a safe place, and to be begun again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from homeport.errors import RefusedError
from homeport.model.codec import from_plain
from homeport.model.ids import JobId
from homeport.model.requests import (
    DisableRequest,
    FailoverRequest,
    ProtectRequest,
    ReprotectRequest,
    TestFailoverRequest,
)
from homeport.orchestration import accept
from homeport.orchestration.books import Books
from homeport.orchestration.ports import Job, JobKind, JobState, Json
from homeport.orchestration.safety import cancellable, safety_words


def cancel(books: Books, key: str) -> Job:
    """
    Ask a job to stop at a safe place.

    Raises:
        RefusedError: `JobEnded`, or `NotCancellableNow`: it has passed the last safe place.
    """
    job = books.job(JobId(key))
    if job.ended_at is None and not cancellable(job):
        raise RefusedError(
            f"{job.kind} of {job.item_name} {safety_words(job)}.",
            code="NotCancellableNow",
            cause="Stopping it here would leave the machine worse off than its end.",
            remedy=f"Wait for its end (homeport jobs watch {job.id[:8]}).",
        )
    if not books.ask_cancel(job.id):
        raise RefusedError(
            f"Job {job.id} has ended: {job.state.value}.",
            code="JobEnded",
            remedy="Nothing to do.",
        )
    return books.job(job.id)


def restart(books: Books, key: str) -> Job:
    """
    Ask for what a job did not do once more: a new job, accepted or refused as the request was.

    Raises:
        RefusedError: `JobRunning`, `JobSucceeded`, `AskAnew`; what the request itself is refused by
    """
    job = books.job(JobId(key))
    if job.ended_at is None:
        raise RefusedError(
            f"Job {job.id} is at work.",
            code="JobRunning",
            cause="A job that a crash interrupted goes on by itself.",
            remedy=f"Watch it (homeport jobs watch {job.id[:8]}).",
        )
    if job.state is JobState.SUCCEEDED:
        raise RefusedError(
            f"Job {job.id} has done what was asked.", code="JobSucceeded", remedy="Nothing to do."
        )
    again = _AGAIN.get(job.kind)
    if again is None or job.item is None:
        raise RefusedError(
            f"{job.kind} is asked for anew.",
            code="AskAnew",
            cause="It needs what only its own request says.",
            remedy="Give the command again that began it.",
        )
    return again(books, job.item, job.request)


_AGAIN: Mapping[JobKind, Callable[[Books, str, dict[str, Json]], Job]] = {
    JobKind.ENABLE: lambda books, _, asked: accept.protect(
        books, from_plain(ProtectRequest, asked)
    ),
    JobKind.FAILOVER: lambda books, key, asked: accept.failover(
        books, key, from_plain(FailoverRequest, asked)
    ),
    JobKind.PLANNED_FAILOVER: lambda books, key, asked: accept.failover(
        books, key, from_plain(FailoverRequest, asked)
    ),
    JobKind.UNDO: lambda books, key, _: accept.undo(books, key),
    JobKind.COMMIT: lambda books, key, _: accept.commit(books, key),
    JobKind.REPROTECT: lambda books, key, asked: accept.reprotect(
        books, key, from_plain(ReprotectRequest, asked)
    ),
    JobKind.TEST_FAILOVER: lambda books, key, asked: accept.test_failover(
        books, key, from_plain(TestFailoverRequest, asked)
    ),
    JobKind.TEST_CLEANUP: lambda books, key, _: accept.test_cleanup(books, key),
    JobKind.DISABLE: lambda books, key, asked: accept.disable(
        books, key, from_plain(DisableRequest, asked)
    ),
}
"""How each kind of job is asked for again; an export is told where to by its own request."""
