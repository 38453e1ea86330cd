"""
Whether a failover in the present direction has been rehearsed: the drill that counts, or why none.

One pure function, asked by the review, the failover's answer, the command line and the item's view,
so that all of them say the same. A drill counts when its guest answered, its cleanup has proved
that nothing is left, and it began after the reprotect into this direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from homeport.model.item import ReplicatedItem, Side


@dataclass(frozen=True, kw_only=True, slots=True)
class Rehearsal:
    """
    What is known of a failover's rehearsal. `missing` says why none counts, empty when one does.

    `failback` means that the failover would bring the machine home; `drilled_at` is the end of the
    drill that counts.
    """

    site: str
    failback: bool
    drilled_at: datetime | None = None
    missing: str = ""

    @property
    def counts(self) -> bool:
        """A test failover has succeeded there since the reprotect into this direction."""
        return self.drilled_at is not None


def rehearsed(item: ReplicatedItem, facts: Mapping[str, Any]) -> Rehearsal:
    """The rehearsal of a failover to the item's standby side, by the item's facts."""
    site, failback = item.standby.site, item.active is Side.RECOVERY
    missing = _missing(item, facts)
    if missing:
        return Rehearsal(site=site, failback=failback, missing=missing)
    ended = datetime.fromisoformat(facts["last_drill"]["ended_at"])
    return Rehearsal(site=site, failback=failback, drilled_at=ended)


def direction_of(item: ReplicatedItem) -> str:
    """The present direction, as drills and resyncs record it."""
    return f"{item.running.site} -> {item.standby.site}"


def warning_of(rehearsal: Rehearsal, item: str) -> str:
    """What a person is told before a failback that nobody has rehearsed; empty when it was."""
    if rehearsal.counts or not rehearsal.failback:
        return ""
    return (
        f"No test failover at {rehearsal.site} has succeeded since the reprotect: "
        f"{rehearsal.missing}. Recommended before failing back: homeport test-failover {item}, "
        f"then homeport test-cleanup {item}."
    )


def words_of(rehearsal: Rehearsal) -> str:
    """How the rehearsal stands, for the item's page."""
    if rehearsal.drilled_at is not None:
        at = f"{rehearsal.drilled_at:%Y-%m-%d %H:%M} UTC"
        return f"a test failover at {rehearsal.site} succeeded, {at}"
    return f"no test failover at {rehearsal.site} counts: {rehearsal.missing}"


def _missing(item: ReplicatedItem, facts: Mapping[str, Any]) -> str:
    """Why no drill counts; empty when the last one does."""
    if facts.get("test"):
        return "the test failover there has not been cleaned up, and counts only then"
    since = _direction_since(item, facts)
    drill = facts.get("last_drill")
    if drill is None:
        return "none has been made"
    ended = str(drill["ended_at"])[:10]
    if since is None or drill.get("direction", direction_of(item)) != direction_of(item):
        return f"the last one, of {ended}, was of an earlier direction"
    if datetime.fromisoformat(drill.get("began_at", drill["ended_at"])) < since:
        return f"the last one, of {ended}, was before that"
    return "" if drill.get("verified") else f"the guest of the last one, of {ended}, did not answer"


def _direction_since(item: ReplicatedItem, facts: Mapping[str, Any]) -> datetime | None:
    """When the present direction began; None while nothing is replicated in it."""
    resync = facts.get("resync")
    if resync is None and item.active is Side.PRIMARY:
        return datetime.min.replace(tzinfo=UTC)  # the first direction of all
    if resync is None or resync.get("direction") != direction_of(item):
        return None
    return datetime.fromisoformat(resync["ended_at"])
