"""
The base of a new replica, while a seed lands in it: written in parts, in any order, by few threads.

A raw base is a sparse file of its own kind here; a qcow2 base is written through QEMU by an adapter
in `providers/disks`, which keeps the same protocol. A base is opened again after a crash and what
was flushed is still in it; which parts those are, the caller has recorded.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Protocol

from homeport.dataplane.points import sync_path
from homeport.errors import IntegrityError
from homeport.units import MiB

_ZEROES = bytes(MiB)


class BaseWriter(Protocol):
    """A disk being filled. All calls may be made by several threads, on bytes apart."""

    def write(self, offset: int, body: bytes) -> None:
        """Put bytes in place; lasting after `flush`."""

    def zero(self, offset: int, length: int) -> None:
        """Make bytes read as zeroes; where nothing was written this takes no room and no time."""

    def flush(self) -> None:
        """On return all that was written and zeroed before survives a power cut."""

    def close(self) -> None:
        """Give everything back, flushed or not; twice is as good as once."""


class BaseTakenError(IntegrityError):
    """Where a base is to be filled lies something else."""

    code = "BaseTaken"
    default_remedy = "Nothing was written. Move the file away, then start the seed again."

    def __init__(self, *, path: Path, found: str) -> None:
        super().__init__(
            f"{path} cannot be the base of a new replica: {found}.",
            cause="Another attempt with other sizes left it, or it was put there from outside.",
        )
        self.path, self.found = path, found


class RawBase:
    """A raw file, sparse where nothing was written, or a block device of the disk's size."""

    def __init__(self, path: Path, *, size: int) -> None:
        """
        Make the file, or go on with the one an earlier attempt began.

        Raises:
            BaseTakenError: something of another size is there; it is not touched.
            OSError: the file cannot be made.
        """
        self.path, self.size = path, size
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        found = os.lseek(self._file, 0, os.SEEK_END)
        if found == 0:  # new, or left by a crash before its length was set
            os.ftruncate(self._file, self.size)
            os.fsync(self._file)
            sync_path(self.path.parent)
        elif found != self.size:
            raise BaseTakenError(path=self.path, found=f"it has {found} bytes, not {self.size}")

    def write(self, offset: int, body: bytes) -> None:
        """Put bytes in place; see the protocol."""
        self._check(offset, len(body))
        view = memoryview(body)
        while view:
            done = os.pwrite(self._file, view, offset)
            view, offset = view[done:], offset + done

    def zero(self, offset: int, length: int) -> None:
        """Write zeroes over what is allocated in the range; see the protocol."""
        self._check(offset, length)
        at, end = offset, offset + length
        while (start := self._data_from(at)) < end:
            at = min(os.lseek(self._file, start, os.SEEK_HOLE), end)
            for piece in range(start, at, MiB):
                self.write(piece, _ZEROES[: at - piece])

    def _data_from(self, offset: int) -> int:
        """Where data begins at or behind `offset`; the disk's size if it nowhere does."""
        try:
            return os.lseek(self._file, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return self.size

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{offset}+{length} is not within a disk of {self.size} bytes")

    def flush(self) -> None:
        """Sync the file; see the protocol."""
        os.fsync(self._file)

    def close(self) -> None:
        """Give the file back; see the protocol."""
        handle, self._file = self._file, -1
        if handle >= 0:
            os.close(handle)
