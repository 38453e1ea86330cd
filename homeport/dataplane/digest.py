"""
Digests of a disk's blocks: what a differential resync exchanges instead of the disk.

Both agents digest their disks at the same time, first in blocks of 1 MiB, then in blocks of 4 KiB
within those that differ; only digests cross between the sites. A level takes 16 bytes a block:
16 MiB for a TiB at level one. Holes are not read: their digest is known.

The caller gives `read(offset, length)`, of a chain, a raw file or an NBD connection, and which
bytes are allocated; comparing and shipping what differs is the business of `resync`.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import zstandard
from blake3 import blake3
from numpy.typing import NDArray

from homeport.errors import IntegrityError
from homeport.model.changemap import ChangeMapError, decode_map, encode_map
from homeport.model.extent import Extent, ExtentSet
from homeport.units import KiB, MiB

COARSE = MiB  # level one
FINE = 4 * KiB  # level two, the granularity of change maps
DIGEST_LENGTH = 16  # of BLAKE3's 32: 64 bits against a chance of equal digests are plenty

Read: TypeAlias = Callable[[int, int], bytes]
"""`read(offset, length)` gives so many bytes; called by several threads if `threads` is above 1."""
Table: TypeAlias = NDArray[np.uint8]

THREADS = 2
"""
For large blocks. With small ones a thread lets go of Python's lock and takes it back for every few
microseconds of digesting: with two disks digested at once in a process, two threads for each took
half as long again as one for each, and with one disk no less than one.
"""

_MAGIC, _VERSION = b"HPDIGS\0", 1
_HEAD = struct.Struct("<7sBQQQQ")  # magic, version, size, block, length of map, length of table
_SEAL = 32
_WINDOW = 8 * MiB  # bytes of the disk one task digests: few tasks, little memory
_LEVEL = 1  # of zstd: digests do not compress, only the repeated one of holes does


class DigestFormatError(IntegrityError):
    """Bytes that should be block digests are not, or not any more."""

    code = "DigestFormat"
    default_cause = "The digests were cut or altered where they were stored, or on their way."
    default_remedy = "Nothing was compared. Digest the disk again; the resync does so by itself."

    def __init__(self, found: str) -> None:
        super().__init__(f"the block digests cannot be used: {found}")
        self.found = found


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BlockDigests:
    """
    Digests of all blocks of a disk of `size` bytes that `within` touches.

    `table[i]` are the 16 bytes for the i-th such block, ascending. The disk's last block may be
    shorter than `block`; its digest is over the bytes it has.
    """

    size: int
    block: int
    within: ExtentSet  # whole blocks, clipped to the disk
    table: Table


def digest_blocks(
    read: Read,
    *,
    size: int,
    block: int,
    within: ExtentSet | None = None,
    allocated: ExtentSet | None = None,
    threads: int | None = None,
) -> BlockDigests:
    """
    Digest the blocks that `within` touches; without it, all of the disk.

    What is not in `allocated` is taken to be zeroes and not read; without it, everything is read.
    The digest of a hole and of as many zero bytes are equal. Without `threads`, as many as are
    quickest: several for large blocks, and one for small ones.

    Raises:
        ValueError: `block` or `threads` is not positive.
        Exception: whatever `read` raises first; the other threads end before it is passed on.
    """
    if threads is None:
        threads = THREADS if block >= COARSE else 1
    whole = ExtentSet.of(0, size)
    chosen = (whole if within is None else within.aligned(block)).clipped(size)
    table = _zero_table(chosen, size, block)
    data = chosen if allocated is None else allocated.aligned(block).clipped(size) & chosen
    window = max(block, _WINDOW // block * block)
    numbers = chosen.blocks(block)
    pieces = data.split(window)
    for start, found in _in_threads(lambda piece: _digest(read, piece, block), pieces, threads):
        at = int(np.searchsorted(numbers, start // block))
        table[at : at + len(found)] = found
    return BlockDigests(size=size, block=block, within=chosen, table=table)


def differing(ours: BlockDigests, theirs: BlockDigests) -> ExtentSet:
    """
    The blocks, clipped to the disk, whose digests are not equal.

    Raises:
        ValueError: the two are not of the same blocks, so nothing can be concluded.
    """
    if (ours.size, ours.block, ours.within) != (theirs.size, theirs.block, theirs.within):
        raise ValueError("digests of different disks, blocks or extents cannot be compared")
    numbers = ours.within.blocks(ours.block)[(ours.table != theirs.table).any(axis=1)]
    return ExtentSet.from_blocks(numbers, ours.block).clipped(ours.size)


def encode_digests(digests: BlockDigests) -> bytes:
    """The digests as bytes that check themselves."""
    covered = encode_map(digests.within)
    table = zstandard.ZstdCompressor(level=_LEVEL).compress(digests.table.tobytes())
    head = _HEAD.pack(_MAGIC, _VERSION, digests.size, digests.block, len(covered), len(table))
    body = b"".join((head, covered, table))
    return body + blake3(body).digest()


def decode_digests(encoded: bytes) -> BlockDigests:
    """
    What `encode_digests` was given.

    Raises:
        DigestFormatError: any bit differs, something is missing or left over, or the version is
            new.
    """
    if len(encoded) < _HEAD.size + _SEAL:
        raise DigestFormatError(f"{len(encoded)} bytes are too few")
    magic, version, size, block, map_length, table_length = _HEAD.unpack_from(encoded)
    if magic != _MAGIC or version != _VERSION:
        raise DigestFormatError(f"not block digests of version {_VERSION}")
    if len(encoded) != _HEAD.size + map_length + table_length + _SEAL:
        raise DigestFormatError("their length is not the one they were written with")
    view = memoryview(encoded)
    if blake3(view[:-_SEAL]).digest() != encoded[-_SEAL:]:
        raise DigestFormatError("their own digest does not match")
    table_at = _HEAD.size + map_length
    within = _within(bytes(view[_HEAD.size : table_at]))
    if block == 0 or within != within.aligned(block).clipped(size):
        raise DigestFormatError("they are not of whole blocks")
    table = _unpacked(view[table_at:-_SEAL], len(within.blocks(block)))
    return BlockDigests(size=size, block=block, within=within, table=table)


def _zero_table(chosen: ExtentSet, size: int, block: int) -> Table:
    """A digest of zeroes for each block; the disk's last block may have one of its own."""
    count = len(chosen.blocks(block))
    table = np.empty((count, DIGEST_LENGTH), np.uint8)
    table[:] = _digest_of(bytes(block))
    if chosen.end == size and size % block:
        table[-1] = _digest_of(bytes(size % block))
    return table


def _digest_of(body: bytes | memoryview) -> Table:
    return np.frombuffer(blake3(body).digest(DIGEST_LENGTH), np.uint8)


def _digest(read: Read, piece: Extent, block: int) -> tuple[int, Table]:
    """
    Digests of the blocks of one piece, read a coarse block at a time.

    A piece starts at a block and ends at one or at the disk's end.
    """
    step = max(block, COARSE // block * block)
    digests = []
    for start in range(piece.start, piece.end, step):
        view = memoryview(read(start, min(step, piece.end - start)))
        digests += [
            blake3(view[at : at + block]).digest(DIGEST_LENGTH) for at in range(0, len(view), block)
        ]
    return piece.start, np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_LENGTH)


def _in_threads(
    work: Callable[[Extent], tuple[int, Table]], tasks: Iterator[Extent], threads: int
) -> Iterator[tuple[int, Table]]:
    """Results in order; tasks are taken as workers come free, so few are open at once."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="digest")
    open_tasks: deque[Future[tuple[int, Table]]] = deque()
    try:
        for task in tasks:
            open_tasks.append(pool.submit(work, task))
            if len(open_tasks) >= 2 * threads:
                yield open_tasks.popleft().result()
        while open_tasks:
            yield open_tasks.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _within(encoded: bytes) -> ExtentSet:
    try:
        return decode_map(encoded)
    except ChangeMapError as error:
        raise DigestFormatError(f"which blocks they are of is lost: {error.found}") from error


def _unpacked(packed: memoryview, count: int) -> Table:
    try:
        raw = zstandard.ZstdDecompressor().decompress(
            packed, max_output_size=count * DIGEST_LENGTH or 1
        )
    except zstandard.ZstdError as error:
        raise DigestFormatError(f"they cannot be unpacked: {error}") from error
    if len(raw) != count * DIGEST_LENGTH:
        raise DigestFormatError("they are not as many as their blocks")
    return np.frombuffer(raw, np.uint8).reshape(-1, DIGEST_LENGTH)
