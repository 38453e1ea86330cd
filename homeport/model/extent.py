"""
Extents: which bytes of a disk are meant, and the algebra of sets of them.

Change maps, the maps of qcow2 layers, digests and resyncs all speak of ranges of a disk. `Extent`
is one range; `ExtentSet` is a sorted set of disjoint ranges that do not even touch, so sets with
the same bytes are equal. A layer with scattered 4 KiB writes has some 300,000 of them, therefore a
set keeps one integer table and every operation on it is a sweep in numpy, not a loop.

Pure values: nothing here reads a disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

Offsets: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, order=True)
class Extent:
    """`length` bytes of a disk from byte `start` on."""

    start: int
    length: int

    def __post_init__(self) -> None:
        if self.start < 0 or self.length < 0:
            raise ValueError(f"an extent is not negative: start {self.start}, length {self.length}")

    @property
    def end(self) -> int:
        """The first byte behind the extent."""
        return self.start + self.length


class ExtentSet:
    """
    An immutable set of bytes of a disk, kept as sorted extents with a gap between any two.

    Built from extents in any order, overlapping or not; empty ones vanish. `len()` counts extents,
    `total` counts bytes.
    """

    __slots__ = ("_table",)
    _table: Offsets  # (n, 2): start and end of each extent; never written after construction

    def __init__(self, extents: Iterable[Extent] = ()) -> None:
        pairs = [(extent.start, extent.end) for extent in extents]
        self._table = _normal(np.array(pairs, dtype=np.int64).reshape(-1, 2))
        self._table.setflags(write=False)

    @classmethod
    def empty(cls) -> Self:
        """The set without a byte."""
        return cls()

    @classmethod
    def of(cls, start: int, length: int) -> Self:
        """The set of one extent."""
        return cls((Extent(start, length),))

    @classmethod
    def from_arrays(cls, starts: Offsets, lengths: Offsets) -> Self:
        """
        The set of the extents (`starts[i]`, `lengths[i]`), in any order.

        Raises:
            ValueError: a start or a length is negative.
        """
        starts, lengths = np.asarray(starts, np.int64), np.asarray(lengths, np.int64)
        if starts.size and (starts.min() < 0 or lengths.min() < 0):
            raise ValueError("an extent is not negative")
        return cls._of_table(_normal(np.stack((starts, starts + lengths), axis=1)))

    @classmethod
    def from_blocks(cls, numbers: Offsets, block: int) -> Self:
        """The bytes of the blocks with these numbers, block 0 being the first `block` bytes."""
        starts = np.asarray(numbers, np.int64) * _positive(block)
        return cls.from_arrays(starts, np.full_like(starts, block))

    @classmethod
    def _of_table(cls, table: Offsets) -> Self:
        """Wrap a table that is normal already."""
        made = cls.__new__(cls)
        table.setflags(write=False)
        made._table = table
        return made

    @property
    def starts(self) -> Offsets:
        """First bytes of the extents, ascending; not to be written."""
        return self._table[:, 0]

    @property
    def ends(self) -> Offsets:
        """First bytes behind the extents, ascending; not to be written."""
        return self._table[:, 1]

    @property
    def lengths(self) -> Offsets:
        """Lengths of the extents, in their order."""
        return self.ends - self.starts

    @property
    def total(self) -> int:
        """Number of bytes in the set."""
        return int(self.lengths.sum())

    @property
    def end(self) -> int:
        """The first byte behind the last extent; 0 for the empty set."""
        return int(self.ends[-1]) if len(self) else 0

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Extent]:
        for start, end in self._table.tolist():
            yield Extent(start, end - start)

    def __contains__(self, offset: int) -> bool:
        return bool(self.contains_each(np.array([offset], np.int64))[0])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExtentSet):
            return NotImplemented
        return np.array_equal(self._table, other._table)

    def __hash__(self) -> int:
        return hash(self._table.tobytes())

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{extent.start}+{extent.length}" for extent in list(self.within(0, self._peek()))
        )
        more = f", ... {len(self)} extents" if len(self) > _SHOWN else ""
        return f"ExtentSet({shown}{more})"

    def _peek(self) -> int:
        return int(self.ends[min(len(self), _SHOWN) - 1]) if len(self) else 0

    def contains_each(self, offsets: Offsets) -> NDArray[np.bool_]:
        """For each offset whether its byte is in the set."""
        at = np.searchsorted(self.starts, offsets, side="right") - 1
        inside = at >= 0
        inside[inside] = offsets[inside] < self.ends[at[inside]]
        return inside

    def covers(self, other: ExtentSet) -> bool:
        """Whether every byte of `other` is in this set."""
        return not other.difference(self)

    def union(self, *others: ExtentSet) -> ExtentSet:
        """The bytes that are in any of the sets."""
        return union_of((self, *others))

    def intersection(self, other: ExtentSet) -> ExtentSet:
        """The bytes that are in both sets."""
        return _sweep(self, other, wanted=_IN_BOTH)

    def difference(self, other: ExtentSet) -> ExtentSet:
        """The bytes of this set that are not in `other`."""
        return _sweep(self, other, wanted=_IN_FIRST) if len(other) else self

    __or__ = union
    __and__ = intersection
    __sub__ = difference

    def within(self, start: int, length: int) -> ExtentSet:
        """The bytes of this set in `length` bytes from `start` on; cheap in big sets."""
        if length <= 0:
            return ExtentSet.empty()
        end = start + length
        first = int(np.searchsorted(self.ends, start, side="right"))
        behind = int(np.searchsorted(self.starts, end, side="left"))
        cut = self._table[first:behind].clip(start, end)
        return ExtentSet._of_table(cut)

    def clipped(self, size: int) -> ExtentSet:
        """The bytes of this set that a disk of `size` bytes has."""
        return self.within(0, size)

    def complement(self, size: int) -> ExtentSet:
        """The bytes of a disk of `size` bytes that are not in this set."""
        return ExtentSet.of(0, size).difference(self)

    def aligned(self, block: int) -> ExtentSet:
        """
        Grown outward so that every extent starts and ends at a multiple of `block` bytes.

        The last one may then reach beyond the disk: `clipped` cuts it back.
        """
        _positive(block)
        starts = self.starts // block * block
        ends = -(-self.ends // block) * block
        return ExtentSet._of_table(_merged(np.stack((starts, ends), axis=1)))

    def blocks(self, block: int) -> Offsets:
        """The numbers of the blocks of `block` bytes that this set touches, ascending."""
        table = self.aligned(block)._table // block
        counts = table[:, 1] - table[:, 0]
        before = np.cumsum(counts) - counts
        return np.repeat(table[:, 0] - before, counts) + np.arange(counts.sum(), dtype=np.int64)

    def split(self, block: int) -> Iterator[Extent]:
        """The extents in order, cut at every multiple of `block` bytes."""
        return split_at_blocks(self, block)


_SHOWN = 8  # extents a repr names: enough to recognise a set in a failed test
_IN_FIRST, _IN_BOTH = 1, 3  # sums of the weights 1 (first set) and 2 (second set) in `_sweep`


def union_of(sets: Iterable[ExtentSet]) -> ExtentSet:
    """The bytes that are in any of the sets; one sort however many sets there are."""
    tables = [one._table for one in sets if len(one)]
    if not tables:
        return ExtentSet.empty()
    return ExtentSet._of_table(_normal(np.concatenate(tables)))


def split_at_blocks(extents: Iterable[Extent], block: int) -> Iterator[Extent]:
    """
    Cut extents so that none crosses a multiple of `block` bytes.

        extents  |-----------|     |--|
        blocks   |-------|-------|-------|
        result   |-------|---|     |--|

    Takes sorted, disjoint extents and keeps both properties.

    Raises:
        ValueError: `block` is not positive.
    """
    _positive(block)
    return _split(extents, block)


def _split(extents: Iterable[Extent], block: int) -> Iterator[Extent]:
    for extent in extents:
        start = extent.start
        while start < extent.end:
            end = min((start // block + 1) * block, extent.end)
            yield Extent(start, end - start)
            start = end


def _positive(block: int) -> int:
    if block <= 0:
        raise ValueError(f"a block has at least one byte, not {block}")
    return block


def _normal(table: Offsets) -> Offsets:
    """Sorted, without empty extents, neighbours and overlaps merged."""
    table = table[table[:, 1] > table[:, 0]]
    if len(table) > 1 and np.any(table[1:, 0] < table[:-1, 0]):
        table = table[np.argsort(table[:, 0], kind="stable")]
    return _merged(table)


def _merged(table: Offsets) -> Offsets:
    """
    Merge what overlaps or touches in a table sorted by start.

    The running maximum of the ends is where the bytes seen so far stop; an extent opens a new group
    only if it starts behind that.
    """
    if len(table) < 2:
        return table.copy()
    reach = np.maximum.accumulate(table[:, 1])
    opens = np.concatenate(([True], table[1:, 0] > reach[:-1]))
    closes = np.concatenate((opens[1:], [True]))
    return np.stack((table[opens, 0], reach[closes]), axis=1)


def _sweep(first: ExtentSet, second: ExtentSet, *, wanted: int) -> ExtentSet:
    """
    The stretches where the sets that are "open" add up to `wanted`.

        first  (1)   |-------|     |---|
        second (2)       |-----------|
        sum          1   3   2     3 2
    """
    points = np.concatenate((first.starts, first.ends, second.starts, second.ends))
    ones, twos = np.ones(len(first), np.int8), np.full(len(second), 2, np.int8)
    order = np.argsort(points, kind="stable")  # merges the four sorted runs
    level = np.cumsum(np.concatenate((ones, -ones, twos, -twos))[order], dtype=np.int8)
    points = points[order]
    hit = (level[:-1] == wanted) & (points[1:] > points[:-1])
    return ExtentSet._of_table(_merged(np.stack((points[:-1][hit], points[1:][hit]), axis=1)))
