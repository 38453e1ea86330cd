"""
Writes set aside, looked into, copied out and removed.

Looking and copying only read, and hold no lock of the item, so a copy of hours keeps nobody
waiting: what an image stands on does not change while it is listed, and files once opened stay as
they were.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from homeport.agent.aside import unsent_gone
from homeport.agent.held import HeldItem
from homeport.agent.means import Means
from homeport.agent.operations.order import Bench
from homeport.dataplane.copying import (
    copy_image,
    disk_bytes,
    free_bytes,
    measured,
    same_content,
)
from homeport.dataplane.pipeline import Control
from homeport.dataplane.points import backing_of
from homeport.dataplane.qcow2 import read_header
from homeport.errors import NotFoundError, RefusedError, TransientError
from homeport.model.ledger import DiskChain, Unsent
from homeport.model.machine import DiskFormat
from homeport.model.unsent import (
    FORMATS,
    Discarded,
    DiscardUnsent,
    ExportUnsent,
    ImageFile,
    UnsentCopy,
    UnsentDifference,
    UnsentFiles,
)
from homeport.units import show_size

READING = "reading"
"""The folder in an item's for what is written while files are read; gone afterwards."""
LOOK_EVERY = 0.2

_reading = threading.Lock()
"""Held while files are read: one appliance after another is enough for a host with guests on it."""


class NoUnsentError(NotFoundError):
    """No image of that name is set aside."""

    code = "NoUnsent"

    def __init__(self, disk: str, image: str | None) -> None:
        named = f"no image {image}" if image else "nothing"
        super().__init__(
            f"For disk {disk} {named} is set aside on this host.",
            cause="It has expired, was discarded, or never was.",
            remedy="Look at what is there (homeport unsent ITEM).",
        )
        self.disk, self.image = disk, image


class ManyUnsentError(RefusedError):
    """Several images, and it was not said which."""

    code = "ManyUnsent"

    def __init__(self, disk: str, images: tuple[str, ...]) -> None:
        super().__init__(
            f"For disk {disk} {len(images)} images are set aside: {', '.join(images)}.",
            cause="More than one failover left writes behind.",
            remedy="Say which one (--image NAME).",
        )
        self.disk, self.images = disk, images


class NothingBelowError(RefusedError):
    """A whole disk: there is no point to compare it with."""

    code = "NothingBelow"

    def __init__(self, image: str) -> None:
        super().__init__(
            f"{image} is a whole disk that a full copy has replaced.",
            cause="It stands on no recovery point, so there is nothing it differs from.",
            remedy="Export it (homeport unsent ITEM --export PATH) and look into it.",
        )


class StillNeededError(RefusedError):
    """An image that is the last good copy of its disk."""

    code = "StillNeeded"

    def __init__(self, image: str) -> None:
        super().__init__(
            f"{image} cannot be removed yet.",
            cause="It is the old disk as a whole, and the full copy that replaces it has not "
            "landed.",
            remedy="Wait until the resync has ended, then ask again.",
        )


class ImageMovedError(TransientError):
    """A file of an image's chain that had its name a moment ago."""

    code = "ImageMoved"

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} was moved or removed while it was to be read.",
            cause="A failover, a reprotect or a release gave the item's disks other names.",
            remedy="Look at what is there (homeport unsent ITEM), then ask again.",
        )
        self.path = path


class BadExportPathError(RefusedError):
    """A copy asked for at a place where none may be made."""

    code = "BadExportPath"

    def __init__(self, path: Path, reason: str, *, remedy: str = "") -> None:
        super().__init__(
            f"Nothing can be exported to {path}: {reason}.",
            remedy=remedy or "Name an absolute path on the image's host whose folder is there.",
        )
        self.path, self.reason = path, reason


def unsent_files(bench: Bench, order: UnsentFiles) -> UnsentDifference:
    """Which files the image has otherwise than the point it stands on."""
    held, means = bench.shelf.peek(order.item), bench.means
    chain, unsent = find_unsent(held, order.disk, order.image)
    if means.compare_files is None:
        raise RefusedError(
            "This agent reads no file systems.",
            code="FilesUnreadableHere",
            remedy="Export the image and open it elsewhere.",
        )
    began = means.clock.monotonic()
    with _named_if_moved(held), _scratch(held, bench.control) as scratch:
        before, after = _point_below(held, unsent), _image_of(held, chain, unsent)
        found = means.compare_files(
            before,
            after,
            scratch=scratch,
            limit=order.limit,
            seconds=order.seconds,
            control=bench.control,
        )
    return UnsentDifference(
        disk=chain.name,
        image=Path(unsent.path).name,
        position=unsent.position,
        way=found.way,
        file_systems=found.file_systems,
        took=means.clock.monotonic() - began,
        note=found.note,
    )


@contextmanager
def _named_if_moved(held: HeldItem) -> Iterator[None]:
    """
    Nothing holds the item meanwhile: other work may give its files other names.

    A program or a folder of the user's that is missing is not the item's, and told as it is.
    """
    known, pool = held.files(), held.folder.parent.parent
    try:
        yield
    except FileNotFoundError as error:
        missing = Path(str(error.filename))
        if missing in known or missing.is_relative_to(pool):
            raise ImageMovedError(str(missing)) from error
        raise


def export_unsent(bench: Bench, order: ExportUnsent) -> UnsentCopy:
    """A copy that stands by itself; one that is there from before a crash is found to be whole."""
    held = bench.shelf.peek(order.item)
    chain, unsent = find_unsent(held, order.disk, order.image)
    if order.format not in FORMATS:
        raise RefusedError(
            f"{order.format!r} is no format of a copy.",
            code="BadFormat",
            remedy=f"Choose one of {', '.join(FORMATS)}.",
        )
    image, target = _image_of(held, chain, unsent), _checked(order.path, held, bench.means)
    with _named_if_moved(held):
        _copy(image, ImageFile(path=target, format=order.format), bench.control)
    return UnsentCopy(
        path=str(target),
        format=order.format,
        size=disk_bytes(ImageFile(path=target, format=order.format)),
        stored=target.stat().st_blocks * 512,
    )


def _copy(image: ImageFile, copy: ImageFile, control: Control) -> None:
    target = copy.path
    if target.exists():
        if not same_content(image, copy):
            raise BadExportPathError(target, "something else is there already")
    else:
        _check_room(target.parent, measured(image, copy.format))
        copy_image(image, target, copy.format, control)


def discard_unsent(bench: Bench, order: DiscardUnsent) -> Discarded:
    """Remove an image before its time; what it stood on is free to be merged again."""
    with bench.shelf.claim(order.item, bench.control) as work:
        held = work.held
        try:
            chain, unsent = find_unsent(held, order.disk, order.image)
        except NoUnsentError:
            return Discarded(files=(), freed=0)
        if unsent.base and not chain.whole:
            raise StillNeededError(order.image)
        there = {name: held.path(name) for name in unsent.names if held.path(name).exists()}
        took = {name: path.stat().st_blocks * 512 for name, path in there.items()}
        rest = tuple(one for one in chain.set_aside if one != unsent)
        held.save_chains(
            [replace(chain, set_aside=rest)], made=unsent_gone(held, work.means, (unsent,))
        )
        held.drop(unsent.names)
        files = [name for name, path in there.items() if not path.exists()]
        names = tuple(Path(name).name for name in files)
        return Discarded(files=names, freed=sum(took[name] for name in files))


def find_unsent(held: HeldItem, disk: str, image: str | None) -> tuple[DiskChain, Unsent]:
    """
    An image by its file name, or the only one of the disk.

    Raises:
        NoUnsentError, ManyUnsentError: there is none, or more than one.
    """
    chain = next((one for one in held.ledger.disks if one.name == disk), None)
    there = chain.set_aside if chain is not None else ()
    found = [one for one in there if image is None or Path(one.path).name == image]
    if chain is None or not found:
        raise NoUnsentError(disk, image)
    if len(found) > 1:
        raise ManyUnsentError(disk, tuple(Path(one.path).name for one in found))
    return chain, found[0]


def _image_of(held: HeldItem, chain: DiskChain, unsent: Unsent) -> ImageFile:
    whole = unsent.path == unsent.base
    image_format = chain.disk.format if whole else DiskFormat.QCOW2
    return ImageFile(path=held.path(unsent.path), format=image_format.value)


def _point_below(held: HeldItem, unsent: Unsent) -> ImageFile:
    """What the lowest file of the image stands on: the disk as it was at the point."""
    if unsent.base:
        raise NothingBelowError(Path(unsent.path).name)
    lowest = held.path(unsent.names[0])
    below, header = backing_of(lowest), read_header(lowest)
    if below is None:
        raise NothingBelowError(Path(unsent.path).name)
    return ImageFile(path=below, format=header.backing_format or DiskFormat.RAW.value)


@contextmanager
def _scratch(held: HeldItem, control: Control) -> Iterator[Path]:
    """An empty folder, one at a time; what an earlier life left in it goes first."""
    while not _reading.acquire(timeout=LOOK_EVERY):
        control.check()
    folder = held.folder / READING
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _reading.release()


def _checked(text: str, held: HeldItem, means: Means) -> Path:
    """Where a copy may be made: nowhere that Homeport's own files lie."""
    asked = Path(text)
    if not asked.is_absolute() or asked.name in ("", ".."):
        raise BadExportPathError(asked, "it is no absolute path of a file")
    if not asked.parent.is_dir():
        raise BadExportPathError(asked, f"{asked.parent} is no folder")
    target = asked.parent.resolve() / asked.name
    if target.is_symlink() or target.is_dir() or (target.exists() and not target.is_file()):
        raise BadExportPathError(asked, "something else is there already")
    own = [held.folder.parent, *(means.ledgers.folder(item) for item in means.ledgers.items())]
    if any(target.is_relative_to(folder.resolve()) for folder in own):
        raise BadExportPathError(asked, "Homeport keeps replicas and their ledgers there")
    return target


def _check_room(folder: Path, needed: int) -> None:
    free = free_bytes(folder)
    if needed > free:
        raise BadExportPathError(
            folder,
            f"the copy needs up to {show_size(needed)}, and {show_size(free)} are free",
            remedy="Make room, or choose another folder.",
        )
