from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.dataplane.digest import (
    COARSE,
    FINE,
    BlockDigests,
    DigestFormatError,
    decode_digests,
    differing,
    digest_blocks,
    encode_digests,
)
from homeport.errors import IntegrityError
from homeport.model.extent import Extent, ExtentSet
from homeport.units import GiB, KiB, MiB, TiB

GOLDEN = Path(__file__).parents[2] / "golden" / "digest"


class Disk:
    """Bytes in memory that count what is read of them."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.bytes_read = 0
        self._lock = threading.Lock()

    def read(self, offset: int, length: int) -> bytes:
        assert offset + length <= len(self.body)
        with self._lock:
            self.bytes_read += length
        return self.body[offset : offset + length]


def digested(body: bytes, block: int, **more: ExtentSet) -> BlockDigests:
    return digest_blocks(Disk(body).read, size=len(body), block=block, **more)


def expected(body: bytes, block: int) -> list[bytes]:
    return [blake3(body[at : at + block]).digest(16) for at in range(0, len(body), block)]


@pytest.mark.parametrize("block", [FINE, COARSE])
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(512, id="less than a block"),
        pytest.param(FINE, id="one fine block"),
        pytest.param(3 * MiB, id="whole blocks"),
        pytest.param(10 * MiB + 512, id="a short tail"),
        pytest.param(20 * MiB + FINE, id="several windows"),
    ],
)
def test_each_block_has_its_own_digest(size: int, block: int) -> None:
    body = np.random.default_rng(size).bytes(size)
    made = digested(body, block)
    assert [row.tobytes() for row in made.table] == expected(body, block)
    assert made.within == ExtentSet.of(0, size)


@settings(max_examples=40)
@given(
    st.binary(min_size=1, max_size=2000),
    st.sampled_from([16, 64, 1024]),
    st.lists(st.builds(Extent, st.integers(0, 2000), st.integers(0, 200)), max_size=6),
)
def test_part_of_a_disk_has_the_digests_of_those_blocks(
    body: bytes, block: int, extents: list[Extent]
) -> None:
    within = ExtentSet(extents).clipped(len(body))
    made = digested(body, block, within=within)
    all_of_them = expected(body, block)
    chosen = [all_of_them[number] for number in within.blocks(block)]
    assert [row.tobytes() for row in made.table] == chosen
    assert decode_digests(encode_digests(made)).table.tolist() == made.table.tolist()


def test_holes_are_not_read_and_equal_zeroes() -> None:
    size = 40 * MiB + 512
    body = bytearray(size)
    body[5 * MiB : 5 * MiB + 9] = b"something"
    disk = Disk(bytes(body))
    allocated = ExtentSet.of(5 * MiB + 100, 9)
    made = digest_blocks(disk.read, size=size, block=COARSE, allocated=allocated)
    assert disk.bytes_read == MiB
    assert not differing(made, digested(bytes(body), COARSE))


def test_two_levels_find_exactly_the_blocks_that_differ() -> None:
    rng = np.random.default_rng(7)
    ours = bytearray(rng.bytes(32 * MiB + 512))
    theirs = bytearray(ours)
    changed = [0, 5 * MiB + 8 * KiB, 5 * MiB + 12 * KiB, 32 * MiB]
    for at in changed:
        theirs[at] ^= 1
    coarse = differing(digested(bytes(ours), COARSE), digested(bytes(theirs), COARSE))
    assert coarse == ExtentSet([Extent(0, MiB), Extent(5 * MiB, MiB), Extent(32 * MiB, 512)])
    fine = differing(*(digested(bytes(side), FINE, within=coarse) for side in (ours, theirs)))
    assert fine == ExtentSet(
        [Extent(0, FINE), Extent(5 * MiB + 8 * KiB, 8 * KiB), Extent(32 * MiB, 512)]
    )


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(digested(bytes(3 * MiB), FINE), id="another block"),
        pytest.param(digested(bytes(2 * MiB), COARSE), id="another size"),
        pytest.param(
            digested(bytes(3 * MiB), COARSE, within=ExtentSet.of(0, 1)), id="other extents"
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(other: BlockDigests) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        differing(digested(bytes(3 * MiB), COARSE), other)


def test_the_first_failure_of_a_read_ends_everything() -> None:
    disk = Disk(bytes(64 * MiB))

    def read(offset: int, length: int) -> bytes:
        if offset == 16 * MiB:
            raise OSError(5, "the disk failed")
        return disk.read(offset, length)

    with pytest.raises(OSError, match="the disk failed"):
        digest_blocks(read, size=64 * MiB, block=COARSE)
    assert disk.bytes_read < 64 * MiB
    assert not [one for one in threading.enumerate() if one.name.startswith("digest")]


def test_a_tebibyte_of_holes_is_small_and_quick() -> None:
    read = Disk(b"").read
    tracemalloc.start()
    try:
        made = digest_blocks(read, size=TiB, block=COARSE, allocated=ExtentSet.empty())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made.table.nbytes == 16 * MiB
    assert peak < 64 * MiB
    encoded = encode_digests(made)
    assert len(encoded) < 16 * KiB
    assert not differing(made, decode_digests(encoded))


def small() -> BlockDigests:
    return digested(bytes(range(256)) * 40, FINE, within=ExtentSet.of(4 * KiB, 6000))


def test_every_flipped_bit_is_found() -> None:
    encoded = encode_digests(small())
    for at in range(len(encoded) * 8):
        damaged = bytearray(encoded)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(IntegrityError):
            decode_digests(bytes(damaged))


def test_every_cut_and_every_addition_is_found() -> None:
    encoded = encode_digests(small())
    for length in range(len(encoded)):
        with pytest.raises(DigestFormatError):
            decode_digests(encoded[:length])
    with pytest.raises(DigestFormatError, match="length"):
        decode_digests(encoded + b"\0")


def resealed(encoded: bytes, at: int, byte: int) -> bytes:
    body = bytearray(encoded[:-32])
    body[at] = byte
    return bytes(body) + blake3(body).digest()


@pytest.mark.parametrize(
    ("at", "byte", "why"),
    [
        pytest.param(17, 0, "whole blocks", id="a block of no bytes"),
        pytest.param(17, 8, "as many as", id="a block half as large"),
        pytest.param(45, 9, "is lost", id="a broken map"),
    ],
)
def test_digests_that_contradict_themselves_are_refused(at: int, byte: int, why: str) -> None:
    with pytest.raises(DigestFormatError, match=why):
        decode_digests(resealed(encode_digests(small()), at, byte))


def test_digests_of_the_first_version_stay_readable() -> None:
    encoded = bytes.fromhex((GOLDEN / "v1-two-blocks.hex").read_text())
    read = decode_digests(encoded)
    assert (read.size, read.block) == (10 * KiB, FINE)
    assert not differing(read, small())


def test_memory_stays_that_of_a_few_windows() -> None:
    body = bytes(MiB)
    tracemalloc.start()
    try:
        digest_blocks(lambda _, length: body[:length] + b"", size=GiB // 2, block=COARSE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MiB
