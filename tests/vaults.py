"""Vaults for tests: fresh ones on either database, with a clock that tests move."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

from homeport.catalog.catalog import Catalog
from homeport.catalog.vault import VaultRows
from homeport.model.ids import HostName, ItemId, SiteName
from homeport.model.item import ReplicatedItem, Seat, Side
from homeport.model.messages import StoreAddress
from homeport.model.protection import State
from homeport.orchestration.engine import DBOS_VERSION

LEASE = timedelta(seconds=60)
EAST, WEST = SiteName("east"), SiteName("west")
HOST_E, HOST_W = HostName("e1"), HostName("w1")
ITEM = ItemId("item-1")


@dataclass
class Clock:
    """Moves when told."""

    now: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Names:
    """Ids that tests can foresee."""

    prefix: str = "id"
    numbers: count[int] = field(default_factory=lambda: count(1))

    def __call__(self) -> str:
        return f"{self.prefix}-{next(self.numbers)}"


def open_catalog(url: str, clock: Clock | None = None, *, names: Names | None = None) -> Catalog:
    names = names or Names()
    return Catalog.open(
        url,
        clock=clock or Clock(),
        new_id=names,
        new_token=lambda: f"token-{names()}",
        lease=LEASE,
        dbos_version=DBOS_VERSION,
    )


def seat(site: SiteName, host: HostName, machine: str = "vm1") -> Seat:
    return Seat(site=site, host=host, machine=machine, pool="default")


def an_item(
    item: ItemId = ITEM, *, name: str = "vm1", active: Side = Side.PRIMARY, epoch: int = 1
) -> ReplicatedItem:
    return ReplicatedItem(
        id=item,
        name=name,
        primary=seat(EAST, HOST_E, name),
        recovery=seat(WEST, HOST_W, name),
        active=active,
        epoch=epoch,
        policy="default",
    )


def furnish(rows: VaultRows, *, state: State = State.PROTECTED) -> None:
    """Two sites with a cache store and a host each, and one item between them."""
    for site, host in ((EAST, HOST_E), (WEST, HOST_W)):
        rows.add_site(site, StoreAddress(name=f"cache-{site}", url=f"file:///cache/{site}"))
        rows.agent_rows.hear(host, site, agent_version="1", protocol=2)
    rows.add_item(an_item(), state=state, facts={})
