"""
Writing one qcow2 layer as a stream: extents in ascending order, memory that does not grow.

Landing, merging and resync make their layers with it. The layer has 128 KiB clusters with extended
L2, so what was not written stays a hole at 4 KiB and reads through to the layer below.

    header | L1 | data clusters of one GiB, then their L2 table | ... | refcounts

The table of the GiB being written is kept in memory until the next one begins; refcounts, all of
them 1, come last because only then the number of clusters is known. The header is written after
everything else is synced: a file without it is no qcow2 at all, so nothing half done can be opened.
The caller writes under a partial name and does the rename.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from homeport.dataplane.qcow2_header import (
    BACKING_FORMAT,
    EXTENDED_L2,
    FIELDS,
    FIELDS_V3,
    MAGIC,
    Extension,
    check_backing,
)
from homeport.units import GiB, KiB

CLUSTER_BITS = 17
CLUSTER = 1 << CLUSTER_BITS
SUBCLUSTER = 4 * KiB  # a 32nd of the cluster: the granularity of change maps

_TABLE_COVERS = GiB  # 8,192 entries of 16 bytes fill a table, each for one cluster
_ENTRIES = _TABLE_COVERS // CLUSTER
_PER_CLUSTER = CLUSTER // SUBCLUSTER
_USED = 1 << 63  # "refcount is exactly one": QEMU may write in place
_REFCOUNTS = CLUSTER // 2  # 16 bit each, in one refcount block
_HEADER_LENGTH = 112
_SECTOR = 512


class LayerWriter:
    """
    One new layer, written in ascending order and complete after `finish`.

    Leaving the context without `finish` removes the file: nothing in it could be used.
    """

    def __init__(
        self, path: Path, *, size: int, backing: str | None, backing_format: str | None
    ) -> None:
        """
        Start the file, replacing what an earlier attempt left under this name.

        Raises:
            ValueError: an impossible size or backing name.
            OSError: the file cannot be made.
        """
        if size <= 0 or size % _SECTOR:
            raise ValueError(f"a disk is a positive multiple of {_SECTOR} bytes, not {size}")
        self.path, self.size = path, size
        self._head = _backing_head(check_backing(backing, backing_format), backing_format)
        self._l1 = np.zeros(-(-size // _TABLE_COVERS), np.uint64)
        self._clusters = 1 + _clusters_of(self._l1.nbytes)
        self._position = 0  # guest bytes below it are decided
        self._table = _Table(0)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._finished = False

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
        """Give the file back, removing it unless finished; twice is as good as once."""
        handle, self._file = self._file, -1
        if handle >= 0:
            os.close(handle)
            if not self._finished:
                self.path.unlink(missing_ok=True)

    def data(self, offset: int, body: bytes | bytearray | memoryview) -> None:
        """
        Put `body` at guest `offset`.

        Raises:
            ValueError: before what was written last, beyond the disk, or not in whole 4 KiB
                (only the disk's tail may be shorter).
            OSError: the disk is full or failed; the layer is to be thrown away.
        """
        view = memoryview(body).cast("B")
        self._advance(offset, len(view))
        for start, length in _pieces(offset, len(view), _TABLE_COVERS):
            self._enter_table(start)
            self._put(start, view[start - offset : start - offset + length])

    def zero(self, offset: int, length: int) -> None:
        """Make `length` bytes at guest `offset` read as zeroes; raises as `data` does."""
        self._advance(offset, length)
        for start, part in _pieces(offset, length, _TABLE_COVERS):
            self._enter_table(start)
            self._table.mark_zero(start, part)

    def finish(self) -> None:
        """
        Write tables, refcounts and, after a sync, the header; then sync again.

        On return the file is whole on disk; its name in the folder is the caller's to sync.
        """
        self._flush_table()
        table_at, table_clusters = self._write_refcounts()
        self._write(self._l1.astype(">u8").tobytes(), CLUSTER)
        os.ftruncate(self._file, self._clusters * CLUSTER)
        os.fsync(self._file)
        self._write(self._header(table_at, table_clusters), 0)
        os.fsync(self._file)
        self._finished = True
        self.close()

    def _advance(self, offset: int, length: int) -> None:
        end = offset + length
        if offset < self._position or length < 0 or end > self.size:
            raise ValueError(f"{offset}+{length} is not between {self._position} and {self.size}")
        if offset % SUBCLUSTER or (length % SUBCLUSTER and end != self.size):
            raise ValueError(f"{offset}+{length} is not in whole {SUBCLUSTER} bytes")
        self._position = end

    def _enter_table(self, offset: int) -> None:
        if offset // _TABLE_COVERS != self._table.index:
            self._flush_table()
            self._table = _Table(offset // _TABLE_COVERS)

    def _put(self, offset: int, view: memoryview) -> None:
        """
        Write one piece that lies within one table.

        Clusters are taken in ascending order, so those of the piece follow each other in the file
        and one write does for all.
        """
        host, taken = self._table.mark_data(offset, len(view), self._clusters * CLUSTER)
        self._clusters += taken
        self._write(view, host)

    def _flush_table(self) -> None:
        if self._table.used:
            self._l1[self._table.index] = _USED | self._clusters * CLUSTER
            self._write(self._table.encoded(), self._clusters * CLUSTER)
            self._clusters += 1

    def _write_refcounts(self) -> tuple[int, int]:
        """Append refcount table and blocks, which count themselves; where the table is."""
        blocks, tables = _refcount_clusters(self._clusters)
        table_at = self._clusters * CLUSTER
        self._clusters += tables + blocks
        first = table_at + tables * CLUSTER
        pointers = first + np.arange(blocks, dtype=np.int64) * CLUSTER
        self._write(pointers.astype(">u8").tobytes(), table_at)
        for block in range(blocks):
            counted = min(self._clusters - block * _REFCOUNTS, _REFCOUNTS)
            self._write(b"\0\1" * counted, first + block * CLUSTER)
        return table_at, tables

    def _header(self, table_at: int, table_clusters: int) -> bytes:
        name, extensions = self._head
        name_at = _HEADER_LENGTH + len(extensions) if name else 0
        fields = FIELDS.pack(
            MAGIC, 3, name_at, len(name), CLUSTER_BITS, self.size, 0,
            len(self._l1), CLUSTER, table_at, table_clusters, 0, 0,
        )  # fmt: skip
        features = FIELDS_V3.pack(EXTENDED_L2, 0, 0, 4, _HEADER_LENGTH)
        return (fields + features).ljust(_HEADER_LENGTH, b"\0") + extensions + name

    def _write(self, body: bytes | memoryview, offset: int) -> None:
        view = memoryview(body)
        while view:
            done = os.pwrite(self._file, view, offset)
            view, offset = view[done:], offset + done


def create_overlay(
    path: Path, *, size: int, backing: str | None, backing_format: str | None
) -> None:
    """
    Make an empty overlay of `size` bytes on `backing`, synced; errors as of `LayerWriter`.

    What `qemu-img create -o cluster_size=128k,extended_l2=on` makes, in some 12 KiB on disk and
    without opening the backing file: the name is taken as it is.
    """
    with LayerWriter(path, size=size, backing=backing, backing_format=backing_format) as writer:
        writer.finish()


class _Table:
    """The L2 table of one GiB; offsets are those of the guest."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.used = False
        self._hosts = [0] * _ENTRIES
        self._bits = [0] * _ENTRIES  # low half: data, high half: zeroes, a bit a subcluster

    def mark_data(self, offset: int, length: int, next_host: int) -> tuple[int, int]:
        """Enter data; where in the file it goes, and how many clusters from `next_host` it took."""
        start = offset % _TABLE_COVERS
        first, behind = start // CLUSTER, -(-(start + length) // CLUSTER)
        known = self._hosts[first]
        host = known ^ _USED if known else next_host
        fresh = range(first + 1 if known else first, behind)
        self._hosts[fresh.start : behind] = [
            _USED | next_host + at * CLUSTER for at in range(len(fresh))
        ]
        self._mark(start, length, shift=0)
        return host + start % CLUSTER, len(fresh)

    def mark_zero(self, offset: int, length: int) -> None:
        """Enter zeroes, which take no room."""
        self._mark(offset % _TABLE_COVERS, length, shift=_PER_CLUSTER)

    def _mark(self, start: int, length: int, *, shift: int) -> None:
        self.used = True
        first, behind = start // SUBCLUSTER, -(-(start + length) // SUBCLUSTER)
        low, high = -(-first // _PER_CLUSTER), behind // _PER_CLUSTER
        if low > high:  # within one cluster
            self._bits[high] |= _mask(first % _PER_CLUSTER, behind % _PER_CLUSTER) << shift
            return
        self._bits[low:high] = [_mask(0, _PER_CLUSTER) << shift] * (high - low)
        if first % _PER_CLUSTER:
            self._bits[low - 1] |= _mask(first % _PER_CLUSTER, _PER_CLUSTER) << shift
        if behind % _PER_CLUSTER:
            self._bits[high] |= _mask(0, behind % _PER_CLUSTER) << shift

    def encoded(self) -> bytes:
        """The table as it lies in the file."""
        pairs = np.array((self._hosts, self._bits), np.uint64).T
        return pairs.astype(">u8").tobytes()


def _mask(first: int, behind: int) -> int:
    """Bits `first` to `behind` - 1."""
    return (1 << behind) - (1 << first)


def _pieces(offset: int, length: int, step: int) -> Iterator[tuple[int, int]]:
    """Start and length of the parts between multiples of `step`."""
    end = offset + length
    while offset < end:
        stop = min((offset // step + 1) * step, end)
        yield offset, stop - offset
        offset = stop


def _clusters_of(length: int) -> int:
    return -(-length // CLUSTER)


def _refcount_clusters(used: int) -> tuple[int, int]:
    """Refcount blocks and clusters of their table for a file of `used` clusters beside them."""
    blocks, tables = 0, 0
    while True:
        needed = -(-(used + blocks + tables) // _REFCOUNTS)
        if needed == blocks:
            return blocks, tables
        blocks, tables = needed, _clusters_of(needed * 8)


def _backing_head(name: bytes, backing_format: str | None) -> tuple[bytes, bytes]:
    """The backing name and the header extensions."""
    end = Extension(0, b"").encoded()
    if backing_format is None:
        return name, end
    return name, Extension(BACKING_FORMAT, backing_format.encode("ascii")).encoded() + end
