"""Positions: their order, their text, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.model.codec import from_json, to_json
from homeport.model.position import InvalidPositionError, Position, PositionMismatchError

positions = st.builds(Position, st.integers(1, 999_999), st.integers(0, 10**10 - 1))


@given(positions)
def test_what_was_written_is_read(position: Position) -> None:
    assert Position.parse(str(position)) == position
    assert Position.parse(position.key) == position
    assert from_json(Position, to_json(Position, position)) == position


@given(positions, positions)
def test_keys_sort_as_positions_do(one: Position, other: Position) -> None:
    assert (one < other) == (one.key < other.key)


@given(positions)
def test_the_next_one_is_right_behind_in_its_epoch(position: Position) -> None:
    assert position < position.next() < Position(position.epoch + 1, 0)
    assert position.next().epoch == position.epoch


@pytest.mark.parametrize(
    "text",
    ["", "-", "1", "1-", "-1", "0-1", "1-x", "x-1", "1--1", "1-1-1", " 1-1", "1-²", "٣-1", "1.0-1"],
)
def test_text_that_names_none(text: str) -> None:
    with pytest.raises(InvalidPositionError) as refused:
        Position.parse(text)
    assert refused.value.text == text


@pytest.mark.parametrize(("epoch", "sequence"), [(0, 0), (-1, 5), (1, -1)])
def test_numbers_that_are_none(epoch: int, sequence: int) -> None:
    with pytest.raises(ValueError, match="no such position"):
        Position(epoch, sequence)


def test_a_mismatch_tells_both() -> None:
    error = PositionMismatchError(expected=Position(1, 2), found=Position(1, 4))
    assert (error.expected, error.found) == (Position(1, 2), Position(1, 4))
    assert "1-2" in error.message
    assert "1-4" in error.message
