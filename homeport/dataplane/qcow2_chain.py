"""
What the guest sees through a chain of layers, read from the files alone.

Merging, resyncs and `rescue` read disks with it, beside or without a running QEMU. At opening the
maps of all layers are laid over each other once, top first, into one table of runs that says for
every byte in which file it lies; a read is then a lookup and one `pread` a run, however deep the
chain. Neither locks nor tools are involved; files have to stay as they are while it is open.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np

from homeport.dataplane.qcow2_reader import LayerReader
from homeport.dataplane.qcow2_scan import Piece, scan
from homeport.dataplane.qcow2_tables import HostRuns, read_fully
from homeport.model.extent import Extent, ExtentSet, Offsets, union_of

BaseFormat = Literal["raw", "qcow2"]


@dataclass(frozen=True, slots=True)
class _Source:
    """One file of the chain: how much of the disk it has, what it decides, where that lies."""

    path: Path
    file: int
    size: int
    changed: ExtentSet
    runs: HostRuns


class ChainReader:
    """
    A chain of layers, opened top to base, read as the guest would see the topmost.

    The top gives the disk's size; what a shorter lower layer does not have reads as zeroes, also
    where an even lower one has bytes, as QEMU has it. `read` may be called by many threads.
    """

    def __init__(self, paths: Sequence[Path], *, base_format: BaseFormat) -> None:
        """
        Open all files and lay their maps over each other.

        Args:
            paths: top first, base last; the names in the headers are not looked at.
            base_format: of the last path; all others are qcow2.

        Raises:
            ValueError: no paths.
            Qcow2FormatError, UnsupportedQcow2Error, OSError: as of `LayerReader`.
        """
        if not paths:
            raise ValueError("a chain has at least one file")
        self._lock = threading.Lock()
        self._bytes_read = 0  # under the lock
        self._closing = ExitStack()
        with ExitStack() as opened:
            self._sources = [_open(opened, path, base_format, paths) for path in paths]
            self._closing = opened.pop_all()
        self.size = self._sources[0].size
        self._raw_base = base_format == "raw"
        self._overlay()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give all files back; twice is as good as once."""
        self._closing.close()

    @property
    def bytes_read(self) -> int:
        """Bytes of guest data taken from the files so far, tables not counted."""
        return self._bytes_read

    def read(self, offset: int, length: int) -> bytes:
        """
        Bytes from guest `offset` on.

        Raises:
            ValueError: not within the disk.
            Qcow2FormatError: a file became shorter.
            OSError: a disk failed.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{offset}+{length} is not within a disk of {self.size} bytes")
        buffer = bytearray(length)
        view, count = memoryview(buffer), 0
        for source, start, stop, host in self._found(offset, offset + length):
            read_fully(source.path, source.file, view[start - offset : stop - offset], host)
            count += stop - start
        with self._lock:
            self._bytes_read += count
        return bytes(buffer)

    def scan(self, wanted: ExtentSet) -> Iterator[tuple[int, bytes]]:
        """
        What files hold of `wanted`: guest offset and up to 1 MiB, ascending, read ahead.

        Bytes that no file holds are left out and are zeroes; holes of a raw base come as zero
        bytes, so intersect with `allocated` first. Raises as `read` does.
        """
        starts = self._starts
        for guest, body in scan(self._pieces(HostRuns(starts, self._runs[:, 1], starts), wanted)):
            with self._lock:
                self._bytes_read += len(body)
            yield guest, body

    def _pieces(self, runs: HostRuns, wanted: ExtentSet) -> Iterator[Piece]:
        parts = runs.restricted(wanted)
        for start, length in zip(parts.guest.tolist(), parts.lengths.tolist(), strict=True):
            for source, low, high, host in self._found(start, start + length):
                yield Piece(source.path, source.file, low, high - low, host)

    def allocated(self) -> ExtentSet:
        """
        The bytes that some file holds as data and the guest sees; all others read as zeroes.

        Holes of a raw base are asked of its file system, so this may take a moment there.
        """
        table = [(source, visible) for source, visible in self._visible if len(visible)]
        return union_of(
            _data_of_file(source.file, visible) if self._is_raw(source) else visible
            for source, visible in table
        )

    def _is_raw(self, source: _Source) -> bool:
        return self._raw_base and source is self._sources[-1]

    def _overlay(self) -> None:
        """Give each byte to the topmost file that decides it."""
        open_bytes = ExtentSet.of(0, self.size)
        self._visible: list[tuple[_Source, ExtentSet]] = []
        rows = []
        for index, source in enumerate(self._sources):
            open_bytes = open_bytes.clipped(source.size)
            visible = source.runs.extents & open_bytes
            open_bytes = open_bytes - source.changed
            self._visible.append((source, visible))
            rows.append(_rows(source.runs.restricted(visible), index))
        table = np.concatenate(rows)
        self._runs: Offsets = table[np.argsort(table[:, 0], kind="stable")]
        self._starts = np.ascontiguousarray(self._runs[:, 0])

    def _found(self, start: int, end: int) -> Iterator[tuple[_Source, int, int, int]]:
        """Where the bytes between lie: file, guest start and end, offset in the file."""
        first = max(int(np.searchsorted(self._starts, start, side="right")) - 1, 0)
        behind = int(np.searchsorted(self._starts, end, side="left"))
        for guest, length, host, index in self._runs[first:behind].tolist():
            low, high = max(guest, start), min(guest + length, end)
            if low < high:
                yield self._sources[index], low, high, host + low - guest


def _open(opened: ExitStack, path: Path, base_format: BaseFormat, paths: Sequence[Path]) -> _Source:
    if base_format == "raw" and path == paths[-1]:
        return _open_raw(opened, path)
    reader = opened.enter_context(LayerReader(path))
    layer = reader.map
    return _Source(path, reader.fileno(), layer.header.size, layer.changed, layer.runs)


def _open_raw(opened: ExitStack, path: Path) -> _Source:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    opened.callback(os.close, file)
    size = os.lseek(file, 0, os.SEEK_END)  # of a block device too, whose stat says 0
    whole = ExtentSet.of(0, size)
    return _Source(path, file, size, whole, HostRuns(whole.starts, whole.lengths, whole.starts))


def _rows(runs: HostRuns, index: int) -> Offsets:
    return np.column_stack((runs.guest, runs.lengths, runs.host, np.full_like(runs.guest, index)))


def _data_of_file(file: int, wanted: ExtentSet) -> ExtentSet:
    """The part of `wanted` that is not in a hole of a raw file."""
    found, at, end = [], 0, wanted.end
    while at < end:
        try:
            start = os.lseek(file, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # ENXIO: nothing but a hole up to the end
                raise
            break
        at = os.lseek(file, start, os.SEEK_HOLE)
        found.append(Extent(start, at - start))
    return ExtentSet(found) & wanted
