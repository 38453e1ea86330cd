"""Writes set aside: listed, told file by file, copied out, discarded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from homeport.client import Client
from homeport.errors import HomeportError, NotFoundError, RefusedError
from homeport.interfaces.cli.frame import NoWaitOption, Session, YesOption, command
from homeport.interfaces.cli.items import PANEL, Item
from homeport.interfaces.cli.render import items as items_render
from homeport.interfaces.cli.render import unsent as render
from homeport.interfaces.cli.watching import started
from homeport.model.operations import Problem
from homeport.model.reports import LossReceipt
from homeport.model.unsent import (
    FILES_LISTED,
    FILES_SECONDS,
    Discarded,
    ExportRequest,
    UnsentDifference,
    UnsentView,
)
from homeport.units import show_size

RECEIPT_FILES = 20
"""Files a receipt lists of each file system; `homeport unsent --files` lists more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FilesRead:
    """What the images hold file by file, and why some could not be read, by image."""

    files: tuple[UnsentDifference, ...]
    problems: dict[str, Problem]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiptWithFiles:
    """A loss receipt, and which files were in the writes that never arrived."""

    receipt: LossReceipt
    files: FilesRead


Seconds = Annotated[
    float,
    typer.Option("--seconds", min=1, max=300, metavar="SECONDS", help="How long reading may take."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for function in (unsent, receipt):
        command(app, function.__name__, rich_help_panel=PANEL)(function)


def unsent(
    session: Session,
    *,
    item: Item,
    files: Annotated[
        bool, typer.Option("--files", help="Tell which files differ from the point before.")
    ] = False,
    export: Annotated[
        str | None,
        typer.Option("--export", help="Copy an image to this path on its host.", metavar="PATH"),
    ] = None,
    discard: Annotated[
        bool, typer.Option("--discard", help="Remove an image now, before it expires.")
    ] = False,
    disk: Annotated[
        str | None, typer.Option("--disk", metavar="DISK", help="The disk, where several.")
    ] = None,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="NAME", help="The image's name, where a disk has several."),
    ] = None,
    image_format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="Of the copy: qcow2 or raw.")
    ] = "qcow2",
    limit: Annotated[
        int,
        typer.Option("--limit", min=0, metavar="COUNT", help="Files listed of each file system."),
    ] = FILES_LISTED,
    seconds: Seconds = FILES_SECONDS,
    no_wait: NoWaitOption = False,
    yes: YesOption = False,
) -> None:
    """List the writes one side had and the other has not; look into them, keep or drop them."""
    _one_thing(files=files, export=export is not None, discard=discard)
    found = _chosen(session.client, item, disk, image)
    if files:
        read = _read(session, item, found, limit=limit, seconds=seconds)
        session.screen.show(FilesRead, read, render.files(read.files, read.problems))
    elif export is not None:
        one = _single(item, found)
        asked = ExportRequest(path=export, format=image_format, image=one.image)
        job = session.client.export_unsent(item, one.disk, asked)
        started(session, job, wait=not no_wait)
    elif discard:
        _discard(session, item, _single(item, found), yes=yes)
    else:
        session.screen.show(tuple[UnsentView, ...], found, render.unsent(found, session.now()))


def receipt(
    session: Session,
    *,
    item: Item,
    files: Annotated[
        bool, typer.Option("--files", help="Tell also which files were in what is missing.")
    ] = False,
) -> None:
    """Show what the last failover is known to have lost."""
    found = session.client.receipt(item)
    if not files:
        session.screen.show(LossReceipt, found, items_render.receipt(found))
        return
    names = {told.path for told in found.unsent}
    there = tuple(one for one in session.client.unsent(item) if one.path in names)
    read = _read(session, item, there, limit=RECEIPT_FILES, seconds=FILES_SECONDS)
    whole = ReceiptWithFiles(receipt=found, files=read)
    session.screen.show(
        ReceiptWithFiles, whole, render.receipt(found, there, read.files, read.problems)
    )


def _one_thing(**asked: bool) -> None:
    given = [f"--{name}" for name, wanted in asked.items() if wanted]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} cannot be asked for together.")


def _chosen(
    client: Client, item: str, disk: str | None, image: str | None
) -> tuple[UnsentView, ...]:
    """The images meant; all where nothing was said. NotFoundError if what was named is not there"""
    there = client.unsent(item)
    found = tuple(one for one in there if disk in (None, one.disk) and image in (None, one.image))
    if found or (disk is None and image is None):
        return found
    named = " ".join(filter(None, (disk and f"of disk {disk}", image and f"named {image}")))
    raise NotFoundError(
        f"No image {named} is set aside for {item}.",
        code="NoUnsent",
        cause="It has expired, was discarded, or never was.",
        remedy=f"Look at what is there (homeport unsent {item}).",
    )


def _single(item: str, found: tuple[UnsentView, ...]) -> UnsentView:
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFoundError(
            f"Nothing is set aside for {item}.",
            code="NoUnsent",
            cause="It has expired, was discarded, or never was.",
            remedy="Nothing to do.",
        )
    raise RefusedError(
        f"{len(found)} images are set aside for {item}.",
        code="ManyUnsent",
        cause="One is copied or discarded at a time.",
        remedy="Say which one: --disk DISK, and --image NAME where a disk has several.",
    )


def _read(
    session: Session, item: str, images: tuple[UnsentView, ...], *, limit: int, seconds: float
) -> FilesRead:
    """Have each image's host read it; one that cannot be read does not hide the others."""
    read: list[UnsentDifference] = []
    problems: dict[str, Problem] = {}
    for one in images:
        if session.screen.asks:
            session.screen.err.print(render.reading(one, seconds))
        try:
            found = session.client.unsent_files(
                item, one.disk, image=one.image, limit=limit, seconds=seconds
            )
        except HomeportError as error:
            problems[one.image] = error.as_dict()
        else:
            read.append(found)
    return FilesRead(files=tuple(read), problems=problems)


def _discard(session: Session, item: str, one: UnsentView, *, yes: bool) -> None:
    session.screen.confirm(
        f"Discard {one.image} on {one.host}: {show_size(one.size)} that {item} wrote there after "
        f"point {one.position} and that no other copy has. They are gone for good.",
        yes=yes,
    )
    done = session.client.discard_unsent(item, one.disk, image=one.image)
    session.screen.show(Discarded, done, render.discarded(one, done))
