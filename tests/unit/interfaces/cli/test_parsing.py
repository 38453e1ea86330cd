"""What people type becomes values, or is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from homeport.interfaces.cli import parsing
from homeport.model.position import Position
from homeport.model.requests import DiskRequest
from homeport.units import GiB, KiB, MiB, TiB

SIZES = {
    "1": 1,
    "4096": 4096,
    "64k": 64 * KiB,
    "512M": 512 * MiB,
    "512MiB": 512 * MiB,
    "10G": 10 * GiB,
    "10GB": 10 * GiB,
    "2t": 2 * TiB,
}
SPANS = {
    "30s": timedelta(seconds=30),
    "5m": timedelta(minutes=5),
    "5min": timedelta(minutes=5),
    "2h": timedelta(hours=2),
    "7d": timedelta(days=7),
    "1h30m": timedelta(minutes=90),
}


@pytest.mark.parametrize(("text", "size"), SIZES.items(), ids=SIZES)
def test_sizes(text: str, size: int) -> None:
    assert parsing.size(text) == size


@pytest.mark.parametrize(("text", "span"), SPANS.items(), ids=SPANS)
def test_spans(text: str, span: timedelta) -> None:
    assert parsing.span(text) == span


REFUSED: list[tuple[Callable[[str], object], str]] = [
    *((parsing.size, text) for text in ("", "0", "-1G", "1.5G", "1P", "G", "1 G", "0x10")),
    *((parsing.span, text) for text in ("", "5", "m", "5 m", "-5m", "1.5h", "5mm", "5m x")),
    *((parsing.point, text) for text in ("newest", "3", "3-", "0-1", "-1", "3-17-2")),
    *((parsing.position, text) for text in ("latest", "3", "x-1", "")),
    *((parsing.disk, text) for text in ("vda", "vda=", "=1G", "vda=1G,bus=ide", "vda=1G,image")),
]


@pytest.mark.parametrize(("parse", "text"), REFUSED, ids=lambda it: getattr(it, "__name__", it))
def test_what_is_not_understood_says_how_it_is_written(
    parse: Callable[[str], object], text: str
) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        parse(text)
    assert repr(text) in str(refused.value) or "Write it as" in str(refused.value)


@given(st.integers(min_value=1), st.integers(min_value=0))
def test_any_position_is_a_point(epoch: int, sequence: int) -> None:
    position = Position(epoch, sequence)
    assert parsing.point(str(position)) == str(position)
    assert parsing.point(position.key) == str(position)
    assert parsing.position(str(position)) == position


@pytest.mark.parametrize("word", parsing.POINT_CHOICES)
def test_the_words_for_points(word: str) -> None:
    assert parsing.point(word) == word


@pytest.mark.parametrize(
    ("text", "disk"),
    [
        ("vda=1G", DiskRequest(name="vda", size=GiB)),
        ("vda=1G,format=qcow2", DiskRequest(name="vda", size=GiB, format="qcow2")),
        ("d=1M,image=/i,format=raw", DiskRequest(name="d", size=MiB, format="raw", image="/i")),
    ],
)
def test_disks(text: str, disk: DiskRequest) -> None:
    assert parsing.disk(text) == disk


class TestPairs:
    def test_networks_may_be_left_unplugged(self) -> None:
        assert parsing.networks(("lan=dmz", "san=none")) == {"lan": "dmz", "san": None}

    def test_the_same_name_twice_is_refused(self) -> None:
        with pytest.raises(typer.BadParameter, match="given twice"):
            parsing.pairs(("a=1", "a=2"), what="option")

    def test_a_value_may_have_an_equals_sign(self) -> None:
        assert parsing.pairs(("key=a=b",), what="option") == {"key": "a=b"}

    @pytest.mark.parametrize("text", ["a", "=a", "a=", "="])
    def test_half_a_pair_is_refused(self, text: str) -> None:
        with pytest.raises(typer.BadParameter, match="NAME=VALUE"):
            parsing.pairs((text,), what="option")


@pytest.mark.parametrize(("text", "place"), [("web", (None, "web")), ("east/web", ("east", "web"))])
def test_places(text: str, place: tuple[str | None, str]) -> None:
    assert parsing.place(text) == place
