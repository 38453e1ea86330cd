"""
Which files differ between two images of a disk: the ways a host has, and which one it took.

libguestfs where it works; else e2fsprogs for ext2, ext3 and ext4; else a reason in words. Called by
agents for writes that were set aside; bounded in time, and the images are only read.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from homeport.dataplane.pipeline import Control, for_each
from homeport.errors import CancelledError, HomeportError
from homeport.model.unsent import FilesCompared, ImageFile
from homeport.providers.disks import extfiles, guestfs
from homeport.providers.disks.guestfs import Guestfs
from homeport.providers.disks.listings import Listing, compare_listings
from homeport.providers.disks.watched import Deadline

SHARE = 0.7
"""Of the time there is, what libguestfs may take; the other way has the rest."""
NOT_ASKED = "libguestfs is switched off here"

Lister = Callable[[ImageFile, Path, Deadline], list[Listing]]
"""Lists an image's file systems with the help of an empty folder."""


@dataclass(frozen=True, kw_only=True)
class FileSystems:
    """Compares the files of two images. Without `guestfs` only e2fsprogs is used."""

    guestfs: Guestfs | None = None

    def __call__(
        self,
        before: ImageFile,
        after: ImageFile,
        *,
        scratch: Path,
        limit: int,
        seconds: float,
        control: Control,
    ) -> FilesCompared:
        """
        What `after` has otherwise than `before`. `scratch` is an empty folder, the caller's.

        Raises:
            UnreadableHereError, NoScratchRoomError: not on this host.
            ReadingToolError, FilesTimeoutError: it did not work this time.
            CancelledError: somebody asked for it.
        """
        pair, note, end = (before, after), NOT_ASKED, time.monotonic() + seconds
        if self.guestfs is not None:
            deadline = Deadline.after(seconds * SHARE, way=guestfs.WAY, control=control)
            try:
                return _compare(self.guestfs.list_files, pair, scratch / "1", limit, deadline)
            except CancelledError:
                raise
            except HomeportError as error:
                note = error.message
        extfiles.check_room(scratch, pair)
        deadline = Deadline(at=end, seconds=seconds, way=extfiles.WAY, control=control)
        return _compare(extfiles.list_files, pair, scratch / "2", limit, deadline, note=note)


def _compare(
    lister: Lister,
    pair: tuple[ImageFile, ImageFile],
    scratch: Path,
    limit: int,
    deadline: Deadline,
    *,
    note: str = "",
) -> FilesCompared:
    """List both at the same time, then compare; what was written for it is gone afterwards."""
    found: dict[int, list[Listing]] = {}

    def work(side: int, control: Control) -> None:
        folder = scratch / ("before", "after")[side]
        folder.mkdir(parents=True)
        found[side] = lister(pair[side], folder, deadline.steered(control))

    try:
        for_each((0, 1), work, workers=2, control=deadline.control)
        differences = compare_listings(found[0], found[1], limit=limit)
        return FilesCompared(way=deadline.way, file_systems=differences, note=note)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
