"""
The change map of a point as bytes: small, versioned, checking itself.

Every recovery point keeps the map of what changed since the point before; it outlives merges and is
what an exact resync trusts instead of reading disks. A map that lost an extent would lose a
guest's write, so nothing is decoded before a digest over all of it has been checked.

Layout in `docs/formats.md`.
"""

from __future__ import annotations

import struct

import numpy as np
import zstandard
from blake3 import blake3

from homeport.errors import IntegrityError
from homeport.model.extent import ExtentSet, Offsets

MAGIC = b"HPCMAP\0"
VERSION = 1
DIGEST_LENGTH = 32

_HEAD = struct.Struct("<7sBB7xQQ")  # magic, version, unit's power of two, extents, body length
_LEVEL = 9  # of zstd: maps are a few KiB, kept for weeks


class ChangeMapError(IntegrityError):
    """Bytes that should be a change map are not, or not any more."""

    code = "ChangeMap"
    default_cause = "The map was cut or altered where it was stored, or on its way."
    default_remedy = (
        "Keep everything. The map can be made again from the point's delta while that exists; "
        "otherwise the next resync compares digests instead."
    )

    def __init__(self, found: str) -> None:
        super().__init__(f"the change map cannot be used: {found}")
        self.found = found


def encode_map(extents: ExtentSet) -> bytes:
    """The set as bytes; equal sets give equal bytes with one version of zstandard."""
    steps = np.diff(_edges(extents), prepend=np.int64(0))
    unit = _unit_of(steps)
    body = zstandard.ZstdCompressor(level=_LEVEL).compress(_planes(steps >> unit))
    head = _HEAD.pack(MAGIC, VERSION, unit, len(extents), len(body))
    return head + body + blake3(head + body).digest()


def decode_map(encoded: bytes) -> ExtentSet:
    """
    The set that `encode_map` was given.

    Raises:
        ChangeMapError: any bit differs, something is missing or left over, or the version is new.
    """
    if len(encoded) < _HEAD.size + DIGEST_LENGTH:
        raise ChangeMapError(f"{len(encoded)} bytes are too few")
    magic, version, unit, count, length = _HEAD.unpack_from(encoded)
    if magic != MAGIC or version != VERSION:
        raise ChangeMapError(f"not a change map of version {VERSION}")
    if len(encoded) != _HEAD.size + length + DIGEST_LENGTH:
        raise ChangeMapError("its length is not the one it was written with")
    body = encoded[_HEAD.size : -DIGEST_LENGTH]
    if blake3(encoded[:-DIGEST_LENGTH]).digest() != encoded[-DIGEST_LENGTH:]:
        raise ChangeMapError("its digest does not match")
    return _rebuilt(_steps(body, count), unit)


def _edges(extents: ExtentSet) -> Offsets:
    """Start, end, start, end, ...: strictly ascending, as extents do not touch."""
    return np.column_stack((extents.starts, extents.ends)).reshape(-1)


def _unit_of(steps: Offsets) -> int:
    """The power of two that divides all steps: maps count blocks, not bytes."""
    together = int(np.bitwise_or.reduce(steps)) if steps.size else 0
    return (together & -together).bit_length() - 1 if together else 0


def _planes(steps: Offsets) -> bytes:
    """All lowest bytes, then all second ones, ...: high planes are zeroes and pack to nothing."""
    return steps.astype("<u8").view(np.uint8).reshape(-1, 8).T.tobytes()


def _steps(body: bytes, count: int) -> Offsets:
    try:
        planes = zstandard.ZstdDecompressor().decompress(body, max_output_size=count * 16)
    except zstandard.ZstdError as error:
        raise ChangeMapError(f"its body cannot be unpacked: {error}") from error
    if len(planes) != count * 16:
        raise ChangeMapError("it does not hold as many extents as it says")
    bytes_of = np.frombuffer(planes, np.uint8).reshape(8, -1)
    return np.ascontiguousarray(bytes_of.T).view("<u8").reshape(-1).astype(np.int64)


def _rebuilt(steps: Offsets, unit: int) -> ExtentSet:
    edges = np.cumsum(steps << unit)
    starts, ends = edges[0::2], edges[1::2]
    extents = ExtentSet.from_arrays(starts, ends - starts)
    if len(extents) * 2 != len(edges):
        raise ChangeMapError("its extents touch or are out of order")
    return extents
