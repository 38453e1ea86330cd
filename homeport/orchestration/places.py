"""
Where a request's things are: hosts, pools, networks and owners, by what the agents last told.

Each function answers from the vault's rows or refuses with a code and a remedy; none asks an agent.
"""

from __future__ import annotations

from homeport.errors import NotFoundError, RefusedError
from homeport.model.host import HostInventory
from homeport.model.ids import SiteName
from homeport.model.item import Seat
from homeport.model.protection import State
from homeport.orchestration.books import Books, HostRow
from homeport.orchestration.ports import ItemRow


class UnreachableError(RefusedError):
    """A host that a request needs and that does not answer."""

    code = "SiteUnreachable"

    def __init__(self, site: str, host: str, *, remedy: str = "") -> None:
        super().__init__(
            f"The agent on {host} in {site} does not answer.",
            cause="The host is off, cut off, or its agent does not run.",
            remedy=remedy or f"Bring {host} back (homeport site show {site}), then ask again.",
        )
        self.site = site
        self.host = host


def host_of(books: Books, site: SiteName, machine: str) -> HostRow:
    """
    The host in a site that has the machine.

    Raises:
        NotFoundError: `UnknownMachine`: none has it.
        UnreachableError: the one that had it does not answer.
    """
    found = [
        host
        for host in books.hosts(site)
        if host.inventory and any(vm.name == machine for vm in host.inventory.machines)
    ]
    if not found:
        raise NotFoundError(
            f"There is no machine {machine} in {site}.",
            code="UnknownMachine",
            cause="None of the site's agents has it in its list.",
            remedy=f"Look at the list (homeport vm list --site {site}).",
        )
    alive = [host for host in found if host.alive]
    if not alive:
        raise UnreachableError(site, found[0].name)
    return alive[0]


def need_cache(books: Books, site: SiteName) -> None:
    """RefusedError (`NoCacheStore`) unless the site has one."""
    if books.site(site).cache is None:
        raise RefusedError(
            f"{site} has no cache store.",
            code="NoCacheStore",
            cause="Points wait in a store in the source's site until they have landed.",
            remedy=f"Give it one (homeport site set-cache {site} URL).",
        )


def host_for(books: Books, site: SiteName, pool: str | None) -> HostRow:
    """A host of the target site with a pool to write to."""
    hosts = books.hosts(site)
    alive = [host for host in hosts if host.alive]
    if not alive:
        raise UnreachableError(site, hosts[0].name if hosts else "any host")
    fitting = [host for host in alive if _pools(host.inventory, pool)]
    if not fitting:
        raise RefusedError(
            f"No host in {site} has a pool {pool or 'that can be written to'}.",
            code="NoPool",
            cause="Replica disks are made in a pool of the target.",
            remedy=f"Make one there, or name another (homeport site show {site}).",
        )
    return fitting[0]


def _pools(inventory: HostInventory | None, name: str | None) -> list[str]:
    pools = inventory.pools if inventory else ()
    return [pool.name for pool in pools if pool.writable and name in (None, pool.name)]


def pool_of(host: HostRow) -> str:
    """The pool to write to where none was named: the first of the host's that can be."""
    return next(iter(_pools(host.inventory, None)), "")


def owner_of(books: Books, site: str, host: str, machine: str) -> ItemRow | None:
    """The item that a host's machine belongs to, on either side."""
    for row in books.items():
        seats = (row.item.primary, row.item.recovery)
        there = any((s.site, s.host, s.machine) == (site, host, machine) for s in seats)
        if there and row.state is not State.DISABLED:
            return row
    return None


def need_alive(books: Books, seat: Seat, *, remedy: str = "") -> None:
    """UnreachableError unless the seat's host was heard within its lease."""
    if not books.host_alive(seat.host):
        raise UnreachableError(seat.site, seat.host, remedy=remedy)


def need_network(books: Books, seat: Seat, network: str) -> None:
    """NotFoundError (`NetworkMissing`) unless the seat's host has the network."""
    host = next((host for host in books.hosts(seat.site) if host.name == seat.host), None)
    networks = host.inventory.networks if host and host.inventory else ()
    if network not in {known.name for known in networks}:
        raise NotFoundError(
            f"{seat.host} in {seat.site} has no network {network}.",
            code="NetworkMissing",
            cause="The test machine would have nothing to be attached to.",
            remedy=f"Name one it has (homeport site show {seat.site}), or none: it is isolated.",
        )
