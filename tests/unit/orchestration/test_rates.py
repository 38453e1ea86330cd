"""Measured rates: what of reports, jobs and sides counts, in which order, and what is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from homeport.model.estimate import DEFAULT_RATES, Rates, digested, estimate
from homeport.model.ids import DiskName, ItemId
from homeport.model.item import Role
from homeport.model.manifest import Consistency
from homeport.model.messages import ItemReport, PointReport
from homeport.model.planning import DiskPlan, ResyncPlan, Way
from homeport.model.position import Position
from homeport.model.reports import ResyncRecord
from homeport.orchestration.rates import (
    KEPT_LESSONS,
    LONGEST_FIXED,
    LOOKED_AT,
    NAMES,
    basis_of,
    by_points,
    checksum_term,
    churn_of,
    delta_of,
    learned,
    lessons_of,
    link_rate,
    measured,
    rates_of,
    remember_resync,
    resyncs_of,
)
from homeport.units import GiB, MiB

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def point(number: int, at: float, changed: int) -> PointReport:
    moment = T0 + timedelta(seconds=at)
    return PointReport(
        position=Position(1, number),
        taken_at=moment,
        landed_at=moment,
        consistency=Consistency.CRASH,
        changed=changed,
        depth=1,
    )


def report(*points: PointReport) -> ItemReport:
    return ItemReport(
        item=ItemId("i"),
        role=Role.SOURCE,
        epoch=1,
        phase="replicating",
        points=points,
    )


CHURN = {
    "no points": ((), 0.0),
    "one point says nothing": ((point(0, 0, GiB),), 0.0),
    "two at one moment say nothing": ((point(0, 0, GiB), point(1, 0, GiB)), 0.0),
    "the first one is from before": ((point(0, 0, GiB), point(1, 10, 50)), 5.0),
    "all the way": ((point(0, 0, 0), point(1, 10, 50), point(2, 20, 150)), 10.0),
    "in any order": ((point(2, 20, 150), point(0, 0, 0), point(1, 10, 50)), 10.0),
}


@pytest.mark.parametrize(("points", "churn"), CHURN.values(), ids=CHURN)
def test_churn(points: tuple[PointReport, ...], churn: float) -> None:
    assert churn_of(points) == churn


LINKS: dict[str, tuple[dict[str, Any], float]] = {
    "nothing measured": ({}, 0.0),
    "the first copy": ({"seed_took": 10.0, "enable_changed": GiB}, GiB / 10),
    "less what is spent at any size": (
        {"seed_took": 10.0, "enable_changed": GiB, "lessons": {"fixed": [1.0, 2.0, 30.0]}},
        GiB / 8,
    ),
    "as it was stored, of an older server": ({"seed_took": 10.0, "enable_moved": GiB}, GiB / 10),
    "its job, of a still older one": ({"enable_took": 20.0, "enable_moved": GiB}, GiB / 20),
    "one too small to tell": ({"seed_took": 1.0, "enable_changed": MiB}, 0.0),
    "a full resync and no first copy to speak of": (
        {"lessons": {"link": [1 / 7e6]}, "seed_took": 10.0, "enable_changed": MiB},
        7e6,
    ),
    "two full resyncs and the first copy, which was the fastest": (
        {"lessons": {"link": [1 / 7e6, 1 / 9e6]}, "seed_took": 10.0, "enable_changed": GiB},
        9e6,
    ),
}


@pytest.mark.parametrize(("facts", "link"), LINKS.values(), ids=LINKS)
def test_a_copys_rate(facts: dict[str, Any], link: float) -> None:
    assert rates_of(facts, None).link == pytest.approx(link)


def landed(number: int, size: int, took: float, *, skew: float = 0.0, at: float = 0) -> PointReport:
    """A point of `size` MiB that took so many seconds, the landing host's clock off by `skew`."""
    taken = T0 + timedelta(seconds=at or number * 60)
    return replace(
        point(number, 0, size * MiB),
        taken_at=taken,
        landed_at=taken + timedelta(seconds=took + skew),
    )


def line(*sizes: int, skew: float = 0.0) -> tuple[PointReport, ...]:
    """Points at 32 MiB a second and 2 s whatever their size, after a first one that tells none."""
    own = (landed(n, size, 2 + size / 32, skew=skew) for n, size in enumerate(sizes, 1))
    return (landed(0, 900, 1), *own)


DELTAS: dict[str, tuple[tuple[PointReport, ...], float]] = {
    "no points": ((), 0.0),
    "the first one alone": (line(), 0.0),
    "all of about one size": (line(20, 24, 28), 0.0),
    "of different sizes": (line(1, 64), 32 * MiB),
    "a clock that is behind": (line(1, 64, 32, skew=-3600), 32 * MiB),
    "a clock that is a little ahead": (line(1, 64, 32, skew=20), 32 * MiB),
    "one that waited for an hour": (
        (*line(1, 64, 32, 96, 16, 128), landed(7, 80, 3600)),
        32 * MiB,
    ),
    "those taken while another waited": (
        (*line(1, 64, 32, 96), landed(5, 64, 500), landed(6, 1, 400), landed(7, 200, 300)),
        32 * MiB,
    ),
    "no slower with size": ((landed(0, 1, 1), landed(1, 1, 9), landed(2, 90, 3)), 0.0),
}


@pytest.mark.parametrize(("points", "delta"), DELTAS.values(), ids=DELTAS)
def test_a_deltas_rate_by_the_points(points: tuple[PointReport, ...], delta: float) -> None:
    assert delta_of(points) == pytest.approx(delta)


def test_only_the_newest_points_tell() -> None:
    old = [landed(n, n % 7 * 20, n % 7 * 20 / 5) for n in range(60)]
    new = [landed(60 + n, n % 7 * 20, n % 7 * 20 / 50) for n in range(LOOKED_AT)]
    assert delta_of([*old, *new]) == pytest.approx(50 * MiB)


KNOWN = Rates(delta=10 * MiB, link=20 * MiB, compare=100 * MiB, preparing=5, fixed=2)
"""What the lessons below are learned beside."""


def plan(*disks: tuple[Way, int, int]) -> ResyncPlan:
    return ResyncPlan(
        common=None,
        disks=tuple(
            DiskPlan(
                disk=DiskName(str(n)), way=way, reason="", reads=reads, sends=2 * GiB, likely=1
            )
            for n, (way, reads, _) in enumerate(disks)
        ),
    )


def record(changed: int | None, *, actual: float, preparing: float = 4.0) -> ResyncRecord:
    return ResyncRecord(
        direction="a -> b", way="", planned=0, moved=None, estimated=1, low=1, high=1,
        actual=actual, ended_at=T0, preparing=preparing, changed=changed,
    )  # fmt: skip


EXACT, FULL, DIFFERENTIAL = (
    (way, reads, 0) for way, reads in ((Way.EXACT, 0), (Way.FULL, 0), (Way.DIFFERENTIAL, 2 * GiB))
)
TAUGHT: dict[str, tuple[ResyncPlan, ResyncRecord, dict[str, float]]] = {
    "a large exact one": (plan(EXACT), record(GiB, actual=4 + 2 + 64), {"delta": 64 / GiB}),
    "a large full one": (plan(FULL), record(GiB, actual=4 + 2 + 32), {"link": 32 / GiB}),
    "a comparison": (
        plan(DIFFERENTIAL),
        record(MiB, actual=4 + 2 + 0.1 + digested(2 * GiB, MiB) / (100 * MiB)),
        {"compare": 1 / (100 * MiB)},
    ),
    "a comparison with shipping beside three quarters of it": (
        plan((Way.DIFFERENTIAL, 16 * GiB, 0)),
        record(GiB, actual=4 + 2 + 102.4 - 38.4 + digested(16 * GiB, GiB) / (100 * MiB)),
        {"compare": 1 / (100 * MiB)},
    ),
    "a comparison, most of it spent on what differs": (
        plan(DIFFERENTIAL),
        record(GiB, actual=4 + 2 + 110),
        {"compare": 110 / 4 / digested(2 * GiB, GiB)},
    ),
    "one in no time but what any takes": (
        plan(EXACT),
        record(GiB, actual=4 + 2),
        {"delta": 1 / GiB},
    ),
    "a small one": (plan(EXACT), record(MiB, actual=4 + 3.1), {"fixed": 3.0}),
    "a small one that waited": (plan(EXACT), record(MiB, actual=900), {"fixed": LONGEST_FIXED}),
    "several ways at once": (plan(EXACT, FULL), record(GiB, actual=99), {}),
    "a side that did not tell": (plan(EXACT), record(None, actual=99), {}),
    "nothing to do for one of two disks": (
        plan((Way.NOTHING, 0, 0), EXACT),
        record(GiB, actual=4 + 2 + 64),
        {"delta": 64 / GiB},
    ),
}


@pytest.mark.parametrize(("one", "ended", "taught"), TAUGHT.values(), ids=TAUGHT)
def test_what_a_resync_teaches(
    one: ResyncPlan, ended: ResyncRecord, taught: dict[str, float]
) -> None:
    assert lessons_of(KNOWN, one, ended) == pytest.approx({"preparing": 4.0, **taught}, rel=1e-6)


def test_a_resync_whose_beginning_was_not_kept_teaches_nothing_of_it() -> None:
    ended = record(GiB, actual=66, preparing=0)
    assert lessons_of(KNOWN, plan(EXACT), ended) == pytest.approx({"delta": 64 / GiB})


def after(*resyncs: tuple[tuple[Way, int, int], float]) -> dict[str, Any]:
    """The facts of an item after resyncs of a GiB that took so many seconds and 4 of preparing."""
    facts: dict[str, Any] = {}
    for way, took in resyncs:
        facts["lessons"] = learned(facts, plan(way), record(GiB, actual=4 + took))
    return facts


def test_one_that_waited_misleads_no_estimate() -> None:
    found = rates_of(after((EXACT, 64), (EXACT, 900), (EXACT, 66), (FULL, 32)))
    assert found.delta == pytest.approx(GiB / 66)
    assert (found.link, found.preparing) == (pytest.approx(GiB / 32), 4)


def test_the_oldest_lessons_are_let_go() -> None:
    slow = [(EXACT, 900.0)] * 9
    fast = [(EXACT, 64.0)] * (KEPT_LESSONS // 2 + 1)
    assert rates_of(after(*slow, *fast)).delta == pytest.approx(GiB / 64)
    assert rates_of(after(*slow, *fast[1:])).delta == pytest.approx(GiB / 900)


def test_what_was_learned_is_what_the_next_estimate_says() -> None:
    """A resync of the size just learned from is estimated at what that one took."""
    one = ResyncPlan(
        common=None,
        disks=(DiskPlan(disk=DiskName("a"), way=Way.EXACT, reason="", reads=GiB, sends=GiB),),
    )
    facts: dict[str, Any] = {"lessons": {"fixed": [2.0]}}
    facts["lessons"] = learned(facts, one, record(GiB, actual=40))
    found = estimate(one, rates_of(facts)).total.likely
    assert found.total_seconds() == pytest.approx(40)


def test_churn_and_digests_are_kept_until_measured_again() -> None:
    facts = {"rates": {"digest": 3e6, "churn": 4.0}}
    assert (rates_of(facts).digest, rates_of(facts).churn) == (3e6, 4.0)
    newer = report(point(0, 0, 0), point(1, 10, 50))
    assert rates_of(facts, newer).churn == 5.0


def test_the_points_have_one_vote_beside_the_resyncs() -> None:
    kept = after((EXACT, GiB / (96 * MiB)))
    points = report(*line(1, 64))
    assert rates_of({}, None, points).delta == pytest.approx(32 * MiB)
    assert rates_of(kept, report(*line(1))).delta == pytest.approx(96 * MiB)
    assert rates_of(kept, None, points).delta == pytest.approx(48 * MiB)  # the mean of the times
    assert rates_of({}, report(*line(1))).delta == 0


def test_what_points_told_is_known_when_they_are_gone() -> None:
    points = report(*line(1, 64))
    kept = {"rates": by_points({}, None, points)}
    assert rates_of(kept) == rates_of({}, points)
    assert by_points(kept, report(*line(1, 2))) | {"churn": 0.0} == kept["rates"] | {"churn": 0.0}


def test_only_what_was_measured_is_told_as_such() -> None:
    assert measured(Rates()) == {}
    assert measured(Rates(read=5e6, digest=1e6, churn=2.0)) == {"digest": 1e6, "churn": 2.0}


ALL = ", ".join(NAMES.values())


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        (Rates(), f"not measured yet, assumed: {ALL}"),
        (DEFAULT_RATES, "measured of this item: "),
        (Rates(**dict.fromkeys(NAMES, 1.0)), f"measured of this item: {ALL}"),
        (Rates(digest=1), "measured of this item: digest rate; not measured yet, assumed: compari"),
    ],
    ids=["nothing", "some", "everything", "one"],
)
def test_what_is_known_and_what_assumed(rates: Rates, words: str) -> None:
    assert basis_of(rates).startswith(words)


@pytest.mark.parametrize(
    ("moved", "seconds", "rate"), [(GiB, 2.0, GiB / 2), (MiB, 2.0, None), (GiB, 0.0, None)]
)
def test_a_copy_tells_the_link_if_it_was_long_enough(
    moved: int, seconds: float, rate: float | None
) -> None:
    assert link_rate(moved, seconds) == rate


def test_the_oldest_resync_is_let_go() -> None:
    facts: dict[str, Any] = {}
    for number in range(12):
        facts["resyncs"] = remember_resync(facts, replace(record(None, actual=1), planned=number))
    assert [one.planned for one in resyncs_of(facts)] == list(range(2, 12))


def test_asrs_checksum_is_the_items_own_enable_job() -> None:
    assert checksum_term({"enable_took": 90.0}) == timedelta(seconds=90)
    assert checksum_term({}) == timedelta(0)
