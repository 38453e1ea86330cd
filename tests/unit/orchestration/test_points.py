"""Which point a request means, as a table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.model.manifest import Consistency
from homeport.model.messages import PointReport
from homeport.model.position import InvalidPositionError, Position
from homeport.orchestration.points import Choice, NoSuchPointError, choose, parse_choice

START = datetime(2026, 1, 1, tzinfo=UTC)
APP, CRASH = Consistency.APP, Consistency.CRASH


def point(position: str, consistency: Consistency = CRASH) -> PointReport:
    at = START + timedelta(minutes=Position.parse(position).sequence)
    return PointReport(
        position=Position.parse(position),
        taken_at=at,
        landed_at=at,
        consistency=consistency,
        changed=1,
        depth=1,
    )


POINTS = (point("1-8"), point("1-9", APP), point("2-0", APP), point("2-1"))


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("latest", "2-1"),
        ("latest-processed", "2-1"),
        ("latest-app-consistent", "2-0"),
        ("1-8", "1-8"),
        ("1-9", "1-9"),
    ],
)
def test_the_point_that_is_meant(asked: str, meant: str) -> None:
    found = choose(POINTS, parse_choice(asked), item="shop")
    assert str(found.position) == meant


@pytest.mark.parametrize(
    ("points", "asked", "cause"),
    [
        ((), "latest", "Nothing has landed"),
        ((), "1-0", "Nothing has landed"),
        (POINTS, "1-7", "pruned, or it is another item's"),
        (POINTS, "3-0", "pruned, or it is another item's"),
        ((point("1-0"),), "latest-app-consistent", "application-consistent"),
    ],
    ids=["no points", "no points, one named", "a pruned one", "another item's", "no app point"],
)
def test_there_is_none(points: tuple[PointReport, ...], asked: str, cause: str) -> None:
    with pytest.raises(NoSuchPointError) as caught:
        choose(points, parse_choice(asked), item="shop")
    assert cause in caught.value.cause
    assert (caught.value.item, caught.value.asked) == ("shop", asked)
    assert "homeport points shop" in caught.value.remedy


@pytest.mark.parametrize("text", ["", "newest", "1", "1-", "0-1", "1-2-3", "Latest", "-1-2"])
def test_text_that_names_nothing(text: str) -> None:
    with pytest.raises(InvalidPositionError):
        parse_choice(text)


@given(st.permutations(POINTS), st.sampled_from(list(Choice)))
def test_the_order_of_the_list_does_not_matter(points: list[PointReport], choice: Choice) -> None:
    assert choose(points, choice, item="shop") == choose(POINTS, choice, item="shop")
