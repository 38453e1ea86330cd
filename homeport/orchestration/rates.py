"""
Measured rates of an item, and its estimates held against what resyncs took. Pure.

Rates come from its first copy, its resyncs, its points and both sides' digesting; what was never
measured is a default, and the estimate says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from homeport.model.codec import from_plain, to_plain
from homeport.model.estimate import DEFAULT_RATES, Rates
from homeport.model.messages import ItemReport, PointReport
from homeport.model.operations import SideFacts
from homeport.model.reports import ResyncRecord
from homeport.orchestration.ports import Json
from homeport.units import MiB

TELLING = 256 * MiB
"""Bytes from which on a copy's time says something of the link, not of the job."""
KEPT_RECORDS = 10
"""Resyncs remembered of an item."""


def rates_of(facts: Mapping[str, Json], *reports: ItemReport | None) -> Rates:
    """Measured rates where there are some: what the reports show now, then what was kept."""
    kept = facts.get("rates", {})
    churn = (churn_of(report.points) for report in reports if report)
    return Rates(
        read=DEFAULT_RATES.read,
        digest=_number(kept.get("digest")) or DEFAULT_RATES.digest,
        link=_link(facts, reports) or DEFAULT_RATES.link,
        churn=next((rate for rate in churn if rate), _number(kept.get("churn"))),
    )


def as_sides_digest(rates: Rates, *sides: SideFacts | None) -> Rates:
    """The rates with what the sides have measured now: the slower one digests for both."""
    digests = [side.digest_rate for side in sides if side and side.digest_rate > 0]
    return replace(rates, digest=min(digests, default=rates.digest))


def measured(rates: Rates) -> dict[str, Json]:
    """What of the rates is worth keeping: those that are no defaults."""
    default = {"read": 0.0, "digest": DEFAULT_RATES.digest, "link": DEFAULT_RATES.link}
    values = {"digest": rates.digest, "link": rates.link, "churn": rates.churn}
    return {name: value for name, value in values.items() if value not in (0, default.get(name))}


def basis_of(rates: Rates) -> str:
    """What an estimate rests on, for people."""
    names = {"digest": "digest rate", "link": "link rate", "churn": "churn"}
    known = measured(rates)
    own = ", ".join(word for name, word in names.items() if name in known)
    guessed = ", ".join(word for name, word in names.items() if name not in known)
    parts = [f"measured of this item: {own}"] if own else []
    return "; ".join([*parts, f"not measured yet, assumed: {guessed}"] if guessed else parts)


def link_rate(moved: int, seconds: float) -> float | None:
    """Bytes a second of a copy; None for one too small or too short to say anything."""
    return moved / seconds if moved >= TELLING and seconds > 0 else None


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


def _link(facts: Mapping[str, Json], reports: Sequence[ItemReport | None]) -> float:
    """The rate at this moment, then the last one measured, then that of the first copy."""
    now = (report.progress.rate for report in reports if report and report.progress)
    took = _number(facts.get("seed_took")) or _number(facts.get("enable_took"))
    moved = int(_number(facts.get("enable_moved")))
    first = link_rate(moved, took) or 0.0
    return next((rate for rate in now if rate > 0), 0.0) or _number(
        facts.get("rates", {}).get("link") or first
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
