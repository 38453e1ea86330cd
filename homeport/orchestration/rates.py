"""
Measured rates of an item, and its estimates held against what resyncs took. Pure.

Rates come from its first copy, its resyncs, its points and both sides' digesting; what was never
measured is a default, and the estimate says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import combinations, pairwise
from statistics import median

from homeport.model.codec import from_plain, to_plain
from homeport.model.estimate import Rates, digested, filled, work_of
from homeport.model.messages import ItemReport, PointReport
from homeport.model.operations import SideFacts
from homeport.model.planning import ResyncPlan, Way
from homeport.model.reports import ResyncRecord
from homeport.orchestration.ports import Json
from homeport.units import MiB

TELLING = 64 * MiB
"""Bytes from which on a time says something of a rate, not of the job around it."""
APART = 16 * MiB
"""Bytes by which two points must differ, for their times to be compared."""
LOOKED_AT = 40
"""Points of an item that are looked at: the newest."""
LONGEST_FIXED = 30.0
"""Seconds above which a small resync had waited for something."""
KEPT_RECORDS = 10
"""Resyncs remembered of an item."""
NAMES = {
    "compare": "comparisons",
    "digest": "digest rate",
    "delta": "rate of deltas",
    "link": "rate of the first copy",
    "churn": "churn",
    "preparing": "time to prepare",
    "fixed": "time to list a point",
}
"""What is measured of an item, by its field in `Rates`, for people."""


def rates_of(facts: Mapping[str, Json], *reports: ItemReport | None) -> Rates:
    """
    What was measured: by the points and the first copy, and by earlier resyncs.

    Points are many and small, resyncs few and large: a delta's rate is of both where both tell.
    """
    kept = {name: _number(facts.get("rates", {}).get(name)) for name in NAMES}
    told = [report.points for report in reports if report]
    churn = next((rate for rate in map(churn_of, told) if rate), kept["churn"])
    by_points = next((rate for rate in map(delta_of, told) if rate), 0.0)
    delta = blended(by_points or kept["delta"], kept["delta"] or by_points)
    link = kept["link"] or _first_copy(facts, kept["fixed"])
    return Rates(**{**kept, "churn": churn, "delta": delta, "link": link})


def as_sides_digest(rates: Rates, *sides: SideFacts | None) -> Rates:
    """The rates with what the sides have measured now: the slower one digests for both."""
    digests = [side.digest_rate for side in sides if side and side.digest_rate > 0]
    return replace(rates, digest=min(digests, default=rates.digest))


def measured(rates: Rates) -> dict[str, Json]:
    """What of the rates is known, to be kept."""
    return {name: value for name in NAMES if (value := getattr(rates, name)) > 0}


def basis_of(rates: Rates) -> str:
    """What an estimate rests on, for people."""
    known = measured(rates)
    own = ", ".join(word for name, word in NAMES.items() if name in known)
    guessed = ", ".join(word for name, word in NAMES.items() if name not in known)
    parts = [f"measured of this item: {own}"] if own else []
    return "; ".join([*parts, f"not measured yet, assumed: {guessed}"] if guessed else parts)


def link_rate(moved: int, seconds: float) -> float | None:
    """Bytes a second of a copy; None for one too small or too short to say anything."""
    return moved / seconds if moved >= TELLING and seconds > 0 else None


def learned(rates: Rates, plan: ResyncPlan, record: ResyncRecord) -> Rates:
    """
    The rates with what a resync has taught, once it has ended.

    A large one teaches the rate of its way, a small one what does not depend on size. One of
    several ways at once teaches only how long preparing takes.
    """
    rates = replace(rates, preparing=record.preparing or rates.preparing)
    ways = {disk.way for disk in plan.disks if disk.way is not Way.NOTHING}
    work, seconds = work_of(plan), record.actual - record.preparing
    if record.changed is None or len(ways) > 1 or seconds <= 0:
        return rates
    differs = record.changed
    if work.compared + differs < TELLING:
        rest = seconds - differs / filled(rates).delta - work.compared / filled(rates).compare
        return replace(rates, fixed=min(max(rest, 0.01), LONGEST_FIXED))
    left = seconds - min(rates.fixed, seconds / 2)
    if Way.DIFFERENTIAL in ways:
        comparing = max(left - differs / filled(rates).delta, left / 4)
        rate = digested(work.compared, differs) / comparing
        return replace(rates, compare=blended(rates.compare, rate))
    rate = differs / left
    if Way.FULL in ways:
        return replace(rates, link=blended(rates.link, rate))
    return replace(rates, delta=blended(rates.delta, rate))


def blended(before: float, now: float) -> float:
    """One rate of two: the mean of the times a byte takes, so that one odd run misleads half."""
    return 2 / (1 / before + 1 / now) if before > 0 and now > 0 else before or now


def delta_of(points: Sequence[PointReport]) -> float:
    """
    Bytes a second from a point's capture until it is listed, by points of different sizes.

    The times are of two hosts' clocks, so only differences between points are used: the median
    over all pairs, which neither a clock that is wrong nor a point that waited can mislead.
    """
    ordered = sorted(points, key=lambda point: point.position)
    own = [
        (point.changed, (point.landed_at - point.taken_at).total_seconds())
        for before, point in pairwise(ordered[-LOOKED_AT:])
        if point.taken_at >= before.landed_at
    ]
    paces = [
        (times[1] - times[0]) / (sizes[1] - sizes[0])
        for sizes, times in (zip(*pair, strict=True) for pair in combinations(sorted(own), 2))
        if sizes[1] - sizes[0] >= APART
    ]
    pace = median(paces) if paces else 0.0
    return 1 / pace if pace > 0 else 0.0


def churn_of(points: Sequence[PointReport]) -> float:
    """Bytes a second that the guest wrote between its points; 0 where that is not known."""
    ordered = sorted(points, key=lambda point: point.position)
    seconds = (ordered[-1].taken_at - ordered[0].taken_at).total_seconds() if ordered else 0.0
    return sum(point.changed for point in ordered[1:]) / seconds if seconds > 0 else 0.0


def remember_resync(facts: Mapping[str, Json], record: ResyncRecord) -> list[Json]:
    """The item's list of resyncs with one more, the oldest beyond ten let go."""
    return [*facts.get("resyncs", []), to_plain(ResyncRecord, record)][-KEPT_RECORDS:]


def resyncs_of(facts: Mapping[str, Json]) -> tuple[ResyncRecord, ...]:
    """The item's resyncs, oldest first."""
    return from_plain(tuple[ResyncRecord, ...], facts.get("resyncs", []))


def checksum_term(facts: Mapping[str, Json]) -> timedelta:
    """ASR's checksum term: the time of this item's own enable job."""
    return timedelta(seconds=_number(facts.get("enable_took")))


def _first_copy(facts: Mapping[str, Json], fixed: float) -> float:
    """The rate of the first copy, by its data; by what it was stored as, of an older server."""
    took = _number(facts.get("seed_took")) or _number(facts.get("enable_took"))
    copied = _number(facts.get("enable_changed")) or _number(facts.get("enable_moved"))
    return link_rate(int(copied), took - min(fixed, took / 2)) or 0.0


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
