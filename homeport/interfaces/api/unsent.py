"""Writes set aside: listed, looked into, copied out, discarded."""

from __future__ import annotations

from fastapi import APIRouter, status

from homeport.errors import TransientError, from_dict
from homeport.interfaces.api.office import AnOffice
from homeport.interfaces.job_reports import job_report
from homeport.model.codec import from_plain
from homeport.model.ids import DiskName, HostName
from homeport.model.messages import OperationState
from homeport.model.reports import JobReport
from homeport.model.unsent import (
    FILES_LISTED,
    FILES_SECONDS,
    Discarded,
    DiscardUnsent,
    ExportRequest,
    UnsentDifference,
    UnsentFiles,
    UnsentView,
)
from homeport.orchestration import accept, unsent
from homeport.orchestration.books import Office

router = APIRouter(prefix="/v1", tags=["items"])
MOST_SECONDS = 300.0
"""The client's own patience for an answer is a little longer."""
ROOM = 30.0
"""Seconds a host that is up needs to take the question, beside those it takes to answer."""


@router.get("/items/{item}/unsent")
def list_unsent(item: str, office: AnOffice) -> tuple[UnsentView, ...]:
    """The images set aside for an item, and where they are."""
    with office.look() as books:
        return unsent.images(books, accept.find(books, item))


@router.get("/items/{item}/unsent/{disk}/files")
def list_files(
    item: str,
    disk: str,
    office: AnOffice,
    *,
    image: str | None = None,
    limit: int = FILES_LISTED,
    seconds: float = FILES_SECONDS,
) -> UnsentDifference:
    """Which files an image has otherwise than its point; its host reads them now."""
    with office.look() as books:
        row = accept.find(books, item)
        found = unsent.find_image(books, row, disk, image)
    question = UnsentFiles(
        item=row.item.id,
        disk=DiskName(disk),
        image=found.image,
        limit=max(0, limit),
        seconds=min(max(1.0, seconds), MOST_SECONDS),
    )
    patience = question.seconds + ROOM
    answer = _ask(office, found.host, "unsent-files", question, patience)
    return from_plain(UnsentDifference, answer)


@router.post("/items/{item}/unsent/{disk}/export", status_code=status.HTTP_202_ACCEPTED)
def export(item: str, disk: str, office: AnOffice, asked: ExportRequest) -> JobReport:
    """Copy an image to a file that stands by itself, on the image's host."""
    with office.books() as books:
        return job_report(unsent.export(books, accept.find(books, item), disk, asked))


@router.delete("/items/{item}/unsent/{disk}")
def discard(item: str, disk: str, office: AnOffice, image: str | None = None) -> Discarded:
    """Remove an image before its time: what it holds is then gone for good."""
    with office.look() as books:
        row = accept.find(books, item)
        found = unsent.find_image(books, row, disk, image)
    order = DiscardUnsent(item=row.item.id, disk=DiskName(disk), image=found.image)
    return from_plain(Discarded, _ask(office, found.host, "discard-unsent", order, ROOM))


def _ask(
    office: Office,
    host: str,
    kind: str,
    args: UnsentFiles | DiscardUnsent,
    patience: float,
) -> dict[str, object]:
    """An agent's answer, or its own error."""
    outcome = office.ask(HostName(host), kind, args, item=args.item, patience=patience)
    if outcome.done:
        return outcome.result or {}
    if outcome.state is not OperationState.LOST and outcome.error is not None:
        raise from_dict(outcome.error)
    raise TransientError(
        f"The agent on {host} has not answered within {patience:.0f} s.",
        code="HostUnreachable",
        cause="The host is busy, or was cut off meanwhile.",
        remedy=f"Look at {host}, then ask again.",
    )
