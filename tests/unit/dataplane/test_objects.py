"""The rules for keys and bodies, apart from any store."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.dataplane.objects import (
    KEY_LIMIT,
    NAME_LIMIT,
    KeyRefusedError,
    can_repeat,
    check_key,
    check_prefix,
    pieces_of,
    regroup,
)

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._=@-]{0,20}[A-Za-z0-9_]", fullmatch=True)


@given(st.lists(names, min_size=1, max_size=8))
def test_portable_names_make_a_key(parts: list[str]) -> None:
    key = "/".join(parts)
    check_key(key)
    assert check_prefix(key) == check_prefix(key + "/") == key


@given(st.lists(names, max_size=3), st.sampled_from(["", ".", "..", ".x", "x.", "-x", "x y", "é"]))
def test_one_bad_name_spoils_a_key(parts: list[str], bad: str) -> None:
    with pytest.raises(KeyRefusedError):
        check_key("/".join([*parts, bad]))


@pytest.mark.parametrize(
    ("key", "fits"),
    [
        ("a" * NAME_LIMIT, True),
        ("a" * (NAME_LIMIT + 1), False),
        ("/".join(["a" * 99] * 9), True),
        ("/".join(["a" * 99] * 9) + "/a", False),
    ],
    ids=["longest name", "longer name", "longest key", "longer key"],
)
def test_keys_have_limits(key: str, fits: bool) -> None:
    assert (len(key) <= KEY_LIMIT) or not fits
    if fits:
        check_key(key)
    else:
        with pytest.raises(KeyRefusedError):
            check_key(key)


def test_a_refused_key_is_shown_in_part_only() -> None:
    with pytest.raises(KeyRefusedError) as caught:
        check_key("x" * 5000)
    assert len(str(caught.value)) < 200


@given(st.lists(st.binary(max_size=30), max_size=10), st.integers(1, 40))
def test_regrouping_changes_nothing_but_the_pieces(pieces: list[bytes], size: int) -> None:
    regrouped = list(regroup(pieces, size))
    assert b"".join(regrouped) == b"".join(pieces)
    assert all(len(piece) == size for piece in regrouped[:-1])
    assert all(0 < len(piece) <= size for piece in regrouped[-1:])


def test_regrouping_pulls_no_further_than_it_must() -> None:
    source = iter([b"1234", b"5678", b"90"])
    assert next(regroup(source, 4)) == b"1234"
    assert list(source) == [b"5678", b"90"]


@pytest.mark.parametrize("size", [0, -1])
def test_pieces_have_a_size(size: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        next(regroup([b"1"], size))


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b"12", True), ([b"1", b"2"], True), ((b"12",), True), (iter([b"12"]), False)],
    ids=["bytes", "list", "tuple", "iterator"],
)
def test_an_iterator_can_be_read_once_only(body: bytes, expected: bool) -> None:
    assert can_repeat(body) is expected
    assert b"".join(pieces_of(body)) == b"12"
