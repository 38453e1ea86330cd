from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.errors import IntegrityError
from homeport.model.changemap import ChangeMapError, decode_map, encode_map
from homeport.model.extent import Extent, ExtentSet
from homeport.units import GiB, KiB, MiB, TiB

GOLDEN = Path(__file__).parents[2] / "golden" / "changemap"

CASES = [
    pytest.param([], id="nothing changed"),
    pytest.param([Extent(0, 4 * KiB)], id="the first block"),
    pytest.param([Extent(3 * TiB, 512)], id="a partial block far out"),
    pytest.param([Extent(0, 3 * TiB)], id="a trim of the whole disk"),
    pytest.param([Extent(at * 12 * KiB, 4 * KiB) for at in range(50)], id="every third block"),
    pytest.param([Extent(1, 1), Extent(3, 5)], id="single bytes"),
    pytest.param([Extent(2**62, 2**61)], id="offsets near the end of the type"),
]


@pytest.mark.parametrize("extents", CASES)
def test_decoding_gives_what_was_encoded(extents: list[Extent]) -> None:
    kept = ExtentSet(extents)
    assert decode_map(encode_map(kept)) == kept


@given(st.lists(st.builds(Extent, st.integers(0, 2**50), st.integers(0, 2**40)), max_size=30))
def test_any_set_survives(extents: list[Extent]) -> None:
    kept = ExtentSet(extents)
    assert decode_map(encode_map(kept)) == kept


@pytest.mark.parametrize("extents", CASES[:5])
def test_every_flipped_bit_is_found(extents: list[Extent]) -> None:
    encoded = encode_map(ExtentSet(extents))
    for at in range(len(encoded) * 8):
        damaged = bytearray(encoded)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(IntegrityError):
            decode_map(bytes(damaged))


@pytest.mark.parametrize("extents", CASES[:5])
def test_every_cut_and_every_addition_is_found(extents: list[Extent]) -> None:
    encoded = encode_map(ExtentSet(extents))
    for length in range(len(encoded)):
        with pytest.raises(ChangeMapError):
            decode_map(encoded[:length])
    with pytest.raises(ChangeMapError, match="length"):
        decode_map(encoded + b"\0")


def test_a_map_that_lies_is_refused_though_its_digest_is_right() -> None:
    """Digest and length agree, but the body holds fewer extents than the head says."""
    from blake3 import blake3

    encoded = bytearray(encode_map(ExtentSet.of(0, MiB))[:-32])
    encoded[16] = 2  # the count
    with pytest.raises(ChangeMapError, match="as many extents"):
        decode_map(bytes(encoded) + blake3(encoded).digest())


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ChangeMapError) as caught:
        decode_map(b"not a map")
    assert "9 bytes" in caught.value.message
    assert "digests" in caught.value.remedy


@pytest.mark.parametrize(
    ("size", "blocks", "limit"),
    [
        pytest.param(TiB, 300_000, 700 * KiB, id="300,000 scattered blocks"),
        pytest.param(64 * GiB, 1_000, 4 * KiB, id="an ordinary cycle"),
    ],
)
def test_maps_are_small(size: int, blocks: int, limit: int) -> None:
    numbers = np.unique(np.random.default_rng(1).integers(0, size // (4 * KiB), blocks))
    encoded = encode_map(ExtentSet.from_blocks(numbers, 4 * KiB))
    assert len(encoded) < limit


def test_maps_of_the_first_version_stay_readable() -> None:
    encoded = bytes.fromhex((GOLDEN / "v1-three-extents.hex").read_text())
    assert decode_map(encoded) == ExtentSet(
        [Extent(0, 4 * KiB), Extent(MiB, 128 * KiB), Extent(10 * MiB, 512)]
    )
