"""
How long a reprotect takes: our estimate from measured rates, and ASR's published formula beside it.

ASR's terms are those of Microsoft's article on reprotecting failed-over virtual machines: time is
at least checksum + difference / (23 % of disk throughput) + a fifth of both + 20 to 30 minutes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import timedelta

from homeport.model.planning import WINDOW, ResyncPlan, Way
from homeport.units import KiB, MiB

ASR_SHARE = 0.23
"""The part of a disk's throughput that ASR reckons with for the differences."""
ASR_SCALE_OUT = (timedelta(minutes=20), timedelta(minutes=30))
"""What ASR adds for its own service growing before it begins."""
GB = 1024
"""Megabytes in the article's gigabyte."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A time with its bounds."""

    low: timedelta
    likely: timedelta
    high: timedelta


@dataclass(frozen=True, kw_only=True, slots=True)
class AsrEstimate:
    """ASR's formula with its terms."""

    checksum: timedelta
    difference: timedelta
    backlog: timedelta
    low: timedelta
    high: timedelta


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """
    What was measured, in bytes of a disk's data a second; 0 where nothing was measured yet.

    `link` is that of a first copy, which ships and lands at the same time; `delta` of what is
    shipped whole and then landed; `digest` of a host's digesting, and `compare` of comparisons as
    they came out, with all waits. `preparing` and `fixed` are seconds: a reprotect's tasks before
    the resync, and what a resync takes whatever its size.
    """

    read: float = 0.0
    digest: float = 0.0
    link: float = 0.0
    churn: float = 0.0
    delta: float = 0.0
    compare: float = 0.0
    preparing: float = 0.0
    fixed: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """
    Ours: the phases in order, and the whole, until the first point of the new direction is listed.

    `catching_up` comes after that and is no part of the whole: what is written meanwhile lands as
    points of its own.
    """

    preparing: timedelta
    comparing: timedelta
    moving: timedelta
    catching_up: timedelta
    total: Span
    listing: timedelta = timedelta(0)


DEFAULT_RATES = Rates(
    read=500e6, digest=500e6, link=100e6, delta=67e6, compare=400e6, preparing=3.0, fixed=2.0
)
"""Used until this item has measured its own: a plain SATA SSD and a gigabit link."""
SERIAL = 1.5
"""A delta's time for each of a first copy's: it lies between once and twice, and is measured."""
WAITING = 1.25
"""A comparison's time for each of its digesting: the sides wait for each other's digests."""
FINE_COST = 2.0
"""The fine level's time for a byte, for each of the coarse one's; measured, end to end."""
WRITE = 64 * KiB
"""What a guest writes at once, reckoned: a smaller one spreads a difference over more of a disk."""
UNKNOWN_SHARE = 0.05
"""The part of a disk that differs, where nothing at all is known of it; twice that at most."""
SURE, GUESSED = 0.25, 0.5
"""Half width of the bounds: all that matters was measured of this item, or some of it was not."""
CADENCE = timedelta(seconds=1.5)
"""Half width besides: both sides look and tell at times of their own, and may just have missed."""


def asr_estimate(*, checksum: timedelta, changed_gb: float, disk_mb_per_s: float) -> AsrEstimate:
    """
    ASR's formula as its article works it: whole MB/s after the 23 %, whole minutes a term.

    72 min of checksum, 45 GB and 60 MB/s give 55 min, 25 min, and 2 h 52 to 3 h 02 in all.
    """
    rate = max(1, round(ASR_SHARE * disk_mb_per_s))
    difference = _minutes(timedelta(seconds=changed_gb * GB / rate))

    backlog = _minutes((checksum + difference) / 5)
    known = checksum + difference + backlog
    return AsrEstimate(
        checksum=checksum,
        difference=difference,
        backlog=backlog,
        low=known + ASR_SCALE_OUT[0],
        high=known + ASR_SCALE_OUT[1],
    )


def _minutes(span: timedelta) -> timedelta:
    """Whole minutes, to the nearest: 54 min 51 s is the article's 55, and 25 min 24 s its 25."""
    return timedelta(minutes=round(span / timedelta(minutes=1)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a plan comes to, in bytes: compared, expected to differ in that, as delta, whole."""

    compared: int = 0
    differs: float = 0.0
    delta: int = 0
    whole: int = 0
    beside: float = 0.0  # the part of the comparison with shipping beside it: 0 to 1, at least
    unknown: bool = False  # nothing is known of what differs in some disk

    @property
    def digested(self) -> float:
        """Bytes of the coarse level that digesting both levels takes as long as."""
        return digested(self.compared, self.differs)


def digested(compared: int, differs: float) -> float:
    """The coarse level once, and the fine one wherever a MiB differs: writes lie scattered."""
    blocks = compared / MiB
    touched = blocks * -math.expm1(-differs / WRITE / blocks) if blocks else 0.0
    return compared + FINE_COST * touched * MiB


def work_of(plan: ResyncPlan) -> Work:
    """A plan's work; where only a bound of the difference is known, what is likely of it."""
    compared = [disk for disk in plan.disks if disk.way is Way.DIFFERENTIAL]
    blind = [disk for disk in compared if not disk.likely]
    return Work(
        compared=sum(disk.reads for disk in compared),
        differs=sum(
            min(disk.likely or disk.reads * UNKNOWN_SHARE, disk.sends) for disk in compared
        ),
        delta=sum(disk.sends for disk in plan.disks if disk.way is Way.EXACT),
        whole=sum(disk.sends for disk in plan.disks if disk.way is Way.FULL),
        beside=sum(max(0, disk.reads - WINDOW) for disk in compared)
        / max(1, sum(disk.reads for disk in compared)),
        unknown=bool(blind),
    )


def saved(work: Work, rates: Rates, comparing: float) -> float:
    """Seconds of shipping that take none of their own, as it goes on beside `comparing`."""
    return work.beside * min(comparing, work.differs / max(rates.link, rates.delta))


def filled(rates: Rates) -> Rates:
    """The rates with what was not measured taken from what was, else from the defaults."""
    default = DEFAULT_RATES
    slowest = min((rate for rate in (rates.digest, rates.read) if rate > 0), default=0.0)
    return replace(
        rates,
        link=rates.link or rates.delta or default.link,
        delta=rates.delta or rates.link / SERIAL or default.delta,
        compare=rates.compare or slowest / WAITING or default.compare,
        preparing=rates.preparing or default.preparing,
        fixed=rates.fixed or default.fixed,
    )


def estimate(plan: ResyncPlan, rates: Rates) -> Estimate:
    """
    Our time for a plan: preparing, comparing, moving, and listing the first point.

    A delta is shipped whole before it lands, so its bytes are paid twice, save what is shipped
    beside a comparison; a full copy lands while it is shipped. What is written meanwhile comes
    after, as points of their own.
    """
    work, known = work_of(plan), filled(rates)
    comparing = work.digested / known.compare
    moving = (work.delta + work.differs) / known.delta + work.whole / known.link
    moving -= saved(work, known, comparing)
    likely = known.preparing + comparing + moving + known.fixed
    more = digested(work.compared, 2 * work.differs) / known.compare - comparing
    doubt = more + work.differs / known.delta if work.unknown else 0.0
    width = SURE if _measured(work, rates) else GUESSED
    return Estimate(
        preparing=timedelta(seconds=known.preparing),
        comparing=timedelta(seconds=comparing),
        moving=timedelta(seconds=moving),
        catching_up=timedelta(seconds=likely * min(0.9, rates.churn / known.delta)),
        listing=timedelta(seconds=known.fixed),
        total=Span(
            low=max(timedelta(0), timedelta(seconds=likely * (1 - width)) - CADENCE),
            likely=timedelta(seconds=likely),
            high=timedelta(seconds=(likely + doubt) * (1 + width)) + CADENCE,
        ),
    )


def _measured(work: Work, rates: Rates) -> bool:
    """Whether everything that this work takes time for was measured of the item."""
    return (
        (rates.compare > 0 or not work.compared)
        and (rates.delta > 0 or not (work.delta or work.compared))
        and (rates.link > 0 or not work.whole)
    )
