"""Jobs: durable work with its tasks, and the one thing to do with it: asking it to stop."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, status

from homeport.errors import NotFoundError
from homeport.interfaces.api.office import AnOffice
from homeport.interfaces.job_reports import job_notes, job_report
from homeport.model.ids import ItemId, JobId, check_name
from homeport.model.reports import JobReport
from homeport.orchestration import accept, job_requests
from homeport.orchestration.books import Books
from homeport.orchestration.ports import ItemRow, JobState

router = APIRouter(prefix="/v1", tags=["jobs"])
ACCEPTED = status.HTTP_202_ACCEPTED


@router.get("/jobs")
def list_jobs(
    office: AnOffice, item: str | None = None, state: JobState | None = None
) -> tuple[JobReport, ...]:
    """Jobs, newest first; of one item (by name or id), in one state, or all."""
    with office.look() as books:
        wanted = None if item is None else _item(books, item)
        return tuple(job_report(job) for job in books.jobs(item=wanted, state=state))


def _item(books: Books, key: str) -> ItemId:
    """The id of an item; of one that was disabled as well, whose jobs stay."""
    try:
        return accept.find(books, key).item.id
    except accept.ItemDisabledError:
        ended = accept.disabled_by(books, key)
        if ended is None or ended.item is None:
            raise
        return ended.item


@router.get("/jobs/{job}")
def show_job(job: str, office: AnOffice) -> JobReport:
    """One job with its tasks."""
    check_name("job", job)
    with office.look() as books:
        found = books.job(JobId(job))
        return replace(job_report(found), notes=job_notes(found, _row(books, found.item)))


def _row(books: Books, item: ItemId | None) -> ItemRow | None:
    """The job's item; None for one that is no more."""
    try:
        return None if item is None else books.item(item)
    except NotFoundError:
        return None


@router.post("/jobs/{job}/cancel")
def cancel_job(job: str, office: AnOffice) -> JobReport:
    """Ask a job to stop at a safe place; what it made is taken away again."""
    check_name("job", job)
    with office.books() as books:
        return job_report(job_requests.cancel(books, job))


@router.post("/jobs/{job}/restart", status_code=ACCEPTED)
def restart_job(job: str, office: AnOffice) -> JobReport:
    """Ask for what a failed or cancelled job did not do once more; it is a new job."""
    check_name("job", job)
    with office.books() as books:
        return job_report(job_requests.restart(books, job))
