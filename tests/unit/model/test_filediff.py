"""Differences of listings: what counts as added, changed, deleted, however the bytes arrive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.model.filediff import (
    HEAD,
    Change,
    FileEntry,
    difference,
    parse_listing,
)


def entry(
    path: str, *, kind: str = "file", size: int = 1, at: float = 5, mode: str = "644"
) -> FileEntry:
    return FileEntry(
        path=path.encode(), kind=kind, size=size, modified=at, changed=str(at), mode=mode
    )


def record(one: FileEntry) -> bytes:
    kind = {"file": "f", "folder": "d", "link": "l"}[one.kind]
    facts = f"{kind} {one.size} {one.modified} {one.changed} {one.mode}"
    return one.path + b"//" + facts.encode() + b"\0"


def listing(entries: Iterable[FileEntry]) -> bytes:
    return HEAD + b"\0" + b"".join(sorted(record(one) for one in entries)) + b"\0" + b"old rubbish"


def compared(
    before: Iterable[FileEntry], after: Iterable[FileEntry], limit: int = 100
) -> list[str]:
    found = difference(
        "/dev/sda",
        "ext4",
        parse_listing([listing(before)]),
        parse_listing([listing(after)]),
        limit=limit,
    )
    return [f"{one.change} {one.path}" for one in found.files]


OLD = entry("etc/hosts", size=6, at=10)
FOLDER = entry("etc", kind="folder")

CASES = {
    "nothing on either side": ([], [], []),
    "the same": ([OLD], [OLD], []),
    "a new file": ([], [OLD], ["added /etc/hosts"]),
    "a file gone": ([OLD], [], ["deleted /etc/hosts"]),
    "another size": ([OLD], [replace(OLD, size=7)], ["changed /etc/hosts"]),
    "a time set back, but not the inode's": (
        [OLD],
        [replace(OLD, changed="11")],
        ["changed /etc/hosts"],
    ),
    "another mode": ([OLD], [replace(OLD, mode="600")], ["changed /etc/hosts"]),
    "a folder in which something changed": ([FOLDER], [replace(FOLDER, modified=99.0)], []),
    "a folder with another mode": ([FOLDER], [replace(FOLDER, mode="700")], ["changed /etc"]),
    "a file that became a folder": ([entry("a")], [entry("a", kind="folder")], ["changed /a"]),
    "a name that is the other's beginning": (
        [entry("a/x"), entry("a-b"), entry("a", kind="folder")],
        [entry("a/x"), entry("a", kind="folder"), entry("a!")],
        ["added /a!", "deleted /a-b"],
    ),
    "a name with a line's end and a space": ([], [entry("a b\nc")], ["added /a b\nc"]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_differs(case: str) -> None:
    before, after, told = CASES[case]
    assert compared(before, after) == told


def test_counts_are_true_when_the_list_is_short() -> None:
    before = [entry(f"old{n}") for n in range(5)] + [entry("same"), entry("big", size=1)]
    after = [entry(f"new{n}") for n in range(7)] + [entry("same"), entry("big", size=9)]
    found = difference("/dev/sda", "xfs", sorted_(before), sorted_(after), limit=3)
    assert (found.added, found.changed, found.deleted) == (7, 1, 5)
    assert (len(found.files), found.total, found.left_out) == (3, 13, 10)


def sorted_(entries: list[FileEntry]) -> list[FileEntry]:
    return sorted(entries, key=lambda one: one.key)


def test_a_change_is_told_with_both_sizes_and_its_time() -> None:
    after = replace(OLD, size=9, modified=1767225600.5)
    (change,) = difference("/dev/sda", "ext4", [OLD], [after], limit=9).files
    assert change.change is Change.CHANGED
    assert (change.size_before, change.size) == (6, 9)
    assert change.modified_at == datetime(2026, 1, 1, 0, 0, 0, 500000, tzinfo=UTC)


@pytest.mark.parametrize("at", [1e300, float("nan"), -1e18])
def test_a_time_that_no_calendar_has_is_not_told(at: float) -> None:
    (change,) = difference("/dev/sda", "ext4", [], [entry("x", at=at)], limit=9).files
    assert change.modified_at is None


def test_a_name_that_is_no_text_is_told_in_hexadecimal() -> None:
    odd = FileEntry(path=b"caf\xe9", kind="file", size=1, modified=1, changed="1")
    (change,) = difference("/dev/sda", "ext4", [], [odd], limit=9).files
    assert change.path == "/caf\\xe9"


BAD = {
    "an empty place": (bytes(100), "no head"),
    "nothing at all": (b"", "no head"),
    "a cut tail": (listing([OLD])[:30], "no end"),
    "a record that is none": (HEAD + b"\0etc/hosts f 6\0\0", "no record"),
    "a size that is no number": (HEAD + b"\0a//f x 1 1 644\0\0", "invalid literal"),
    "out of order": (HEAD + b"\0" + record(entry("b")) + record(entry("a")) + b"\0", "in order"),
    "a path twice": (HEAD + b"\0" + record(OLD) * 2 + b"\0", "in order"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_listing_that_is_none_is_never_taken_for_an_empty_one(case: str) -> None:
    body, said = BAD[case]
    with pytest.raises(ValueError, match=said):
        difference("/dev/sda", "ext4", [], parse_listing([body]), limit=9)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=6)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
FILES = st.dictionaries(PATHS, st.integers(0, 3), max_size=20)


@given(before=FILES, after=FILES, step=st.integers(1, 50))
def test_any_two_trees_are_told_apart(
    before: dict[str, int], after: dict[str, int], step: int
) -> None:
    def pieces(files: dict[str, int]) -> list[bytes]:
        body = listing(entry(path, size=size) for path, size in files.items())
        return [body[at : at + step] for at in range(0, len(body), step)]

    found = difference(
        "/dev/sda", "ext4", parse_listing(pieces(before)), parse_listing(pieces(after)), limit=99
    )
    told = {one.path: one.change for one in found.files}
    expected = {f"/{path}": Change.DELETED for path in before.keys() - after.keys()}
    expected |= {f"/{path}": Change.ADDED for path in after.keys() - before.keys()}
    for path in before.keys() & after.keys():
        if before[path] != after[path]:
            expected[f"/{path}"] = Change.CHANGED
    assert told == expected
