from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.model.extent import Extent, ExtentSet, split_at_blocks, union_of
from homeport.units import KiB

SPACE = 64

extents = st.builds(
    lambda start, length: Extent(start, min(length, SPACE - start)),
    st.integers(0, SPACE),
    st.integers(0, 20),
)
extent_sets = st.lists(extents, max_size=12)


def model(items: list[Extent]) -> bytearray:
    disk = bytearray(SPACE)
    for item in items:
        disk[item.start : item.end] = b"\1" * item.length
    return disk


def from_model(disk: bytes | bytearray) -> ExtentSet:
    return ExtentSet(Extent(at, 1) for at, there in enumerate(disk) if there)


@given(extent_sets)
def test_a_set_has_exactly_the_bytes_of_its_extents(items: list[Extent]) -> None:
    made, disk = ExtentSet(items), model(items)
    assert made.total == sum(disk)
    assert [at in made for at in range(SPACE)] == [bool(there) for there in disk]
    assert made == from_model(disk)


@given(extent_sets)
def test_extents_are_sorted_and_have_a_gap_between_them(items: list[Extent]) -> None:
    kept = list(ExtentSet(items))
    assert all(extent.length > 0 for extent in kept)
    assert all(a.end < b.start for a, b in itertools.pairwise(kept))


@given(extent_sets, extent_sets)
def test_algebra_of_two_sets_equals_that_of_bytes(a: list[Extent], b: list[Extent]) -> None:
    first, second = ExtentSet(a), ExtentSet(b)
    pairs = list(zip(model(a), model(b), strict=True))
    assert first | second == from_model(bytes(x | y for x, y in pairs))
    assert first & second == from_model(bytes(x & y for x, y in pairs))
    assert first - second == from_model(bytes(x & (1 - y) for x, y in pairs))
    assert first.covers(second) == all(x or not y for x, y in pairs)


@given(st.lists(extent_sets, max_size=6))
def test_union_of_many_equals_one_set_of_all(many: list[list[Extent]]) -> None:
    whole = ExtentSet(extent for items in many for extent in items)
    assert union_of(ExtentSet(items) for items in many) == whole
    assert ExtentSet.empty().union(*(ExtentSet(items) for items in many)) == whole


@given(extent_sets, st.integers(0, SPACE + 9), st.integers(-3, SPACE))
def test_window_complement_and_clip(items: list[Extent], start: int, length: int) -> None:
    made, disk = ExtentSet(items), model(items)
    window = bytearray(disk[: start + length] if length > 0 else b"")
    window[:start] = bytes(min(start, len(window)))
    assert made.within(start, length) == from_model(window)
    assert made.clipped(start) == from_model(disk[:start])
    assert made.complement(SPACE) == from_model(bytes(1 - byte for byte in disk))


@given(extent_sets, st.integers(1, 17))
def test_alignment_grows_outward_to_whole_blocks(items: list[Extent], block: int) -> None:
    disk = model(items)
    touched = [at for at in range(-(-SPACE // block)) if any(disk[at * block : (at + 1) * block])]
    made = ExtentSet(items)
    assert made.blocks(block).tolist() == touched
    assert made.aligned(block) == ExtentSet(Extent(at * block, block) for at in touched)
    assert ExtentSet.from_blocks(np.array(touched, np.int64), block) == made.aligned(block)


@given(extent_sets, st.integers(1, 17))
def test_split_pieces_cross_no_block_and_add_up(items: list[Extent], block: int) -> None:
    made = ExtentSet(items)
    pieces = list(made.split(block))
    assert pieces == sorted(pieces)
    assert all(piece.start // block == (piece.end - 1) // block for piece in pieces)
    assert ExtentSet(pieces) == made
    assert sum(piece.length for piece in pieces) == made.total


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([(5, 0)], [], id="an empty extent vanishes"),
        pytest.param([(0, 4), (4, 4)], [(0, 8)], id="neighbours become one"),
        pytest.param([(0, 4), (5, 4)], [(0, 4), (5, 4)], id="a gap of one byte stays"),
        pytest.param([(9, 1), (0, 4)], [(0, 4), (9, 1)], id="order does not matter"),
        pytest.param([(0, 10), (2, 3), (8, 4)], [(0, 12)], id="one inside another"),
    ],
)
def test_normal_form(given: list[tuple[int, int]], kept: list[tuple[int, int]]) -> None:
    made = ExtentSet(Extent(*pair) for pair in given)
    assert [(extent.start, extent.length) for extent in made] == kept
    arrays = np.array(given, np.int64).reshape(-1, 2)
    assert ExtentSet.from_arrays(arrays[:, 0], arrays[:, 1]) == made
    assert made.end == (kept[-1][0] + kept[-1][1] if kept else 0)


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, -1)])
def test_negative_extents_are_refused(start: int, length: int) -> None:
    with pytest.raises(ValueError, match="not negative"):
        Extent(start, length)
    with pytest.raises(ValueError, match="not negative"):
        ExtentSet.from_arrays(np.array([start], np.int64), np.array([length], np.int64))


@pytest.mark.parametrize("block", [0, -4096])
def test_a_block_without_bytes_is_refused(block: int) -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        split_at_blocks([], block)
    with pytest.raises(ValueError, match="at least one byte"):
        ExtentSet.of(0, 1).aligned(block)


def test_equal_sets_are_one_key_and_differ_from_other_things() -> None:
    one, same = ExtentSet.of(0, 8), ExtentSet([Extent(4, 4), Extent(0, 4)])
    assert {one: "found"}[same] == "found"
    assert one != ExtentSet.of(0, 9)
    assert one != "ExtentSet(0+8)"


def test_a_set_cannot_be_altered_through_its_arrays() -> None:
    made = ExtentSet.of(0, 8)
    with pytest.raises(ValueError, match="read-only"):
        made.starts[0] = 4


def test_repr_names_a_few_extents_only() -> None:
    assert repr(ExtentSet.of(4, 8)) == "ExtentSet(4+8)"
    assert repr(ExtentSet.empty()) == "ExtentSet()"
    many = ExtentSet(Extent(at * 2, 1) for at in range(50))
    assert repr(many).endswith("14+1, ... 50 extents)")


def test_three_hundred_thousand_extents_take_no_time() -> None:
    starts = np.arange(300_000, dtype=np.int64) * 16 * KiB
    scattered = ExtentSet.from_arrays(starts, np.full_like(starts, 4 * KiB))
    shifted = ExtentSet.from_arrays(starts + 2 * KiB, np.full_like(starts, 4 * KiB))
    began = time.process_time()
    assert (scattered | shifted).total == 300_000 * 6 * KiB
    assert (scattered & shifted).total == 300_000 * 2 * KiB
    assert (scattered - shifted).total == 300_000 * 2 * KiB
    assert len(scattered.aligned(16 * KiB)) == 1
    assert time.process_time() - began < 2  # some 0.1 s; a loop over extents takes far more
