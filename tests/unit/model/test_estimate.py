"""How long it takes: ASR's published example to the minute, and ours within its bounds."""

from __future__ import annotations

from datetime import timedelta

import pytest

from homeport.model.estimate import (
    DEFAULT_RATES,
    PREPARING,
    Rates,
    asr_estimate,
    estimate,
)
from homeport.model.ids import DiskName
from homeport.model.planning import DiskPlan, ResyncPlan, Way
from homeport.units import GiB


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def plan(way: Way, *, reads: int = 0, sends: int = 0) -> ResyncPlan:
    disk = DiskPlan(disk=DiskName("a"), way=way, reason="", reads=reads, sends=sends)
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


def test_an_exact_resync_takes_as_long_as_its_bytes() -> None:
    found = estimate(plan(Way.EXACT, reads=GiB, sends=GiB), Rates(read=1e9, link=GiB / 10))
    assert found.comparing == timedelta(0)
    assert found.moving == timedelta(seconds=10)
    assert found.total.likely == PREPARING + timedelta(seconds=10)


def test_a_comparison_reads_and_is_less_sure() -> None:
    rates = Rates(read=GiB / 4, digest=GiB, link=GiB / 10)
    compared = estimate(plan(Way.DIFFERENTIAL, reads=GiB, sends=GiB), rates)
    exact = estimate(plan(Way.EXACT, reads=GiB, sends=GiB), rates)
    assert compared.comparing == timedelta(seconds=4)  # a digest is not faster than its reading
    assert compared.moving < exact.moving  # most of what may differ does not
    assert compared.total.high / compared.total.likely > exact.total.high / exact.total.likely


@pytest.mark.parametrize("way", Way)
def test_bounds_are_around_what_is_likely(way: Way) -> None:
    total = estimate(plan(way, reads=GiB, sends=GiB), DEFAULT_RATES).total
    assert total.low < total.likely < total.high


def test_writes_that_go_on_are_caught_up_with() -> None:
    calm = estimate(plan(Way.FULL, sends=GiB), Rates(read=GiB, link=GiB, churn=0))
    busy = estimate(plan(Way.FULL, sends=GiB), Rates(read=GiB, link=GiB, churn=GiB / 2))
    frantic = estimate(plan(Way.FULL, sends=GiB), Rates(read=GiB, link=GiB, churn=9 * GiB))
    assert calm.catching_up == timedelta(0)
    assert busy.catching_up == busy.moving / 2
    assert frantic.catching_up == frantic.moving * 0.9  # never without an end


def test_what_was_never_measured_is_reckoned_with_defaults() -> None:
    one = plan(Way.DIFFERENTIAL, reads=GiB, sends=GiB)
    assert estimate(one, Rates()) == estimate(one, DEFAULT_RATES)
