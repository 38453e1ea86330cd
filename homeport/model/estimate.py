"""
How long a reprotect takes: our estimate from measured rates, and ASR's published formula beside it.

ASR's terms are those of Microsoft's article on reprotecting failed-over virtual machines: time is
at least checksum + difference / (23 % of disk throughput) + a fifth of both + 20 to 30 minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from homeport.model.planning import ResyncPlan, Way

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
    """Measured rates in bytes a second; 0 where nothing was measured yet. Churn likewise."""

    read: float = 0.0
    digest: float = 0.0
    link: float = 0.0
    churn: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Ours: the phases in order, and the whole."""

    preparing: timedelta
    comparing: timedelta
    moving: timedelta
    catching_up: timedelta
    total: Span


DEFAULT_RATES = Rates(read=500e6, digest=800e6, link=100e6)
"""Used until this item has measured its own: a plain SATA SSD and a gigabit link."""
PREPARING = timedelta(seconds=5)
"""Switching off, renaming, one rotation: measured at 2 to 6 s, whatever the disk's size."""
SURE = 0.2
"""Half width of the bounds where the bytes are known; `UNSURE` where only their bound is."""
UNSURE = 0.6


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


def estimate(plan: ResyncPlan, rates: Rates) -> Estimate:
    """Our time for a plan: comparing, moving and the writes that come meanwhile."""
    read = rates.read or DEFAULT_RATES.read
    digest = min(read, rates.digest or DEFAULT_RATES.digest)
    link = min(read, rates.link or DEFAULT_RATES.link)
    compared = sum(disk.reads for disk in plan.disks if disk.way is Way.DIFFERENTIAL)
    exact = sum(disk.sends for disk in plan.disks if disk.way is not Way.DIFFERENTIAL)
    guessed = sum(disk.sends for disk in plan.disks if disk.way is Way.DIFFERENTIAL)
    comparing = compared / digest
    moving = (exact + guessed * 0.1) / link
    catching_up = (comparing + moving) * min(0.9, rates.churn / link)
    total = PREPARING.total_seconds() + comparing + moving + catching_up
    width = UNSURE if guessed else SURE
    return Estimate(
        preparing=PREPARING,
        comparing=timedelta(seconds=comparing),
        moving=timedelta(seconds=moving),
        catching_up=timedelta(seconds=catching_up),
        total=Span(
            low=timedelta(seconds=total * (1 - width)),
            likely=timedelta(seconds=total),
            high=timedelta(seconds=total * (1 + width)),
        ),
    )
