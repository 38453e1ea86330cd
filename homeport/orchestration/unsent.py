"""
Writes set aside, by people's requests: which host has an image, and the job that copies one out.

Looking into an image and discarding it are answered by its agent at once; a copy may take hours, so
it is a job with its progress, beside the life of the item.
"""

from __future__ import annotations

from homeport.errors import NotFoundError, RefusedError
from homeport.model.codec import from_plain, to_plain
from homeport.model.ids import DiskName, HostName, SiteName
from homeport.model.item import Seat
from homeport.model.unsent import (
    FORMATS,
    ExportRequest,
    ExportUnsent,
    UnsentCopy,
    UnsentView,
)
from homeport.orchestration.books import Books
from homeport.orchestration.places import need_alive
from homeport.orchestration.ports import ItemRow, Job, JobKind, JobRun, Json
from homeport.orchestration.program import check_cancel, need, read_item

TASKS = ("Prerequisite check", "Copying the image")
CHECK, COPY = range(2)
PATIENCE = 60.0
"""Seconds without a word from the host before the copy counts as lost; progress is a word."""


def images(books: Books, row: ItemRow) -> tuple[UnsentView, ...]:
    """The images set aside for an item on both its hosts, as they were last told of."""
    return tuple(
        UnsentView.of(told, site=seat.site, host=seat.host, alive=books.host_alive(seat.host))
        for seat in _seats(row)
        for report in [books.report_of(row.item.id, seat.host)]
        if report is not None
        for told in report.unsent
    )


def find_image(books: Books, row: ItemRow, disk: str, image: str | None) -> UnsentView:
    """
    An image by its name, or the only one of the disk, on a host that answers.

    Raises:
        NotFoundError: `NoUnsent`.
        RefusedError: `ManyUnsent`: there are several; `SiteUnreachable`.
    """
    there = [one for one in images(books, row) if one.disk == disk]
    found = [one for one in there if image is None or one.image == image]
    if not found:
        named = f"no image {image}" if image else "nothing"
        raise NotFoundError(
            f"For disk {disk} of {row.item.name} {named} is set aside.",
            code="NoUnsent",
            cause="It has expired, was discarded, or never was.",
            remedy=f"Look at what is there (homeport unsent {row.item.name}).",
        )
    if len(found) > 1:
        names = ", ".join(one.image for one in found)
        raise RefusedError(
            f"For disk {disk} of {row.item.name} {len(found)} images are set aside: {names}.",
            code="ManyUnsent",
            cause="More than one failover left writes behind.",
            remedy="Say which one (--image NAME).",
        )
    (one,) = found
    need_alive(books, seat_of(row, one))
    return one


def seat_of(row: ItemRow, image: UnsentView) -> Seat:
    """The item's seat on the image's host."""
    return next(seat for seat in _seats(row) if seat.host == image.host)


def export(books: Books, row: ItemRow, disk: str, asked: ExportRequest) -> Job:
    """
    Begin a copy.

    Raises:
        RefusedError: `BadFormat`, and what `find_image` raises.
    """
    if asked.format not in FORMATS:
        raise RefusedError(
            f"{asked.format!r} is no format of a copy.",
            code="BadFormat",
            remedy=f"Choose one of {', '.join(FORMATS)}.",
        )
    image = find_image(books, row, disk, asked.image)
    order = ExportUnsent(
        item=row.item.id,
        disk=DiskName(disk),
        path=asked.path,
        image=image.image,
        format=asked.format,
    )
    request = {"host": image.host, "site": image.site, **to_plain(ExportUnsent, order)}
    return books.submit(
        JobKind.EXPORT_UNSENT, item=row.item.id, item_name=row.item.name, request=request
    )


def export_unsent(run: JobRun) -> dict[str, Json]:
    """The program of `JobKind.EXPORT_UNSENT`."""
    run.task(CHECK)
    read_item(run)
    host = HostName(str(run.job.request["host"]))
    order = from_plain(ExportUnsent, run.job.request)
    check_cancel(run)
    run.task(COPY)
    made = need(run, "copy the image", host, order, UnsentCopy, patience=PATIENCE)
    site = SiteName(str(run.job.request["site"]))
    return {"site": site, "host": host, **to_plain(UnsentCopy, made)}


def _seats(row: ItemRow) -> tuple[Seat, ...]:
    return (row.item.running, row.item.standby)
