"""Values to JSON and back, across versions and through damage."""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.model.codec import (
    LARGEST_PACKED,
    Packed,
    UnreadableDocumentError,
    from_json,
    from_plain,
    to_json,
    to_plain,
)
from homeport.model.position import Position
from homeport.units import KiB


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    name: str
    at: datetime
    span: timedelta = timedelta(seconds=5)
    body: Packed | None = None
    place: Position | None = None
    tags: dict[str, int] = field(default_factory=dict)


things = st.builds(
    Thing,
    name=st.text(max_size=20),
    at=st.datetimes(timezones=st.just(UTC)),
    span=st.timedeltas(timedelta(0), timedelta(days=900)),
    body=st.none() | st.binary(max_size=40),
    place=st.none() | st.builds(Position, st.integers(1, 9), st.integers(0, 9)),
    tags=st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(things)
def test_what_was_written_is_read(thing: Thing) -> None:
    assert from_json(Thing, to_json(Thing, thing)) == thing
    assert from_plain(Thing, json.loads(json.dumps(to_plain(Thing, thing)))) == thing


@given(things)
def test_equal_values_give_equal_bytes(thing: Thing) -> None:
    assert to_json(Thing, thing) == to_json(Thing, from_json(Thing, to_json(Thing, thing)))


def test_a_newer_version_has_more_fields_and_an_older_one_fewer() -> None:
    plain = to_plain(Thing, Thing(name="a", at=NOW))
    plain["colour"] = "blue"
    del plain["span"], plain["tags"]
    assert from_plain(Thing, plain) == Thing(name="a", at=NOW)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        pytest.param(b"", "the whole", id="nothing"),
        pytest.param(b'{"name": "a"', "the whole", id="cut"),
        pytest.param(b"[]", "the whole", id="another shape"),
        pytest.param(b'{"name": "a"}', "at", id="a field missing"),
        pytest.param(b'{"name": 7, "at": "2026-01-01T00:00:00Z"}', "name", id="another type"),
        pytest.param(
            b'{"name": "a", "at": "2026-01-01T00:00:00Z", "place": "0-1"}', "place", id="no place"
        ),
    ],
)
def test_what_cannot_be_read_says_where(text: bytes, place: str) -> None:
    with pytest.raises(UnreadableDocumentError) as refused:
        from_json(Thing, text)
    assert refused.value.kind == "Thing"
    assert place in refused.value.message


def packed(body: bytes) -> str:
    return b64encode(zlib.compress(body)).decode()


def test_empty_flash_takes_next_to_nothing() -> None:
    flash = bytes(540 * KiB)
    assert len(to_json(Thing, Thing(name="a", at=NOW, body=flash))) < KiB


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("AAAA", id="not compressed"),
        pytest.param("!", id="no base64"),
        pytest.param(packed(b"x" * 100)[:-4], id="cut"),
        pytest.param(b64encode(zlib.compress(b"x") + b"more").decode(), id="more than that"),
        pytest.param(packed(bytes(LARGEST_PACKED + 1)), id="larger than anything is"),
    ],
)
def test_packed_bytes_that_are_none_are_refused(body: str) -> None:
    plain = {"name": "a", "at": "2026-01-01T00:00:00Z", "body": body}
    with pytest.raises(UnreadableDocumentError):
        from_plain(Thing, plain)
    with pytest.raises(UnreadableDocumentError):
        from_json(Thing, json.dumps(plain))
