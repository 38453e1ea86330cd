"""Which drill counts for a failover, and what is said where none does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from homeport.model.ids import HostName, ItemId, SiteName
from homeport.model.item import ReplicatedItem, Seat, Side
from homeport.model.rehearsal import direction_of, rehearsed, warning_of, words_of

T0 = datetime(2026, 3, 14, 9, 30, tzinfo=UTC)
AWAY, HOME = "west -> east", "east -> west"


def item(active: Side) -> ReplicatedItem:
    def seat(site: str) -> Seat:
        return Seat(site=SiteName(site), host=HostName(f"{site}-1"), machine="shop", pool="disks")

    return ReplicatedItem(
        id=ItemId("i"), name="shop", primary=seat("east"), recovery=seat("west"),
        active=active, epoch=2, policy="default",
    )  # fmt: skip


def at(hours: float) -> str:
    return (T0 + timedelta(hours=hours)).isoformat()


def resync(direction: str, hours: float = 0.0) -> dict[str, Any]:
    return {"direction": direction, "ended_at": at(hours)}


def drill(direction: str, hours: float = 1.0, **changes: Any) -> dict[str, Any]:
    began, ended = at(hours), at(hours + 0.5)
    made = {"direction": direction, "began_at": began, "ended_at": ended, "verified": True}
    return {**made, **changes}


COUNTS: dict[str, tuple[Side, dict[str, Any]]] = {
    "at home, since the reprotect": (
        Side.RECOVERY,
        {"resync": resync(AWAY), "last_drill": drill(AWAY)},
    ),
    "in the first direction, which no resync began": (Side.PRIMARY, {"last_drill": drill(HOME)}),
    "protected again as at first": (
        Side.PRIMARY,
        {"resync": resync(HOME), "last_drill": drill(HOME)},
    ),
    "one that an older server recorded": (
        Side.RECOVERY,
        {"resync": resync(AWAY), "last_drill": {"ended_at": at(1), "verified": True}},
    ),
}

MISSING: dict[str, tuple[Side, dict[str, Any], str]] = {
    "none at all": (Side.RECOVERY, {"resync": resync(AWAY)}, "none has been made"),
    "not cleaned up": (
        Side.RECOVERY,
        {"resync": resync(AWAY), "last_drill": drill(AWAY), "test": {"machine": "shop-test"}},
        "has not been cleaned up",
    ),
    "of the other direction": (
        Side.RECOVERY,
        {"resync": resync(AWAY, 2), "last_drill": drill(HOME, 1)},
        "2026-03-14, was of an earlier direction",
    ),
    "of the other direction, though after the resync": (
        Side.RECOVERY,
        {"resync": resync(AWAY), "last_drill": drill(HOME)},
        "earlier direction",
    ),
    "of the same direction, a round trip ago": (
        Side.RECOVERY,
        {"resync": resync(AWAY, 5), "last_drill": drill(AWAY, 1)},
        "was before that",
    ),
    "begun before the reprotect, and ended after it": (
        Side.RECOVERY,
        {"resync": resync(AWAY, 1.2), "last_drill": drill(AWAY, 1)},
        "was before that",
    ),
    "its guest was silent": (
        Side.RECOVERY,
        {"resync": resync(AWAY), "last_drill": drill(AWAY, verified=False)},
        "did not answer",
    ),
    "not reprotected yet, first time": (Side.RECOVERY, {}, "none has been made"),
    "not reprotected yet, after a round trip": (
        Side.RECOVERY,
        {"resync": resync(HOME), "last_drill": drill(AWAY)},
        "earlier direction",
    ),
    "home again and not reprotected": (
        Side.PRIMARY,
        {"resync": resync(AWAY), "last_drill": drill(HOME)},
        "earlier direction",
    ),
}


@pytest.mark.parametrize(("active", "facts"), COUNTS.values(), ids=COUNTS)
def test_a_drill_that_counts(active: Side, facts: dict[str, Any]) -> None:
    found = rehearsed(item(active), facts)
    assert (found.counts, found.missing) == (True, "")
    assert found.drilled_at == datetime.fromisoformat(facts["last_drill"]["ended_at"])
    assert warning_of(found, "shop") == ""
    assert "succeeded, 2026-03-14" in words_of(found)


@pytest.mark.parametrize(("active", "facts", "missing"), MISSING.values(), ids=MISSING)
def test_none_counts_and_it_is_said_why(active: Side, facts: dict[str, Any], missing: str) -> None:
    found = rehearsed(item(active), facts)
    assert (found.counts, found.drilled_at) == (False, None)
    assert missing in found.missing
    assert missing in words_of(found)


@pytest.mark.parametrize(
    ("active", "site", "warned"), [(Side.RECOVERY, "east", True), (Side.PRIMARY, "west", False)]
)
def test_only_a_failback_is_warned_of(active: Side, site: str, warned: bool) -> None:
    found = rehearsed(item(active), {})
    warning = warning_of(found, "shop")
    assert (found.site, found.failback, bool(warning)) == (site, warned, warned)
    if warned:
        assert "homeport test-failover shop" in warning
        assert "homeport test-cleanup shop" in warning


@pytest.mark.parametrize(("active", "told"), [(Side.PRIMARY, HOME), (Side.RECOVERY, AWAY)])
def test_directions_are_told_as_resyncs_record_them(active: Side, told: str) -> None:
    assert direction_of(item(active)) == told
