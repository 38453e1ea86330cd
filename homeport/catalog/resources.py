"""The rows of `resources` and `memberships`, and a site as placing a machine sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sqlalchemy import RowMapping, delete, or_, select

from homeport.catalog.errors import UnknownRowError
from homeport.catalog.items import item_of
from homeport.catalog.sites import HostRepository
from homeport.catalog.tables import items, memberships, resources, sites
from homeport.catalog.transaction import Transaction
from homeport.model.codec import from_plain, to_plain
from homeport.model.host import MachineFacts
from homeport.model.ids import HostName, SiteName
from homeport.model.item import Seat, Side
from homeport.model.machine import PowerState
from homeport.model.protection import State
from homeport.model.resources import (
    GroupLock,
    Hold,
    HostShape,
    Membership,
    Resource,
    ResourceKind,
    Seated,
    SiteResources,
    Surroundings,
)
from homeport.orchestration.books import HostRow
from homeport.orchestration.ports import ItemRow

STANDING = (PowerState.RUNNING, PowerState.PAUSED)
"""Power states in which a machine has its host's memory."""


class ResourceRepository:
    """Groups, sets and reservations of sites, and the machines that belong to them."""

    def __init__(self, transaction: Transaction, hosts: HostRepository) -> None:
        self._transaction = transaction
        self._hosts = hosts

    def of_site(self, site: SiteName) -> SiteResources:
        """All of a site's, by kind and name."""
        mine = select(resources).where(resources.c.site == site)
        members = select(memberships).where(memberships.c.site == site)
        return SiteResources(
            resources=tuple(
                _resource(row)
                for row in self._transaction.rows(mine.order_by(resources.c.kind, resources.c.name))
            ),
            memberships=tuple(
                Membership(machine=row["machine"], kind=row["kind"], name=row["name"])
                for row in self._transaction.rows(
                    members.order_by(memberships.c.machine, memberships.c.kind)
                )
            ),
        )

    def around(self, site: SiteName) -> Surroundings:
        """The site with its hosts and what stands where."""
        hosts = self._hosts.all()
        rows = self._items_in(site)
        shapes = {m.name: m for host in hosts if host.inventory for m in host.inventory.machines}
        here = [host for host in hosts if host.site == site]
        return Surroundings(
            site=site,
            hosts=tuple(_shape(host) for host in here),
            seated=tuple(_once([*_running(here), *_seats(rows, site, shapes)])),
            held=self.of_site(site),
        )

    def claim(self, site: SiteName) -> None:
        """
        Have other transactions that place machines in the site wait for this one's end.

        Two that chose a host at once would each not see the other's. SQLite has one writer anyway.
        """
        self._transaction.row(select(sites.c.name).where(sites.c.name == site).with_for_update())

    def put(self, site: SiteName, resource: Resource) -> None:
        """Make a resource, or replace what it carries; its members stay."""
        lock = None if resource.lock is None else to_plain(GroupLock, resource.lock)
        values = {
            "lock": lock,
            "holds": to_plain(dict[HostName, Hold], resource.holds),
            "made_for": resource.made_for,
        }
        key = {"site": site, "kind": resource.kind, "name": resource.name}
        self._transaction.put(resources, key, values)

    def remove(self, site: SiteName, kind: ResourceKind, name: str) -> None:
        """Forget a resource with its memberships; UnknownRowError when there is none."""
        mine = (memberships.c.site == site, memberships.c.kind == kind, memberships.c.name == name)
        self._transaction.change(delete(memberships).where(*mine))
        row = (resources.c.site == site, resources.c.kind == kind, resources.c.name == name)
        if self._transaction.change(delete(resources).where(*row)) == 0:
            raise UnknownRowError(f"{kind.words} in {site}", name, f"homeport site show {site}")

    def join(self, site: SiteName, machine: str, kind: ResourceKind, name: str) -> None:
        """The machine belongs to that resource from now on, and to no other of its kind."""
        key = {"site": site, "machine": machine, "kind": kind}
        self._transaction.put(memberships, key, {"name": name})

    def leave(self, site: SiteName, machine: str, *kinds: ResourceKind) -> None:
        """The machine belongs to none of the kinds."""
        mine = (memberships.c.site == site, memberships.c.machine == machine)
        self._transaction.change(delete(memberships).where(*mine, memberships.c.kind.in_(kinds)))

    def forget(self, row: ItemRow) -> None:
        """The item ends: what was made for it, and the recovery site's machine, unless it runs."""
        seat = row.item.recovery
        if row.item.active is not Side.RECOVERY:
            self.leave(seat.site, seat.machine, *ResourceKind)
        made = select(resources).where(resources.c.made_for == row.item.id)
        for found in self._transaction.rows(made):
            site, kind, name = found["site"], found["kind"], found["name"]
            if not self.of_site(site).members(kind, name):
                self.remove(site, kind, name)

    def _items_in(self, site: SiteName) -> list[ItemRow]:
        here = or_(items.c.primary_site == site, items.c.recovery_site == site)
        wanted = select(items).where(here, items.c.state != State.DISABLED).order_by(items.c.name)
        return [item_of(row) for row in self._transaction.rows(wanted)]


def _resource(row: RowMapping) -> Resource:
    return Resource(
        kind=row["kind"],
        name=row["name"],
        lock=None if row["lock"] is None else from_plain(GroupLock, row["lock"]),
        holds=from_plain(dict[HostName, Hold], row["holds"]),
        made_for=row["made_for"],
    )


def _shape(host: HostRow) -> HostShape:
    found = host.inventory
    if found is None:
        return HostShape(name=host.name, alive=host.alive, memory=0, memory_free=0, cpus=0)
    return HostShape(
        name=host.name,
        alive=host.alive,
        memory=found.memory,
        memory_free=found.memory_free,
        cpus=found.cpus,
        pools=found.pools,
        networks=found.networks,
        machines=tuple(machine.name for machine in found.machines),
    )


def _running(hosts: Iterable[HostRow]) -> Iterator[Seated]:
    for host in hosts:
        for machine in host.inventory.machines if host.inventory else ():
            if machine.state in STANDING:
                yield Seated(
                    host=host.name,
                    machine=machine.name,
                    memory=machine.memory,
                    vcpus=machine.vcpus,
                    runs=True,
                )


def _seats(
    rows: Iterable[ItemRow], site: SiteName, shapes: Mapping[str, MachineFacts]
) -> Iterator[Seated]:
    """The items' seats in the site; a machine's size is known wherever it is defined."""
    for row in rows:
        for side in Side:
            seat = row.item.seat(side)
            if seat.site == site:
                yield _seat(row, seat, shapes.get(seat.machine), runs=side is row.item.active)


def _seat(row: ItemRow, seat: Seat, shape: MachineFacts | None, *, runs: bool) -> Seated:
    told = row.facts.get("shape", {})
    return Seated(
        host=seat.host,
        machine=seat.machine,
        memory=told.get("memory") or (shape.memory if shape else 0),
        vcpus=told.get("vcpus") or (shape.vcpus if shape else 0),
        runs=runs,
    )


def _once(seated: Iterable[Seated]) -> Iterator[Seated]:
    """Each machine once a host; what runs there is named first and stays."""
    told: set[tuple[str, str]] = set()
    for one in seated:
        if (one.host, one.machine) not in told:
            told.add((one.host, one.machine))
            yield one
