from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.dataplane.bases import BaseTakenError, RawBase
from homeport.units import GiB, KiB, MiB
from tests.unit.dataplane.points import SIZE, random_bytes

RANGES = st.tuples(st.integers(0, SIZE - 1), st.integers(0, 2 * MiB)).map(
    lambda one: (one[0], min(one[1], SIZE - one[0]))
)


def test_a_new_base_is_as_long_as_the_disk_and_takes_no_room(tmp_path: Path) -> None:
    base = RawBase(tmp_path / "base", size=GiB + 512)
    base.close()
    base.close()
    facts = (tmp_path / "base").stat()
    assert (facts.st_size, facts.st_blocks) == (GiB + 512, 0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), RANGES), max_size=8))
def test_what_is_written_and_zeroed_is_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, tuple[int, int]]]
) -> None:
    path = tmp_path_factory.mktemp("base") / "base"
    expected = bytearray(SIZE)
    base = RawBase(path, size=SIZE)
    for number, (writes, (offset, length)) in enumerate(steps):
        if writes:
            expected[offset : offset + length] = body = random_bytes(length, number)
            base.write(offset, body)
        else:
            expected[offset : offset + length] = bytes(length)
            base.zero(offset, length)
    base.flush()
    base.close()
    assert path.read_bytes() == bytes(expected)


def test_zeroes_where_nothing_was_written_take_no_room(tmp_path: Path) -> None:
    path = tmp_path / "base"
    base = RawBase(path, size=GiB)
    base.write(512 * MiB, b"x" * 4 * KiB)
    base.zero(0, 256 * MiB)
    base.flush()
    base.close()
    assert path.stat().st_blocks * 512 <= 64 * KiB


def test_an_earlier_attempt_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "base"
    for offset in (0, MiB):
        base = RawBase(path, size=SIZE)
        base.write(offset, b"x" * 10)
        base.close()
    assert path.read_bytes().count(b"x") == 20


def test_a_file_whose_length_was_not_set_yet_is_an_earlier_attempt(tmp_path: Path) -> None:
    path = tmp_path / "base"
    path.touch()
    RawBase(path, size=SIZE).close()
    assert path.stat().st_size == SIZE


def test_something_of_another_size_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "base"
    path.write_bytes(b"somebody's")
    with pytest.raises(BaseTakenError) as caught:
        RawBase(path, size=SIZE)
    assert caught.value.path == path
    assert path.read_bytes() == b"somebody's"


@pytest.mark.parametrize(
    ("offset", "length"),
    [(SIZE, 1), (SIZE - 1, 2), (-1, 1)],
    ids=["behind the end", "over the end", "before the start"],
)
def test_bytes_outside_the_disk_are_refused(tmp_path: Path, offset: int, length: int) -> None:
    base = RawBase(tmp_path / "base", size=SIZE)
    with pytest.raises(ValueError, match="not within"):
        base.write(offset, b"x" * length)
    with pytest.raises(ValueError, match="not within"):
        base.zero(offset, length)
    base.close()
    assert (tmp_path / "base").stat().st_size == SIZE
