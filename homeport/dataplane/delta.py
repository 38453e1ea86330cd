"""
The delta object: one disk's way from one position to the next, as it waits in the cache store.

Shipping encodes a closed layer with `encode_delta` while reading it; landing feeds the downloaded
chunks to `decode_delta` and writes what comes out into a new layer. Both sides keep one frame in
memory, whatever the disk's size; only the change map grows, with the number of extents.

    prologue (what this is) | frame | frame | ... | end frame (counts, digest of the content)

A frame carries up to 1 MiB of guest data with the list of extents it belongs to, so that scattered
4 KiB blocks share one compression; zero extents are in the same list and cost no data. Blocks of
zeroes found in data become zero extents. Every frame has a digest over its stored bytes, checked
before anything is unpacked. The digest at the end is over the content alone: the disk's size,
which bytes are data, which are zeroes, and the data; neither compression nor the way the items
were cut, nor the header's facts, have a part in it.

Bytes on the wire are the business of `delta_frames`; `docs/formats.md` has the layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import zstandard
from numpy.typing import NDArray

from homeport.dataplane.delta_frames import (
    BLOCK,
    END,
    FRAME_DATA,
    FRAME_ROWS,
    Content,
    DeltaFormatError,
    DeltaHeader,
    Fact,
    FrameReader,
    Rows,
    check_end,
    check_rows,
    encode_end,
    encode_frame,
    encode_prologue,
    joined_rows,
)
from homeport.model.extent import ExtentSet

__all__ = [
    "DEFAULT_LEVEL",
    "DataItem",
    "DeltaEncoding",
    "DeltaFormatError",
    "DeltaHeader",
    "DeltaResult",
    "DeltaStream",
    "Fact",
    "Item",
    "ZeroItem",
    "decode_delta",
    "encode_delta",
]

DEFAULT_LEVEL = 1  # of zstd: 700 MiB/s a core on half-random blocks, where level 3 does 100
_BATCH_ITEMS = FRAME_ROWS // 2  # items looked at together; zero blocks in them may add rows


@dataclass(frozen=True, slots=True)
class DataItem:
    """`data` at guest byte `offset`: whole 4 KiB blocks, save at the disk's tail."""

    offset: int
    data: bytes

    @property
    def length(self) -> int:
        """Bytes of the extent."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class ZeroItem:
    """`length` bytes from guest byte `offset` on that read as zeroes from now on."""

    offset: int
    length: int


Item: TypeAlias = DataItem | ZeroItem


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaResult:
    """What a whole delta turned out to be; equal on both sides."""

    digest: bytes  # of the content, 32 bytes
    data_bytes: int  # guest data carried, before compression
    zero_bytes: int
    stored_bytes: int  # length of the object
    changed: ExtentSet  # the change map: data and zeroes


class DeltaEncoding:
    """
    The chunks of one delta, made while they are taken; to be iterated once.

    Iterating raises ValueError where items are not ascending, overlap, reach beyond the disk, or
    are not whole blocks.
    """

    def __init__(self, header: DeltaHeader, items: Iterable[Item], *, level: int) -> None:
        self.header = header
        self._items = items
        self._packer = zstandard.ZstdCompressor(level=level, write_content_size=True)
        self._result: DeltaResult | None = None

    def __iter__(self) -> Iterator[bytes]:
        content, stored = Content(self.header.size), 0
        for chunk in self._chunks(content):
            stored += len(chunk)
            yield chunk
        self._result = _result(content, content.digest(), stored)

    def _chunks(self, content: Content) -> Iterator[bytes]:
        yield encode_prologue(self.header)
        number = 0
        for rows, data in _frames(self._items, self.header.size):
            content.add(rows, data)
            yield encode_frame(rows, data, number=number, packer=self._packer)
            number += 1
        yield encode_end(content, number=number)

    @property
    def result(self) -> DeltaResult:
        """What was encoded; RuntimeError before the last chunk has been taken."""
        return _finished(self._result)


class DeltaStream:
    """
    The items of one delta, in order, checked as they come; to be iterated once.

    What came out is sure only when the iteration has ended without an error: land it under a
    partial name until then.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._reader = FrameReader(chunks)
        self.header = self._reader.prologue()
        self._result: DeltaResult | None = None

    def __iter__(self) -> Iterator[Item]:
        content = Content(self.header.size)
        while (frame := self._reader.frame()).kind != END:
            check_rows(frame.rows, len(frame.body), content)
            content.add(frame.rows, frame.body)
            yield from _items_of(frame.rows, frame.body)
        digest = check_end(frame.body, content)
        self._reader.end()
        self._result = _result(content, digest, self._reader.bytes_taken)

    @property
    def result(self) -> DeltaResult:
        """What was decoded; RuntimeError before the last item has been taken."""
        return _finished(self._result)


def encode_delta(
    header: DeltaHeader, items: Iterable[Item], *, level: int = DEFAULT_LEVEL
) -> DeltaEncoding:
    """
    The object of `items`, ascending and disjoint, in chunks of up to about 1 MiB.

    Iterate it to the end, then ask for `result`.
    """
    return DeltaEncoding(header, items, level=level)


def decode_delta(chunks: Iterable[bytes]) -> DeltaStream:
    """
    The delta in `chunks`, which may be cut anywhere; the header is read at once.

    Raises, here or while iterating:
        DeltaFormatError: a bit differs, something is missing, doubled, left over or out of order.
    """
    return DeltaStream(chunks)


def _result(content: Content, digest: bytes, stored: int) -> DeltaResult:
    return DeltaResult(
        digest=digest,
        data_bytes=content.data_bytes,
        zero_bytes=content.zero_bytes,
        stored_bytes=stored,
        changed=content.changed(),
    )


def _finished(result: DeltaResult | None) -> DeltaResult:
    if result is None:
        raise RuntimeError("the delta has no result before its end")
    return result


def _items_of(rows: Rows, data: bytes) -> Iterator[Item]:
    at = 0
    for start, length, zero in rows.tolist():
        if zero:
            yield ZeroItem(start, length)
        else:
            yield DataItem(start, data[at : at + length])
            at += length


def _frames(items: Iterable[Item], size: int) -> Iterator[tuple[Rows, bytes]]:
    """
    Rows and data of each frame.

    Items are looked at in batches; as zero blocks drop out of them, several batches may fit one
    frame: a long run of zeroes stays one row.
    """
    rows: Rows = np.empty((0, 3), np.int64)
    parts: list[bytes] = []
    held = 0
    for batch in _batches(items, size):
        more, data = _without_zero_blocks(batch)
        if held + len(data) > FRAME_DATA or len(rows) + len(more) > FRAME_ROWS:
            yield rows, b"".join(parts)
            rows, parts, held = rows[:0], [], 0
        rows = joined_rows(np.concatenate((rows, more)))
        parts.append(data)
        held += len(data)
    if len(rows):
        yield rows, b"".join(parts)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of items with at most a frame's data together; larger items are cut."""
    batch: list[Item] = []
    held = 0
    for item in _cut(_checked(items, size)):
        length = item.length if isinstance(item, DataItem) else 0
        if batch and (held + length > FRAME_DATA or len(batch) >= _BATCH_ITEMS):
            yield batch
            batch, held = [], 0
        batch.append(item)
        held += length
    if batch:
        yield batch


def _checked(items: Iterable[Item], size: int) -> Iterator[Item]:
    """The items with bytes in them; ValueError for one that cannot follow those before."""
    position = 0
    for item in items:
        end = item.offset + item.length
        if item.offset < position or item.length < 0 or end > size:
            raise ValueError(f"{item.offset}+{item.length} is not in {position} to {size}")
        if item.offset % BLOCK or (end % BLOCK and end != size):
            raise ValueError(f"{item.offset}+{item.length} is not whole blocks of {BLOCK} bytes")
        position = end
        if item.length:
            yield item


def _cut(items: Iterable[Item]) -> Iterator[Item]:
    for item in items:
        if isinstance(item, ZeroItem) or item.length <= FRAME_DATA:
            yield item
            continue
        for start in range(0, item.length, FRAME_DATA):
            yield DataItem(item.offset + start, item.data[start : start + FRAME_DATA])


def _without_zero_blocks(batch: Sequence[Item]) -> tuple[Rows, bytes]:
    """The batch's rows, blocks of zeroes among the data told apart, and the data that is left."""
    pieces = [item for item in batch if isinstance(item, DataItem)]
    joined = b"".join(item.data for item in pieces)
    tail = -len(joined) % BLOCK  # only the last piece of a disk is not whole blocks
    blocks = np.frombuffer(joined + bytes(tail), np.uint64).reshape(-1, BLOCK // 8)
    empty = np.bitwise_or.reduce(blocks, axis=1) == 0
    zeroes = [(item.offset, item.length, 1) for item in batch if isinstance(item, ZeroItem)]
    rows = np.concatenate((_block_rows(pieces, empty), np.array(zeroes, np.int64).reshape(-1, 3)))
    rows = joined_rows(rows[np.argsort(rows[:, 0], kind="stable")])
    if not empty.any():
        return rows, joined
    left = blocks[~empty].tobytes()
    return rows, left[:-tail] if tail and not empty[-1] else left


def _block_rows(pieces: Sequence[DataItem], empty: NDArray[np.bool_]) -> Rows:
    """One row a block, the last one as short as its data."""
    starts = np.array([item.offset for item in pieces], np.int64)
    ends = starts + np.array([item.length for item in pieces], np.int64)
    counts = -(-(ends - starts) // BLOCK)
    before = np.cumsum(counts) - counts
    offsets = np.repeat(starts - before * BLOCK, counts) + np.arange(counts.sum()) * BLOCK
    lengths = np.minimum(np.repeat(ends, counts) - offsets, BLOCK)
    return np.column_stack((offsets, lengths, empty)).astype(np.int64)
