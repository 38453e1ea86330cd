"""Measured rates: what of reports, jobs and sides counts, in which order, and what is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from homeport.model.estimate import DEFAULT_RATES, Rates
from homeport.model.ids import ItemId
from homeport.model.item import Role
from homeport.model.manifest import Consistency
from homeport.model.messages import ItemReport, PointReport, Progress
from homeport.model.position import Position
from homeport.model.reports import ResyncRecord
from homeport.orchestration.rates import (
    basis_of,
    checksum_term,
    churn_of,
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


def report(*points: PointReport, rate: float = 0.0) -> ItemReport:
    return ItemReport(
        item=ItemId("i"),
        role=Role.SOURCE,
        epoch=1,
        phase="replicating",
        points=points,
        progress=Progress(rate=rate) if rate else None,
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


LINKS: dict[str, tuple[dict[str, Any], float, float]] = {
    "nothing measured": ({}, 0.0, DEFAULT_RATES.link),
    "what is moving now": ({"rates": {"link": 7e6}}, 9e6, 9e6),
    "the last resync": ({"rates": {"link": 7e6}}, 0.0, 7e6),
    "the first copy": ({"seed_took": 10.0, "enable_moved": GiB}, 0.0, GiB / 10),
    "its job, of an older server": ({"enable_took": 20.0, "enable_moved": GiB}, 0.0, GiB / 20),
    "one too small to tell": ({"seed_took": 1.0, "enable_moved": MiB}, 0.0, DEFAULT_RATES.link),
    "a resync before the first copy": (
        {"rates": {"link": 7e6}, "seed_took": 10.0, "enable_moved": GiB},
        0.0,
        7e6,
    ),
}


@pytest.mark.parametrize(("facts", "now", "link"), LINKS.values(), ids=LINKS)
def test_link(facts: dict[str, Any], now: float, link: float) -> None:
    assert rates_of(facts, None, report(rate=now)).link == link


def test_churn_and_digests_are_kept_until_measured_again() -> None:
    facts = {"rates": {"digest": 3e6, "churn": 4.0}}
    assert (rates_of(facts).digest, rates_of(facts).churn) == (3e6, 4.0)
    newer = report(point(0, 0, 0), point(1, 10, 50))
    assert rates_of(facts, newer).churn == 5.0


def test_defaults_are_not_kept_as_if_measured() -> None:
    assert measured(DEFAULT_RATES) == {}
    rates = Rates(read=DEFAULT_RATES.read, digest=1e6, link=DEFAULT_RATES.link, churn=2.0)
    assert measured(rates) == {"digest": 1e6, "churn": 2.0}


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        (DEFAULT_RATES, "not measured yet, assumed: digest rate, link rate, churn"),
        (
            Rates(read=1, digest=2, link=DEFAULT_RATES.link, churn=4),
            "measured of this item: digest rate, churn; not measured yet, assumed: link rate",
        ),
        (
            Rates(read=1, digest=2, link=3, churn=4),
            "measured of this item: digest rate, link rate, churn",
        ),
    ],
)
def test_what_is_known_and_what_assumed(rates: Rates, words: str) -> None:
    assert basis_of(rates) == words


@pytest.mark.parametrize(
    ("moved", "seconds", "rate"), [(GiB, 2.0, GiB / 2), (MiB, 2.0, None), (GiB, 0.0, None)]
)
def test_a_copy_tells_the_link_if_it_was_long_enough(
    moved: int, seconds: float, rate: float | None
) -> None:
    assert link_rate(moved, seconds) == rate


def test_the_oldest_resync_is_let_go() -> None:
    def record(number: int) -> ResyncRecord:
        return ResyncRecord(
            direction="a -> b", way="exact", planned=number, moved=None,
            estimated=1, low=1, high=1, actual=1, ended_at=T0,
        )  # fmt: skip

    facts: dict[str, Any] = {}
    for number in range(12):
        facts["resyncs"] = remember_resync(facts, record(number))
    assert [one.planned for one in resyncs_of(facts)] == list(range(2, 12))


def test_asrs_checksum_is_the_items_own_enable_job() -> None:
    assert checksum_term({"enable_took": 90.0}) == timedelta(seconds=90)
    assert checksum_term({}) == timedelta(0)
