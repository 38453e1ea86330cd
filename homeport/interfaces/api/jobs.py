"""Jobs: durable work with its tasks, and the one thing to do with it: asking it to stop."""

from __future__ import annotations

from fastapi import APIRouter

from homeport.interfaces.api.office import AnOffice
from homeport.interfaces.reports import job_report
from homeport.model.ids import JobId, check_name
from homeport.model.reports import JobReport
from homeport.orchestration import accept
from homeport.orchestration.ports import JobState

router = APIRouter(prefix="/v1", tags=["jobs"])


@router.get("/jobs")
def list_jobs(
    office: AnOffice, item: str | None = None, state: JobState | None = None
) -> tuple[JobReport, ...]:
    """Jobs, newest first; of one item (by name or id), in one state, or all."""
    with office.look() as books:
        wanted = None if item is None else accept.find(books, item).item.id
        return tuple(job_report(job) for job in books.jobs(item=wanted, state=state))


@router.get("/jobs/{job}")
def show_job(job: str, office: AnOffice) -> JobReport:
    """One job with its tasks."""
    check_name("job", job)
    with office.look() as books:
        return job_report(books.job(JobId(job)))


@router.post("/jobs/{job}/cancel")
def cancel_job(job: str, office: AnOffice) -> JobReport:
    """Ask a job to stop at a safe place; what it made is taken away again."""
    check_name("job", job)
    with office.books() as books:
        return job_report(accept.cancel(books, job))
