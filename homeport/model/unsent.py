"""
Writes set aside, as they are asked for and told of: files that differ, copies, removal.

The operations on them are agents' like any other (`homeport.model.operations` lists all); requests
and reports are the API's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict

from homeport.model.filediff import FileSystemDifference
from homeport.model.ids import DiskName, ItemId
from homeport.model.messages import UnsentReport
from homeport.model.position import Position

FILES_LISTED = 1000
"""Files a difference lists unless told otherwise; the counts are true in any case."""
FILES_SECONDS = 120.0
"""Seconds a host gives itself to read file systems: a person waits for the answer."""
FORMATS = ("qcow2", "raw")
"""Formats a copy can have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFile:
    """A disk image with its format; what it stands on is named in its header."""

    path: Path
    format: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FilesCompared:
    """The file systems of a disk at two moments. `way`: what read them; `note`: why that one."""

    way: str
    file_systems: tuple[FileSystemDifference, ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnsentFiles:
    """
    `unsent-files`: which files an image set aside has otherwise than the point it stands on.

    `image` is the image's file name; None takes the disk's only one. Nothing is changed.
    """

    item: ItemId
    disk: DiskName
    image: str | None = None
    limit: int = FILES_LISTED
    seconds: float = FILES_SECONDS


@dataclass(frozen=True, kw_only=True, slots=True)
class UnsentDifference:
    """What `unsent-files` found. `took` in seconds."""

    disk: DiskName
    image: str
    position: Position | None
    way: str
    file_systems: tuple[FileSystemDifference, ...]
    took: float
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportUnsent:
    """`export-unsent`: a copy that stands by itself, at `path` on the image's host."""

    item: ItemId
    disk: DiskName
    path: str
    image: str | None = None
    format: str = "qcow2"


@dataclass(frozen=True, kw_only=True, slots=True)
class UnsentCopy:
    """A copy that is there: `size` are the disk's bytes, `stored` those it takes."""

    path: str
    format: str
    size: int
    stored: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscardUnsent:
    """`discard-unsent`: remove an image before its time. One that is gone is no error."""

    item: ItemId
    disk: DiskName
    image: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Discarded:
    """The files that went, by name, and the bytes they took."""

    files: tuple[str, ...]
    freed: int


UNSENT_OPERATIONS: dict[str, tuple[type[Any], type[Any]]] = {
    "unsent-files": (UnsentFiles, UnsentDifference),
    "export-unsent": (ExportUnsent, UnsentCopy),
    "discard-unsent": (DiscardUnsent, Discarded),
}
"""Their kinds, with the types of arguments and results."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportRequest:
    """Copy an image that was set aside to `path` on its host; `format`: qcow2 or raw."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    path: str
    format: str = "qcow2"
    image: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class UnsentView:
    """An image set aside, and where. Not `alive`: its host is not heard, so it is as last told."""

    site: str
    host: str
    disk: str
    image: str  # its name, unique among the disk's
    path: str
    position: Position
    size: int
    set_aside_at: datetime
    expires_at: datetime | None
    alive: bool

    @classmethod
    def of(cls, told: UnsentReport, *, site: str, host: str, alive: bool) -> UnsentView:
        """What a host has told, with the host."""
        return cls(
            site=site,
            host=host,
            disk=told.disk,
            image=Path(told.path).name,
            path=told.path,
            position=told.position,
            size=told.size,
            set_aside_at=told.set_aside_at,
            expires_at=told.expires_at,
            alive=alive,
        )
