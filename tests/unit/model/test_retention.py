"""Which points go: a table of ages, and what must never go."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.model.manifest import Consistency
from homeport.model.messages import PointReport
from homeport.model.policy import ReplicationPolicy
from homeport.model.position import Position
from homeport.model.retention import to_prune
from tests.unit.model.builders import NOW, at

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
POLICY = ReplicationPolicy(name="p", retention=24 * HOUR, keep_all=2 * HOUR)


def report(sequence: int, age: timedelta, *, app: bool = False) -> PointReport:
    return PointReport(
        position=at(sequence),
        taken_at=NOW - age,
        landed_at=NOW - age,
        consistency=Consistency.APP if app else Consistency.CRASH,
        changed=0,
        depth=0,
    )


def reports(*ages: float, app: tuple[int, ...] = ()) -> list[PointReport]:
    """Points of these ages in hours, oldest first, numbered from 1."""
    return [
        report(number, age * HOUR, app=number in app) for number, age in enumerate(ages, start=1)
    ]


@pytest.mark.parametrize(
    ("points", "gone"),
    [
        pytest.param([], [], id="no points"),
        pytest.param(reports(500), [], id="the newest stays, whatever its age"),
        pytest.param(reports(1.9, 1.5, 1, 0), [], id="all of the last two hours"),
        pytest.param(reports(30, 25, 0), [1, 2], id="beyond retention"),
        pytest.param(reports(5.75, 5.5, 5.25, 0), [1, 2], id="the newest of an hour stays"),
        pytest.param(reports(5.75, 5.5, 5.25, 0, app=(1,)), [2, 3], id="a frozen one first"),
        pytest.param(reports(5.75, 5.5, 0, app=(1, 2)), [1], id="the newest of the frozen ones"),
        pytest.param(reports(9.5, 8.5, 7.5, 0), [], id="one in each hour"),
        pytest.param(reports(600, 550, 500), [1, 2], id="no new ones for weeks: the newest stays"),
    ],
)
def test_what_goes(points: list[PointReport], gone: list[int]) -> None:
    assert to_prune(points, POLICY, NOW) == tuple(at(number) for number in gone)


def test_what_is_pinned_stays() -> None:
    points = reports(30, 25, 5.75, 5.5, 0)
    assert to_prune(points, POLICY, NOW, {at(1), at(3)}) == (at(2),)


ages = st.lists(st.integers(0, 40 * 60), max_size=25, unique=True)


@given(ages, st.sets(st.integers(1, 25).map(at)))
def test_what_never_goes(minutes: list[int], pinned: set[Position]) -> None:
    points = reports(*(age / 60 for age in sorted(minutes, reverse=True)))
    gone = set(to_prune(points, POLICY, NOW, pinned))
    kept = [point for point in points if point.position not in gone]
    assert not gone & pinned
    assert not points or kept[-1] == points[-1]
    for point in points:
        age = NOW - point.taken_at
        if age <= POLICY.keep_all:
            assert point in kept
        elif age <= POLICY.retention and point != points[-1]:
            hour = point.taken_at.replace(minute=0, second=0, microsecond=0)
            assert any(hour <= one.taken_at < hour + HOUR for one in kept)


@given(ages)
def test_pruned_twice_is_pruned_once(minutes: list[int]) -> None:
    points = reports(*(age / 60 for age in sorted(minutes, reverse=True)))
    gone = set(to_prune(points, POLICY, NOW))
    kept = [point for point in points if point.position not in gone]
    assert to_prune(kept, POLICY, NOW) == ()
