"""A job as people and programs are shown it: its tasks, what to do with it, how long it takes."""

from __future__ import annotations

from collections.abc import Iterator

from homeport.model.codec import from_plain
from homeport.model.estimate import Span
from homeport.model.reports import JobReport, TaskReport
from homeport.orchestration.ports import ItemRow, Job, JobKind, Task
from homeport.orchestration.safety import cancellable, safety_words
from homeport.units import show_span


def job_report(job: Job) -> JobReport:
    """A job with its tasks."""
    return JobReport(
        id=job.id,
        kind=job.kind.value,
        item=job.item,
        item_name=job.item_name,
        state=job.state.value,
        attempt=job.attempt,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        cancel_asked=job.cancel_asked,
        request=job.request,
        result=job.result,
        error=job.error,
        tasks=tuple(_task(task) for task in job.tasks),
        cancellable=cancellable(job),
        safety=safety_words(job),
    )


def job_notes(job: Job, row: ItemRow | None) -> tuple[str, ...]:
    """How long a running job is expected to take, where that was estimated; what one has left."""
    return (*_expected(job, row), *_left(job))


def _expected(job: Job, row: ItemRow | None) -> Iterator[str]:
    expected = row.facts.get("expected") if row else None
    if not expected or expected["job"] != job.id or job.ended_at is not None:
        return
    total = from_plain(Span, {key: expected[key] for key in ("low", "likely", "high")})
    bounds = f"{show_span(total.low)} to {show_span(total.high)}"
    yield f"estimated {show_span(total.likely)} in all ({bounds})"


def _left(job: Job) -> Iterator[str]:
    """What a disable left and why, and what it leaves to be removed on a host's return."""
    for side in (job.result or {}).get("sides", ()) if job.kind is JobKind.DISABLE else ():
        if side["pending"]:
            yield f"{side['host']} did not answer: what is there is removed on its return"
            continue
        for entry in side["left"]:
            yield f"left on {side['host']}: {entry['kind']} {entry['name']}; {entry['reason']}"
        yield from (f"kept on {side['host']}: {words}" for words in side.get("kept", ()))


def _task(task: Task) -> TaskReport:
    return TaskReport(
        index=task.index,
        name=task.name,
        state=task.state.value,
        started_at=task.started_at,
        ended_at=task.ended_at,
        progress=task.progress,
        waits_for=task.waits_for,
        error=task.error,
    )
