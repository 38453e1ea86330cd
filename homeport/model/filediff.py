"""
What differs between two listings of a file system: pure, in one pass, however many files there are.

A listing is a stream of entries sorted by path, as `sort` under `LC_ALL=C` leaves them: a path is
followed by two slashes, which none can hold, so that both sides are in the same order.

    before   a  b     d
    after    a     c  d'
    result      deleted b, added c, changed d
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from heapq import merge
from itertools import groupby

END_OF_PATH = b"//"
"""What ends a path in a listing: no path can hold two slashes side by side."""
HEAD = b"homeport listing"
"""The first record: without it an empty place would be taken for an empty file system."""
KINDS = {"f": "file", "d": "folder", "l": "link", "b": "device", "c": "device", "p": "pipe"}
"""Kinds by the letter that `find -printf %y` prints."""


class Change(StrEnum):
    """What happened to a file between the two listings."""

    ADDED = "added"
    CHANGED = "changed"
    DELETED = "deleted"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """
    One file of a listing. Equal entries are taken for equal files.

    `changed` is the inode's own time of change (ctime), which no program can set back; a file
    system that has none gives its time of modification.
    """

    path: bytes
    kind: str
    size: int
    modified: float
    changed: str
    mode: str = ""

    @property
    def key(self) -> bytes:
        """What listings are sorted by."""
        return self.path + END_OF_PATH


@dataclass(frozen=True, kw_only=True, slots=True)
class FileChange:
    """One file that differs. Size and time are the newer side's; of a deleted one the older's."""

    path: str
    change: Change
    kind: str
    size: int  # bytes
    size_before: int | None  # None: it was not there
    modified_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSystemDifference:
    """
    One file system of the disk on both sides.

    The counts are true however few files are listed. `unreadable` says why there are none.
    """

    name: str  # where it lies: "/dev/sda1", or "whole disk"
    type: str  # "ext4", "xfs", ...
    added: int = 0
    changed: int = 0
    deleted: int = 0
    files: tuple[FileChange, ...] = ()
    unreadable: str = ""

    @property
    def total(self) -> int:
        """All that differ."""
        return self.added + self.changed + self.deleted

    @property
    def left_out(self) -> int:
        """How many differ beyond those listed."""
        return self.total - len(self.files)


@dataclass
class _Tally:
    """What one pass has found; files beyond `limit` are counted only."""

    limit: int
    counts: dict[Change, int] = field(default_factory=lambda: dict.fromkeys(Change, 0))
    files: list[FileChange] = field(default_factory=list)

    def add(self, before: FileEntry | None, after: FileEntry | None) -> None:
        found = _change(before, after)
        if found is None:
            return
        self.counts[found.change] += 1
        if len(self.files) < self.limit:
            self.files.append(found)


def difference(
    name: str,
    type: str,  # noqa: A002 - the field's own name
    before: Iterable[FileEntry],
    after: Iterable[FileEntry],
    *,
    limit: int,
) -> FileSystemDifference:
    """
    What `after` has otherwise than `before`; at most `limit` files are listed, all are counted.

    A folder that stays counts only where its mode differs: its times change with every file in it.
    """
    tally = _Tally(limit=limit)
    for old, new in _beside(before, after):
        tally.add(old, new)
    return FileSystemDifference(
        name=name,
        type=type,
        added=tally.counts[Change.ADDED],
        changed=tally.counts[Change.CHANGED],
        deleted=tally.counts[Change.DELETED],
        files=tuple(tally.files),
    )


def parse_listing(pieces: Iterable[bytes]) -> Iterator[FileEntry]:
    """
    The entries of a listing, given in pieces of any length.

    `HEAD` is its first record and an empty one its last; those between are as `find` prints them
    with `%P//%y %s %T@ %C@ %m`. All end in a zero byte.

    Raises:
        ValueError: head or end is missing, or a record is none.
    """
    records = _records(pieces)
    if next(records, None) != HEAD:
        raise ValueError("it has no head")
    for record in records:
        if not record:
            return
        yield _parse(record)
    raise ValueError("it has no end")


def _records(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\0")
        yield from whole


def _parse(record: bytes) -> FileEntry:
    path, end, facts = record.rpartition(END_OF_PATH)
    words = facts.decode("ascii", "replace").split(" ")
    if not end or len(words) != 5:
        raise ValueError(f"{record[:80]!r} is no record of a listing")
    kind, size, modified, changed, mode = words
    return FileEntry(
        path=path,
        kind=KINDS.get(kind, "other"),
        size=int(size),
        modified=float(modified),
        changed=changed,
        mode=mode,
    )


def _beside(
    before: Iterable[FileEntry], after: Iterable[FileEntry]
) -> Iterator[tuple[FileEntry | None, FileEntry | None]]:
    """Pairs of the same path; None where one side has none."""
    both = merge(_told(0, before), _told(1, after), key=lambda one: one[1].key)
    for _key, found in groupby(both, key=lambda one: one[1].key):
        pair = dict(found)
        yield pair.get(0), pair.get(1)


def _told(side: int, entries: Iterable[FileEntry]) -> Iterator[tuple[int, FileEntry]]:
    """Entries with their side, looked over: out of order they would tell of what is no change."""
    last = b""
    for entry in entries:
        if entry.key <= last:
            raise ValueError(f"it is not in order at {entry.path[:80]!r}")
        last = entry.key
        yield side, entry


def _change(before: FileEntry | None, after: FileEntry | None) -> FileChange | None:
    shown = after or before
    if shown is None or before == after or _same_folder(before, after):
        return None
    change = Change.CHANGED if before and after else Change.ADDED if after else Change.DELETED
    return FileChange(
        path="/" + shown.path.decode("utf-8", "backslashreplace"),
        change=change,
        kind=shown.kind,
        size=shown.size,
        size_before=None if before is None else before.size,
        modified_at=_moment(shown.modified),
    )


def _same_folder(before: FileEntry | None, after: FileEntry | None) -> bool:
    if before is None or after is None:
        return False
    return before.kind == after.kind == "folder" and before.mode == after.mode


def _moment(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None  # a time that no calendar has: damaged, or a guest's joke
