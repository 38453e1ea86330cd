"""
Listings of file systems, as every way of reading leaves them, and what differs between two of them.

A `Listing` is one file system of one image, its sorted entries in a scratch file; a list of them is
an image's. Two lists, of the point and of the image upon it, make the difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from homeport.model.filediff import FileEntry, FileSystemDifference, difference, parse_listing
from homeport.units import MiB

PIECE = MiB
"""Bytes of a listing read at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """One file system's entries in `path` from `offset` on, or why there are none."""

    name: str
    type: str
    path: Path | None = None
    offset: int = 0
    unreadable: str = ""

    def entries(self) -> Iterator[FileEntry]:
        """Its files, sorted as `parse_listing` wants them."""
        if self.path is None:
            return iter(())
        return parse_listing(_pieces(self.path, self.offset))


def compare_listings(
    before: Sequence[Listing], after: Sequence[Listing], *, limit: int
) -> tuple[FileSystemDifference, ...]:
    """
    The differences, file system by file system; one that only one side has is all new or all gone.
    """
    old = {one.name: one for one in before}
    new = {one.name: one for one in after}
    return tuple(
        _compared(name, old.get(name), new.get(name), limit=limit)
        for name in dict.fromkeys([*old, *new])
    )


def _compared(
    name: str, old: Listing | None, new: Listing | None, *, limit: int
) -> FileSystemDifference:
    there = [one for one in (old, new) if one is not None]
    type_ = there[-1].type
    reason = next((one.unreadable for one in there if one.unreadable), "")
    if reason:
        return FileSystemDifference(name=name, type=type_, unreadable=reason)
    empty = Listing(name=name, type=type_)
    try:
        return difference(
            name, type_, (old or empty).entries(), (new or empty).entries(), limit=limit
        )
    except ValueError as error:
        return FileSystemDifference(name=name, type=type_, unreadable=f"its listing: {error}")


def _pieces(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while piece := file.read(PIECE):
            yield piece
