"""Assignments: what should be so on each host, and whom a change of it concerns."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import RowMapping, delete, or_, select

from homeport.catalog.items import ItemRepository, item_of
from homeport.catalog.policies import PolicyRepository
from homeport.catalog.sites import HostRepository, SiteRepository
from homeport.catalog.tables import assignments, items
from homeport.catalog.transaction import Transaction
from homeport.model.ids import HostName, ItemId, SiteName, VaultId
from homeport.model.item import Role
from homeport.model.messages import Assignment, StoreAddress
from homeport.model.policy import ReplicationPolicy


class AssignmentRepository:
    """The rows of `assignments`, made whole with item, policy and cache store."""

    def __init__(self, transaction: Transaction, hosts: HostRepository) -> None:
        self._transaction = transaction
        self._hosts = hosts
        self._items = ItemRepository(transaction)
        self._policies = PolicyRepository(transaction)
        self._sites = SiteRepository(transaction)

    def assign(self, item: ItemId, host: HostName, role: str | None, *, replicate: bool) -> None:
        """Set or take away one assignment; the host is told."""
        if role is None:
            gone = delete(assignments).where(assignments.c.item == item, assignments.c.host == host)
            self._transaction.change(gone)
        else:
            self._hosts.ensure(host, self._site_of(item, host))
            values = {"role": Role(role).value, "replicate": replicate}
            self._transaction.put(assignments, {"item": item, "host": host}, values)
        self._hosts.touch([host])

    def remove(self, item: ItemId) -> None:
        """Take all of an item's assignments away."""
        self.touch_item(item)
        self._transaction.change(delete(assignments).where(assignments.c.item == item))

    def of_host(self, host: HostName, vault: VaultId) -> tuple[Assignment, ...]:
        """Everything that should be so on a host; what has no cache store yet is left out."""
        wanted = select(items, assignments.c.role, assignments.c.replicate).join_from(
            items, assignments
        )
        rows = self._transaction.rows(wanted.where(assignments.c.host == host).order_by(items.c.id))
        policies = {policy.name: policy for policy in self._policies.all()}
        caches = {site.name: site.cache for site in self._sites.all()}
        made = (_whole(row, vault, policies, caches) for row in rows)
        return tuple(assignment for assignment in made if assignment is not None)

    def touch_item(self, item: ItemId) -> None:
        """An item's row has changed."""
        self._touch(assignments.c.item == item)

    def touch_policy(self, policy: str) -> None:
        """A policy has changed."""
        self._touch(items.c.policy == policy)

    def touch_site(self, site: SiteName) -> None:
        """A site's cache store has changed."""
        self._touch(or_(items.c.primary_site == site, items.c.recovery_site == site))

    def _touch(self, condition: object) -> None:
        wanted = select(assignments.c.host).join(items, items.c.id == assignments.c.item)
        found = self._transaction.session.scalars(wanted.where(condition))  # type: ignore[arg-type]
        self._hosts.touch(HostName(host) for host in found.all())

    def _site_of(self, item: ItemId, host: HostName) -> SiteName:
        row = self._items.get(item).item
        return next(
            (seat.site for seat in (row.primary, row.recovery) if seat.host == host),
            row.primary.site,
        )


def _whole(
    row: RowMapping,
    vault: VaultId,
    policies: Mapping[str, ReplicationPolicy],
    caches: Mapping[SiteName, StoreAddress | None],
) -> Assignment | None:
    """`cache` is the store of the site that runs the machine; the other's while it has none."""
    item = item_of(row).item
    cache = caches.get(item.running.site) or caches.get(item.standby.site)
    if cache is None:
        return None
    return Assignment(
        item=item.id,
        name=item.name,
        vault=vault,
        role=Role(row["role"]),
        epoch=item.epoch,
        policy=policies[item.policy],
        cache=cache,
        replicate=row["replicate"],
    )
