"""Sites with their cache stores and network mappings, and the hosts heard of in them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import RowMapping, select, update

from homeport.catalog.errors import ForeignHostError, NameTakenError, UnknownRowError
from homeport.catalog.tables import caches, hosts, network_mappings, sites
from homeport.catalog.transaction import Transaction
from homeport.model.codec import from_plain, to_plain
from homeport.model.host import HostInventory
from homeport.model.ids import HostName, SiteName
from homeport.model.messages import StoreAddress
from homeport.orchestration.books import HostRow, NetworkMapping, SiteRow


class SiteRepository:
    """The rows of `sites`, `caches` and `network_mappings`."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def all(self) -> tuple[SiteRow, ...]:
        """All sites, by name."""
        return tuple(_site(row) for row in self._transaction.rows(_SITES.order_by(sites.c.name)))

    def get(self, name: str) -> SiteRow:
        """UnknownRowError when there is none."""
        row = self._transaction.row(_SITES.where(sites.c.name == name))
        if row is None:
            raise UnknownRowError("site", name, "homeport site list")
        return _site(row)

    def add(self, name: SiteName) -> None:
        """A new site, whose agents have no token yet; NameTakenError (`SiteExists`)."""
        if not self._transaction.put_new(sites, {"name": name}):
            raise NameTakenError("site", name, code="SiteExists")

    def set_token(self, site: SiteName, token_hash: str) -> None:
        """The hash of the token that the site's agents show from now on."""
        self.get(site)
        self._transaction.change(
            update(sites).where(sites.c.name == site).values(token_hash=token_hash)
        )

    def token_hashes(self) -> dict[SiteName, str]:
        """The hash of each site's token; sites without one are left out."""
        wanted = select(sites).where(sites.c.token_hash.is_not(None))
        return {row["name"]: row["token_hash"] for row in self._transaction.rows(wanted)}

    def set_cache(self, site: SiteName, cache: StoreAddress) -> None:
        """Replace the cache store in a site."""
        self.get(site)
        values = {"name": cache.name, "url": cache.url, "options": dict(cache.options)}
        self._transaction.put(caches, {"site": site}, values)

    def cache_of(self, site: SiteName) -> StoreAddress:
        """UnknownRowError when the site has none."""
        cache = self.get(site).cache
        if cache is None:
            raise UnknownRowError("cache store in site", site, "homeport site list")
        return cache

    def mappings(self) -> tuple[NetworkMapping, ...]:
        """All mappings, in order."""
        wanted = select(network_mappings).order_by(*network_mappings.primary_key.columns)
        return tuple(NetworkMapping(**row) for row in self._transaction.rows(wanted))

    def map_of(self, source: SiteName, target: SiteName) -> dict[str, str]:
        """Mapped networks from one site to another."""
        wanted = select(network_mappings).where(
            network_mappings.c.source_site == source, network_mappings.c.target_site == target
        )
        return {row["network"]: row["to"] for row in self._transaction.rows(wanted)}

    def map_network(self, source: SiteName, network: str, target: SiteName, to: str) -> None:
        """Set one mapping, replacing an earlier one of the same network."""
        key = {"source_site": source, "network": network, "target_site": target}
        self._transaction.put(network_mappings, key, {"to": to})


class HostRepository:
    """
    The rows of `hosts`.

    A host is alive when it was heard within `lease`; nobody could be heard before `serving_since`,
    so for one lease after a start every host that was ever heard counts as alive.
    """

    def __init__(
        self, transaction: Transaction, *, lease: timedelta, serving_since: datetime
    ) -> None:
        self._transaction = transaction
        self._lease = lease
        self._serving_since = serving_since

    def all(self, site: SiteName | None = None) -> tuple[HostRow, ...]:
        """The hosts known, by name; of one site, or of all."""
        wanted = select(hosts).order_by(hosts.c.name)
        if site is not None:
            wanted = wanted.where(hosts.c.site == site)
        return tuple(self._host(row) for row in self._transaction.rows(wanted))

    def alive(self, host: HostName) -> bool:
        """Whether its agent was heard within the lease."""
        seen = self._transaction.session.scalar(
            select(hosts.c.last_seen).where(hosts.c.name == host)
        )
        return self._is_alive(seen)

    def hear(self, host: HostName, site: SiteName, *, agent_version: str, protocol: int) -> None:
        """The host's agent has spoken; ForeignHostError when the name is another site's."""
        values = {
            "last_seen": self._transaction.now,
            "agent_version": agent_version,
            "protocol": protocol,
        }
        mine = update(hosts).where(hosts.c.name == host, hosts.c.site == site)
        if self._transaction.change(mine.values(values)) == 1:
            return
        if not self._transaction.put_new(hosts, {"name": host, "site": site, **values}):
            other = select(hosts.c.site).where(hosts.c.name == host)
            raise ForeignHostError(host, str(self._transaction.session.scalar(other)))

    def put_inventory(self, host: HostName, inventory: HostInventory) -> None:
        """What the host has, as it says itself."""
        plain = to_plain(HostInventory, inventory)
        self._transaction.change(update(hosts).where(hosts.c.name == host).values(inventory=plain))

    def ensure(self, host: HostName, site: SiteName) -> None:
        """A row for a host that something is to be assigned to, though it was never heard."""
        self._transaction.put_new(hosts, {"name": host, "site": site})

    def touch(self, names: Iterable[HostName]) -> None:
        """What the hosts' assignments are made from has changed: their agents are told."""
        touched = sorted(set(names))
        self._transaction.change(
            update(hosts).where(hosts.c.name.in_(touched)).values(revision=hosts.c.revision + 1)
        )
        self._transaction.touched.update(touched)

    def revision(self, host: HostName) -> int:
        """Of the host's assignments; 0 for an unknown one."""
        found = select(hosts.c.revision).where(hosts.c.name == host)
        return self._transaction.session.scalar(found) or 0

    def revisions(self, names: Iterable[HostName]) -> dict[HostName, int]:
        """Revisions of many hosts in one question."""
        wanted = select(hosts.c.name, hosts.c.revision).where(hosts.c.name.in_(sorted(names)))
        return {row["name"]: row["revision"] for row in self._transaction.rows(wanted)}

    def _is_alive(self, seen: datetime | None) -> bool:
        if seen is None:
            return False
        return self._transaction.now - max(seen, self._serving_since) <= self._lease

    def _host(self, row: RowMapping) -> HostRow:
        inventory = row["inventory"]
        return HostRow(
            name=row["name"],
            site=row["site"],
            alive=self._is_alive(row["last_seen"]),
            last_seen=row["last_seen"],
            agent_version=row["agent_version"],
            inventory=None if inventory is None else from_plain(HostInventory, inventory),
        )


_SITES = select(
    sites.c.name, caches.c.name.label("cache"), caches.c.url, caches.c.options
).outerjoin(caches, caches.c.site == sites.c.name)


def _site(row: RowMapping) -> SiteRow:
    cache = None
    if row["cache"] is not None:
        cache = StoreAddress(name=row["cache"], url=row["url"], options=row["options"])
    return SiteRow(name=row["name"], cache=cache)
