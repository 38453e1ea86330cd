"""
The bytes of a delta object: prologue, frames, end; packed and unpacked, one at a time.

`delta` decides what goes into a frame and hands out what was in it; here is how it lies in the
stream, and the digest of the content, which both directions compute the same way. Nothing is
believed before its digest has been checked, and no length read from the stream makes more memory
than `FRAME_DATA` and `FRAME_ROWS` allow. Layout in `docs/formats.md`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import zstandard
from blake3 import blake3
from numpy.typing import NDArray

from homeport.errors import IntegrityError
from homeport.model.extent import ExtentSet, union_of
from homeport.units import KiB, MiB

Fact: TypeAlias = str | int | bool | None
Rows: TypeAlias = NDArray[np.int64]
"""One row an extent: start, length, 1 if it reads as zeroes (else 0); ascending, disjoint."""

MAGIC = b"HPDELTA\0"
VERSION = 1
BLOCK = 4 * KiB  # extents are whole blocks; only a disk's tail may be shorter
FRAME_DATA = MiB  # most guest data in a frame
FRAME_ROWS = 8192  # most extents in a frame: 128 KiB of rows
EXTENTS, END = 1, 2  # kinds of frames

_DIGEST = 32
_PROLOGUE = struct.Struct("<8sHxxI")  # magic, version, length of the JSON that follows
_LARGEST_JSON = 64 * KiB
_HEAD = struct.Struct("<B3xIIIQ")  # kind, rows, bytes of data, bytes stored, number of the frame
_END = struct.Struct("<QQQ32s")  # extents, bytes of data, bytes of zeroes, content digest
_ZERO_ROW = np.uint64(1 << 63)  # in a row's length
_LARGEST_PAYLOAD = FRAME_DATA + FRAME_ROWS * 16 + 64 * KiB  # incompressible: zstd adds little
_CONTENT = "homeport 2026 delta content, version 1"  # BLAKE3 context: no other digest is equal


class DeltaFormatError(IntegrityError):
    """A delta object is not what was shipped, or was never a delta."""

    code = "DeltaFormat"
    default_cause = "The object was cut or altered in the cache store, or on its way."
    default_remedy = (
        "Nothing of it was used. While the source still has the layer it is shipped again by "
        "itself; otherwise a resync brings the replica up to date."
    )

    def __init__(self, found: str) -> None:
        super().__init__(f"the delta cannot be used: {found}")
        self.found = found


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaHeader:
    """What a delta says about itself. `facts` are the caller's: positions, epoch, names."""

    disk: str
    size: int  # bytes the guest sees at the end of this delta
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One frame, checked and unpacked as far as its own digest goes."""

    kind: int
    rows: Rows
    body: bytes  # guest data of the rows in order; of the end frame its record


def encode_prologue(header: DeltaHeader) -> bytes:
    """Magic, version and header, with their digest; ValueError if the facts are too long."""
    described = {"disk": header.disk, "size": header.size, "facts": dict(header.facts)}
    body = json.dumps(described, sort_keys=True, separators=(",", ":")).encode()
    if len(body) > _LARGEST_JSON:
        raise ValueError(f"facts of {len(body)} bytes; at most {_LARGEST_JSON} fit")
    start = _PROLOGUE.pack(MAGIC, VERSION, len(body)) + body
    return start + blake3(start).digest()


def encode_frame(
    rows: Rows, data: bytes, *, number: int, packer: zstandard.ZstdCompressor
) -> bytes:
    """One frame of extents with the data of those that have some."""
    table = np.empty((len(rows), 2), "<u8")
    table[:, 0] = rows[:, 0]
    table[:, 1] = rows[:, 1].astype(np.uint64) | rows[:, 2].astype(np.uint64) * _ZERO_ROW
    payload = packer.compress(table.tobytes() + data)
    return _sealed(EXTENTS, len(rows), len(data), payload, number)


def encode_end(content: Content, *, number: int) -> bytes:
    """The end frame; the content is closed by it."""
    digest = content.digest()  # first: it completes the counts
    record = _END.pack(content.extents, content.data_bytes, content.zero_bytes, digest)
    return _sealed(END, 0, 0, record, number)


def _sealed(kind: int, rows: int, data: int, payload: bytes, number: int) -> bytes:
    head = _HEAD.pack(kind, rows, data, len(payload), number)
    return head + _seal(head, payload) + payload


def _seal(head: bytes, payload: bytes) -> bytes:
    return blake3(head).update(payload).digest()


class Content:
    """The running digest and counts of what a delta holds, however it is cut into frames."""

    def __init__(self, size: int) -> None:
        self.data_bytes = 0
        self.zero_bytes = 0
        self.extents = 0  # after joining neighbours of one kind; complete after `digest`
        self.position = 0  # first byte that may still come
        self.size = size
        self._data = blake3()
        self._rows = blake3()
        self._open: Rows = np.empty((0, 3), np.int64)  # the last row: the next may continue it
        self._changed: list[ExtentSet] = []

    def add(self, rows: Rows, data: bytes) -> None:
        """Take in the rows of one frame and their data."""
        zero = int(rows[:, 1] @ rows[:, 2])
        self.zero_bytes += zero
        self.data_bytes += len(data)
        self.position = int(rows[-1, 0] + rows[-1, 1])
        self._data.update(data)
        self._changed.append(ExtentSet.from_arrays(rows[:, 0], rows[:, 1]))
        joined = joined_rows(np.concatenate((self._open, rows)))
        self._take(joined[:-1])
        self._open = joined[-1:]

    def _take(self, rows: Rows) -> None:
        self.extents += len(rows)
        self._rows.update(rows.astype("<i8").tobytes())

    def digest(self) -> bytes:
        """The content's digest: of size, extents and data, in that order. Ends the content."""
        self._take(self._open)
        self._open = self._open[:0]
        whole = blake3(struct.pack("<Q", self.size), derive_key_context=_CONTENT)
        return whole.update(self._rows.digest()).update(self._data.digest()).digest()

    def changed(self) -> ExtentSet:
        """All extents so far: the change map."""
        self._changed = [union_of(self._changed)]
        return self._changed[0]


class FrameReader:
    """Takes chunks of any length apart into prologue and frames, checking each digest."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = bytearray()
        self._unpacker = zstandard.ZstdDecompressor()
        self._number = 0
        self.bytes_taken = 0

    def prologue(self) -> DeltaHeader:
        """The header, which comes first; DeltaFormatError if it is not sound."""
        start = self._take(_PROLOGUE.size)
        magic, version, length = _PROLOGUE.unpack(start)
        if magic != MAGIC or version != VERSION:
            raise DeltaFormatError(f"not a delta of version {VERSION}")
        if length > _LARGEST_JSON:
            raise DeltaFormatError(f"a header of {length} bytes")
        body = self._take(length)
        if self._take(_DIGEST) != blake3(start + body).digest():
            raise DeltaFormatError("the digest of its header does not match")
        return _header_of(body)

    def frame(self) -> Frame:
        """The next frame; DeltaFormatError if it is cut, altered, or not the next."""
        head = self._take(_HEAD.size)
        kind, count, data, length, number = _HEAD.unpack(head)
        if count > FRAME_ROWS or data > FRAME_DATA or length > _LARGEST_PAYLOAD:
            raise DeltaFormatError(f"frame {self._number} is impossibly large")
        seal, payload = self._take(_DIGEST), self._take(length)
        if seal != _seal(head, payload):
            raise DeltaFormatError(f"the digest of frame {self._number} does not match")
        if number != self._number or kind not in (EXTENTS, END):
            raise DeltaFormatError(f"frame {number} of kind {kind} in place of {self._number}")
        self._number += 1
        if kind == END:
            return Frame(kind=END, rows=np.empty((0, 3), np.int64), body=payload)
        return self._unpacked(payload, count, data)

    def end(self) -> None:
        """DeltaFormatError if anything is left."""
        if self._buffer or any(self._chunks):
            raise DeltaFormatError("something follows its end")

    def _take(self, length: int) -> bytes:
        while len(self._buffer) < length:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise DeltaFormatError("it is cut off")
            self._buffer += chunk
        with memoryview(self._buffer) as view:  # a slice of the buffer itself would copy twice
            taken = bytes(view[:length])
        del self._buffer[:length]  # cheap: a bytearray only moves its start
        self.bytes_taken += length
        return taken

    def _unpacked(self, payload: bytes, count: int, data: int) -> Frame:
        expected = count * 16 + data
        try:
            if zstandard.frame_content_size(payload) != expected:
                raise DeltaFormatError("a frame does not hold what its head says")
            raw = self._unpacker.decompress(payload, max_output_size=expected)
        except zstandard.ZstdError as error:
            raise DeltaFormatError(f"a frame cannot be unpacked: {error}") from error
        table = np.frombuffer(raw, "<u8", count * 2).reshape(-1, 2)
        zero = table[:, 1] >= _ZERO_ROW
        lengths = table[:, 1] & ~_ZERO_ROW
        rows = np.column_stack((table[:, 0].astype(np.int64), lengths.astype(np.int64), zero))
        return Frame(kind=EXTENTS, rows=rows.astype(np.int64), body=raw[count * 16 :])


def check_rows(rows: Rows, data: int, content: Content) -> None:
    """DeltaFormatError unless the rows go on where the content stands and fit `data` bytes."""
    if len(rows) == 0 or rows[:, 0].min() < 0 or rows[:, 1].min() < 1:
        raise DeltaFormatError("a frame without extents, or an extent without bytes")
    if rows[:, :2].max() > content.size:
        raise DeltaFormatError(f"extents reach beyond the disk's {content.size} bytes")
    starts, ends = rows[:, 0], rows[:, 0] + rows[:, 1]
    if starts[0] < content.position or np.any(starts[1:] < ends[:-1]):
        raise DeltaFormatError("extents overlap or are out of order")
    if ends.max() > content.size:
        raise DeltaFormatError(f"extents reach beyond the disk's {content.size} bytes")
    if np.any(starts % BLOCK) or np.any((ends % BLOCK != 0) & (ends != content.size)):
        raise DeltaFormatError(f"extents are not whole blocks of {BLOCK} bytes")
    if int(rows[:, 1] @ (1 - rows[:, 2])) != data:
        raise DeltaFormatError("a frame's extents and its data do not fit")


def check_end(body: bytes, content: Content) -> bytes:
    """The content's digest, after comparing the end frame's record with what was found."""
    if len(body) != _END.size:
        raise DeltaFormatError("its end is not of this version")
    extents, data, zero, digest = _END.unpack(body)
    found = content.digest()
    if (extents, data, zero) != (content.extents, content.data_bytes, content.zero_bytes):
        raise DeltaFormatError("it does not hold as much as its end says")
    if digest != found:
        raise DeltaFormatError("the digest of its content does not match")
    return found


def joined_rows(rows: Rows) -> Rows:
    """Neighbours of one kind joined; rows are ascending and disjoint."""
    if len(rows) < 2:
        return rows
    touches = rows[1:, 0] == rows[:-1, 0] + rows[:-1, 1]
    first = np.flatnonzero(np.concatenate(([True], ~(touches & (rows[1:, 2] == rows[:-1, 2])))))
    return np.column_stack((rows[first, 0], np.add.reduceat(rows[:, 1], first), rows[first, 2]))


def _header_of(body: bytes) -> DeltaHeader:
    try:
        described = json.loads(body)
        disk, size, facts = described["disk"], described["size"], described["facts"]
    except (ValueError, KeyError, TypeError) as error:
        raise DeltaFormatError(f"its header cannot be understood: {error}") from error
    if not isinstance(disk, str) or not isinstance(facts, dict):
        raise DeltaFormatError("its header has fields of another kind")
    if type(size) is not int or size < 0:
        raise DeltaFormatError(f"a disk of {size} bytes")
    return DeltaHeader(disk=disk, size=size, facts=facts)
