"""
Where a job can be cancelled, where not and why, and how one that did not succeed is begun again.

Pure, and one table: what is told is what `job_requests.cancel` holds to. A job that a crash
interrupts goes on by itself; beginning again is for those that have failed or were cancelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from homeport.orchestration import commit, failover, test_failover, undo
from homeport.orchestration.ports import Job, JobKind, JobState

NEVER = -1
"""The `until` of a job that cannot be cancelled at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Safety:
    """
    One kind of job. From the beginning of task `until` on it goes to its end, `because`.

    None: it can be cancelled all the while. `leaves` is what a cancelled one leaves behind.
    """

    until: int | None
    because: str
    leaves: str


SAFETY: Mapping[JobKind, Safety] = {
    JobKind.ENABLE: Safety(
        until=None, because="", leaves="what it made on both sides is taken away again"
    ),
    JobKind.FAILOVER: Safety(
        until=failover.FENCE,
        because="the old side may not write any more, so a machine must run on the new one; "
        "afterwards it can be undone",
        leaves="the item is protected as before",
    ),
    JobKind.PLANNED_FAILOVER: Safety(
        until=failover.FENCE,
        because="the old side may not write any more, so a machine must run on the new one; "
        "afterwards it can be undone",
        leaves="a machine that was shut down is started again",
    ),
    JobKind.UNDO: Safety(
        until=undo.REMOVE,
        because="the new machine is being removed, so the old one must run",
        leaves="the new machine runs on",
    ),
    JobKind.COMMIT: Safety(
        until=commit.COMMIT,
        because="it is one step",
        leaves="the failover can still be undone",
    ),
    JobKind.REPROTECT: Safety(
        until=None,
        because="",
        leaves="the item is committed as before, the old disks are as they were or usable by the "
        "next reprotect, which goes on from there",
    ),
    JobKind.TEST_FAILOVER: Safety(
        until=None, because="", leaves="the test machine is taken away again"
    ),
    JobKind.TEST_CLEANUP: Safety(
        until=test_failover.REMOVE,
        because="the test machine is being removed",
        leaves="the test machine stays",
    ),
    JobKind.DISABLE: Safety(
        until=NEVER, because="what is half taken away is of no use to anybody", leaves=""
    ),
    JobKind.EXPORT_UNSENT: Safety(
        until=None, because="", leaves="the unfinished copy is removed, the image stays"
    ),
}


def cancellable(job: Job) -> bool:
    """Whether the job would stop if it were asked now."""
    until = SAFETY[job.kind].until
    if job.ended_at is not None:
        return False
    passed = max((task.index for task in job.tasks if task.started_at is not None), default=-1)
    return until is None or passed < until


def safety_words(job: Job) -> str:
    """What a person may do with the job as it stands: cancel it, until when; or begin it again."""
    if job.state is JobState.SUCCEEDED:
        return ""
    if job.ended_at is not None:
        return f"begin it again: homeport jobs restart {job.id[:8]}"
    safety = SAFETY[job.kind]
    if not cancellable(job):
        return (
            f"cannot be cancelled{' any more' if safety.until != NEVER else ''}: {safety.because}"
        )
    if safety.until is None:
        return f"can be cancelled: {safety.leaves}"
    last = next((task.name for task in job.tasks if task.index == safety.until), "")
    return f"can be cancelled until {last!r} begins: {safety.leaves}"
