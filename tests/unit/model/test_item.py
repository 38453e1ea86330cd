"""The two sides of an item."""

from __future__ import annotations

import pytest

from homeport.model.ids import HostName, ItemId, SiteName
from homeport.model.item import ReplicatedItem, Seat, Side


def seat(site: str) -> Seat:
    return Seat(site=SiteName(site), host=HostName(f"{site}-1"), machine="web", pool="default")


@pytest.mark.parametrize(
    ("active", "runs", "stands_by"),
    [(Side.PRIMARY, "east", "west"), (Side.RECOVERY, "west", "east")],
)
def test_one_side_runs_and_the_other_stands_by(active: Side, runs: str, stands_by: str) -> None:
    item = ReplicatedItem(
        id=ItemId("i"),
        name="web",
        primary=seat("east"),
        recovery=seat("west"),
        active=active,
        epoch=1,
        policy="default",
    )
    assert (item.running.site, item.standby.site) == (runs, stands_by)
    assert item.seat(active) is item.running
    assert item.seat(active.other) is item.standby
    assert active.other.other is active
