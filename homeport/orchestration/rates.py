"""
Measured rates of an item, and its estimates held against what resyncs took. Pure.

Rates come from its first copy, its resyncs, its points and both sides' digesting; what was never
measured is a default, and the estimate says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import combinations, pairwise
from statistics import median

from homeport.model.codec import from_plain, to_plain
from homeport.model.estimate import Rates, digested, filled, saved, work_of
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
KEPT_LESSONS = 5
"""Resyncs of a way that its rate is learned from: the newest."""
PACES = ("delta", "link", "compare")
"""What resyncs teach of as seconds a byte."""
SPANS = ("preparing", "fixed")
"""What they teach of as seconds."""
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
    What was measured: by the points, the first copy, and earlier resyncs.

    Each resync has a vote, the points and the first copy have one more, and the median counts: a
    run that waited for something misleads no estimate as long as most did not.
    """
    points, first = by_points(facts, *reports), _first_copy(facts)
    deltas = [*_lessons(facts, "delta"), *([1 / points["delta"]] if points["delta"] else [])]
    links = [*_lessons(facts, "link"), *([1 / first] if first else [])]
    return Rates(
        digest=_number(facts.get("rates", {}).get("digest")),
        churn=points["churn"],
        delta=_rate(deltas),
        link=_rate(links),
        compare=_rate(_lessons(facts, "compare")),
        preparing=median(_lessons(facts, "preparing") or [0.0]),
        fixed=median(_lessons(facts, "fixed") or [0.0]),
    )


def by_points(facts: Mapping[str, Json], *reports: ItemReport | None) -> dict[str, float]:
    """
    `churn` and `delta` by the points there are, else as they were kept: both in bytes a second.

    Points go with the direction they were taken in, so keep this before an item is turned around.
    """
    kept, told = facts.get("rates", {}), [report.points for report in reports if report]
    ways: dict[str, Callable[[Sequence[PointReport]], float]] = {
        "churn": churn_of,
        "delta": delta_of,
    }
    return {
        name: next((rate for rate in map(way, told) if rate), _number(kept.get(name)))
        for name, way in ways.items()
    }


def as_sides_digest(rates: Rates, *sides: SideFacts | None) -> Rates:
    """The rates with what the sides have measured now: the slower one digests for both."""
    digests = [side.digest_rate for side in sides if side and side.digest_rate > 0]
    return replace(rates, digest=min(digests, default=rates.digest))


def measured(rates: Rates) -> dict[str, float]:
    """What of the rates is known."""
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


def learned(facts: Mapping[str, Json], plan: ResyncPlan, record: ResyncRecord) -> dict[str, Json]:
    """The item's lessons with those of a resync that has ended, the oldest beyond five let go."""
    taught = lessons_of(rates_of(facts), plan, record)
    known = {name: _lessons(facts, name) for name in (*PACES, *SPANS)}
    for name, lesson in taught.items():
        known[name] = [*known[name], lesson][-KEPT_LESSONS:]
    return {name: lessons for name, lessons in known.items() if lessons}


def lessons_of(rates: Rates, plan: ResyncPlan, record: ResyncRecord) -> dict[str, float]:
    """
    What a resync teaches: seconds a byte for a rate, seconds for the rest.

    A large one teaches the pace of its way, a small one what does not depend on size. One of
    several ways at once teaches only how long preparing takes.
    """
    lessons = {"preparing": record.preparing} if record.preparing else {}
    ways = {disk.way for disk in plan.disks if disk.way is not Way.NOTHING}
    work, seconds, known = work_of(plan), record.actual - record.preparing, filled(rates)
    if record.changed is None or len(ways) > 1 or seconds <= 0:
        return lessons
    differs = record.changed
    if work.compared + differs < TELLING:
        rest = seconds - differs / known.delta - work.compared / known.compare
        return {**lessons, "fixed": min(max(rest, 0.01), LONGEST_FIXED)}
    left = seconds - min(rates.fixed, seconds / 2)
    if Way.DIFFERENTIAL in ways:
        moving = differs / known.delta
        moving -= saved(replace(work, differs=differs), known, left)
        comparing = max(left - moving, left / 4)
        return {**lessons, "compare": comparing / digested(work.compared, differs)}
    return {**lessons, "link" if Way.FULL in ways else "delta": left / differs}


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


def _first_copy(facts: Mapping[str, Json]) -> float:
    """The rate of the first copy, by its data; by what it was stored as, of an older server."""
    fixed = median(_lessons(facts, "fixed") or [0.0])
    took = _number(facts.get("seed_took")) or _number(facts.get("enable_took"))
    copied = _number(facts.get("enable_changed")) or _number(facts.get("enable_moved"))
    return link_rate(int(copied), took - min(fixed, took / 2)) or 0.0


def _lessons(facts: Mapping[str, Json], name: str) -> list[float]:
    return [_number(lesson) for lesson in facts.get("lessons", {}).get(name, [])]


def _rate(paces: Sequence[float]) -> float:
    return 1 / median(paces) if paces else 0.0


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
