"""Which points go: a table of ages, and what must never go."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.model.manifest import Consistency
from homeport.model.messages import PointReport
from homeport.model.policy import ReplicationPolicy
from homeport.model.position import Position
from homeport.model.retention import MOST_LAYERS, NEWEST, to_prune
from tests.unit.model.builders import NOW, at

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
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


class TestThinning:
    """Points beyond what libvirt can start a machine on go, whatever the policy keeps."""

    SECONDS = ReplicationPolicy(
        name="p",
        interval=timedelta(seconds=3),
        rpo_target=timedelta(seconds=30),
        retention=240 * HOUR,
        keep_all=100 * HOUR,
    )

    def points(self, count: int, *, apart: float = 3.0, app: int = 0) -> list[PointReport]:
        return [
            report(
                number + 1,
                timedelta(seconds=(count - 1 - number) * apart),
                app=bool(app) and number % app == 0,
            )
            for number in range(count)
        ]

    def kept(self, points: list[PointReport], **more: object) -> list[PointReport]:
        gone = set(to_prune(points, self.SECONDS, NOW, **more))  # type: ignore[arg-type]
        return [point for point in points if point.position not in gone]

    @pytest.mark.parametrize(
        ("count", "most", "left"),
        [(10, 10, 10), (150, 150, 150), (151, 150, 150), (400, 150, 150), (400, 60, 60)],
    )
    def test_no_more_stay_than_the_chain_has_room_for(
        self, count: int, most: int, left: int
    ) -> None:
        assert len(self.kept(self.points(count), most=most)) == left

    def test_the_usual_room_leaves_what_a_failover_adds(self) -> None:
        assert len(self.kept(self.points(300))) == MOST_LAYERS <= 200 - 2 * 20

    def test_the_recent_ones_stay_dense_and_the_oldest_stays(self) -> None:
        points = self.points(1000)
        kept = self.kept(points)
        assert kept[0] == points[0]
        assert kept[-NEWEST:] == points[-NEWEST:]
        ages = [(NOW - point.taken_at).total_seconds() for point in kept[:-NEWEST]]
        for older, newer in pairwise(ages):
            assert older - newer <= max(0.12 * older, 6.0)

    def test_what_is_frozen_outlives_its_neighbours(self) -> None:
        points = self.points(400, app=10)
        kept = self.kept(points, most=100)
        frozen = [point for point in kept if point.consistency is Consistency.APP]
        assert len(frozen) > 30 > len(points) / 10 / 4

    def test_pinned_ones_stay_even_if_they_are_too_many(self) -> None:
        points = self.points(100)
        pinned = {point.position for point in points[:70]}
        kept = self.kept(points, pinned=pinned, most=40)
        assert pinned <= {point.position for point in kept}
        assert len(kept) == 70 + NEWEST

    @given(st.integers(0, 120), st.integers(25, 60), st.sets(st.integers(1, 120).map(at)))
    def test_thinned_twice_is_thinned_once(
        self, count: int, most: int, pinned: set[Position]
    ) -> None:
        kept = self.kept(self.points(count), pinned=pinned, most=most)
        assert self.kept(kept, pinned=pinned, most=most) == kept

    def test_landed_one_by_one_the_number_stays(self) -> None:
        """As an agent lives: the layers that are joined for it are few at a time."""
        points: list[PointReport] = []
        for number in range(1, 300):
            points = [replace(one, taken_at=one.taken_at - 3 * SECOND) for one in points]
            points.append(report(number, timedelta(0)))
            before, points = points, self.kept(points, most=60)
            assert len(before) - len(points) <= 1
        assert len(points) == 60
        assert points[0].position == at(1)
