"""How long it takes: ASR's published example to the minute, and ours within its bounds."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.model.estimate import (
    CADENCE,
    DEFAULT_RATES,
    FINE_COST,
    GUESSED,
    SERIAL,
    SURE,
    UNKNOWN_SHARE,
    WAITING,
    Rates,
    asr_estimate,
    digested,
    estimate,
)
from homeport.model.ids import DiskName
from homeport.model.planning import DiskPlan, ResyncPlan, Way
from homeport.units import GiB, KiB, MiB


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def plan(way: Way, *, reads: int = 0, sends: int = 0, likely: int = 0) -> ResyncPlan:
    disk = DiskPlan(disk=DiskName("a"), way=way, reason="", reads=reads, sends=sends, likely=likely)
    return ResyncPlan(common=None, disks=(disk,))


def test_asrs_own_example() -> None:
    """72 min of checksum, 45 GB changed, 60 MB/s: 2 h 52 min to 3 h 02 min in all."""
    found = asr_estimate(checksum=minutes(72), changed_gb=45, disk_mb_per_s=60)
    assert found.difference == minutes(55)
    assert found.backlog == minutes(25)
    assert (found.low, found.high) == (minutes(172), minutes(182))


@pytest.mark.parametrize(
    ("checksum", "changed", "rate", "difference", "backlog", "low"),
    [
        pytest.param(0, 0, 60, 0, 0, 20, id="nothing to do still scales out"),
        pytest.param(10, 0, 60, 0, 2, 32, id="only the checksum"),
        pytest.param(0, 14 * 60 / 1024, 60, 1, 0, 21, id="one minute at 14 MB/s"),
        pytest.param(0, 1, 0, 17, 3, 40, id="a disk too slow to reckon with counts as 1 MB/s"),
        pytest.param(100, 45, 500, 7, 21, 148, id="a fast disk"),
    ],
)
def test_asrs_formula(
    checksum: float, changed: float, rate: float, difference: int, backlog: int, low: int
) -> None:
    found = asr_estimate(checksum=minutes(checksum), changed_gb=changed, disk_mb_per_s=rate)
    assert (found.difference, found.backlog, found.low) == (
        minutes(difference),
        minutes(backlog),
        minutes(low),
    )
    assert found.high - found.low == minutes(10)


RATES = Rates(
    read=0, digest=GiB, link=GiB / 5, delta=GiB / 10, compare=GiB / 2, preparing=2, fixed=1, churn=1
)


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def test_the_whole_is_its_phases() -> None:
    found = estimate(plan(Way.EXACT, reads=GiB, sends=GiB), RATES)
    assert (found.preparing, found.comparing, found.listing) == (seconds(2), seconds(0), seconds(1))
    assert found.moving == seconds(10)
    assert found.total.likely == seconds(13)  # what is written meanwhile comes after


MOVING: dict[str, tuple[Way, Rates, float]] = {
    "a delta is paid twice": (Way.EXACT, RATES, 10),
    "a copy is landed while it is shipped": (Way.FULL, RATES, 5),
    "a delta, by the first copy": (Way.EXACT, replace(RATES, delta=0), 5 * SERIAL),
    "a copy, by deltas": (Way.FULL, replace(RATES, link=0), 10),
    "a delta, by nothing": (Way.EXACT, Rates(), GiB / DEFAULT_RATES.delta),
    "a copy, by nothing": (Way.FULL, Rates(), GiB / DEFAULT_RATES.link),
    "nothing": (Way.NOTHING, RATES, 0),
}


@pytest.mark.parametrize(("way", "rates", "moving"), MOVING.values(), ids=MOVING)
def test_what_moves(way: Way, rates: Rates, moving: float) -> None:
    found = estimate(plan(way, reads=GiB, sends=GiB), rates)
    assert found.moving.total_seconds() == pytest.approx(moving, rel=1e-6)


COMPARING: dict[str, tuple[int, Rates, float]] = {
    "hardly anything differs": (4 * KiB, RATES, 2),
    "every MiB differs": (GiB // 2, RATES, 2 * (1 + FINE_COST)),
    "a host's own digesting": (4 * KiB, replace(RATES, compare=0), WAITING),
    "a disk that is read slower": (4 * KiB, replace(RATES, compare=0, read=GiB / 4), 4 * WAITING),
    "nothing measured": (4 * KiB, Rates(), GiB / DEFAULT_RATES.compare),
}


@pytest.mark.parametrize(("differs", "rates", "comparing"), COMPARING.values(), ids=COMPARING)
def test_what_is_compared(differs: int, rates: Rates, comparing: float) -> None:
    one = plan(Way.DIFFERENTIAL, reads=GiB, sends=2 * GiB, likely=differs)
    found = estimate(one, rates)
    assert found.comparing.total_seconds() == pytest.approx(comparing, rel=2e-3)


BESIDE: dict[str, tuple[int, int, Rates, float]] = {
    "one window": (4 * GiB, GiB, RATES, 10),
    "four windows, compared for longer than shipped": (16 * GiB, GiB, RATES, 10 - 3.75),
    "four windows, shipped for longer than compared": (
        16 * GiB,
        8 * GiB,
        replace(RATES, compare=16 * GiB * (1 + FINE_COST)),
        80 - 0.75,
    ),
    "a first copy that was slower than deltas": (
        16 * GiB,
        GiB,
        replace(RATES, link=GiB / 1000),
        10 - 7.5,
    ),
}


@pytest.mark.parametrize(("reads", "differs", "rates", "moving"), BESIDE.values(), ids=BESIDE)
def test_what_is_shipped_beside_a_comparison_takes_no_time_of_its_own(
    reads: int, differs: int, rates: Rates, moving: float
) -> None:
    one = plan(Way.DIFFERENTIAL, reads=reads, sends=2 * reads, likely=differs)
    assert estimate(one, rates).moving.total_seconds() == pytest.approx(moving, rel=1e-3)


def test_where_nothing_is_known_of_the_difference_the_bounds_are_wider() -> None:
    known = plan(Way.DIFFERENTIAL, reads=GiB, sends=2 * GiB, likely=round(GiB * UNKNOWN_SHARE))
    blind = plan(Way.DIFFERENTIAL, reads=GiB, sends=2 * GiB)
    one, other = estimate(known, RATES).total, estimate(blind, RATES).total
    assert abs(other.likely - one.likely) < seconds(1e-3)
    assert other.high > one.high


@given(st.integers(1, 1000), st.integers(0, 1000))
def test_more_that_differs_is_never_less_to_digest(mib: int, differs: int) -> None:
    less = digested(mib * MiB, differs * MiB)
    assert mib * MiB <= less <= digested(mib * MiB, (differs + 1) * MiB)
    assert less <= mib * MiB * (1 + FINE_COST)


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize(
    "rates", [RATES, Rates(), DEFAULT_RATES], ids=["measured", "no", "default"]
)
def test_bounds_are_around_what_is_likely(way: Way, rates: Rates) -> None:
    total = estimate(plan(way, reads=GiB, sends=GiB), rates).total
    assert timedelta(0) <= total.low < total.likely < total.high


@pytest.mark.parametrize(
    ("way", "missing"),
    [(Way.EXACT, "delta"), (Way.FULL, "link"), (Way.DIFFERENTIAL, "compare")],
)
def test_what_was_not_measured_makes_the_bounds_wider(way: Way, missing: str) -> None:
    one = plan(way, reads=GiB, sends=GiB, likely=MiB)

    def width(rates: Rates) -> float:
        total = estimate(one, rates).total
        return (total.high - CADENCE) / total.likely

    assert width(RATES) == pytest.approx(1 + SURE)
    assert width(replace(RATES, **{missing: 0.0})) == pytest.approx(1 + GUESSED)


def test_a_small_resync_may_just_have_missed_a_pass() -> None:
    total = estimate(plan(Way.NOTHING), RATES).total
    assert (total.low, total.high - total.likely > CADENCE) == (seconds(3 * 0.75) - CADENCE, True)


def test_writes_that_go_on_are_caught_up_with_after_it() -> None:
    one = plan(Way.FULL, sends=GiB)
    calm, busy, frantic = (
        estimate(one, replace(RATES, churn=churn)) for churn in (0, GiB / 20, 9 * GiB)
    )
    assert calm.catching_up == timedelta(0)
    assert busy.catching_up == busy.total.likely / 2
    assert frantic.catching_up == frantic.total.likely * 0.9  # never without an end
    assert calm.total == frantic.total


def test_what_was_never_measured_is_reckoned_with_defaults() -> None:
    one = plan(Way.EXACT, reads=GiB, sends=GiB)
    assert estimate(one, Rates()).total.likely == estimate(one, DEFAULT_RATES).total.likely
