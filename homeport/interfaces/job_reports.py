"""A job as people and programs are shown it: its tasks, what to do with it, how long it takes."""

from __future__ import annotations

from homeport.model.codec import from_plain
from homeport.model.estimate import Span
from homeport.model.reports import JobReport, TaskReport
from homeport.orchestration.ports import ItemRow, Job, Task
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
    """How long a running job is expected to take from its beginning, where that was estimated."""
    expected = row.facts.get("expected") if row else None
    if not expected or expected["job"] != job.id or job.ended_at is not None:
        return ()
    total = from_plain(Span, {key: expected[key] for key in ("low", "likely", "high")})
    bounds = f"{show_span(total.low)} to {show_span(total.high)}"
    return (f"estimated {show_span(total.likely)} in all ({bounds})",)


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
