"""
What a site has beside libvirt's own: resource groups, availability sets, capacity reservations.

Pure values and sums over them. Storage accounts and networks are not here: they are libvirt's, and
read from its hosts' inventories. A machine is known by its site and name; it belongs to at most one
resource of each kind, and keeps that when it moves to another host of the site.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from homeport.model.host import Network, Pool
from homeport.model.ids import HostName, ItemId, SiteName

MADE_SUFFIX = "-asr"
"""What a group, network or set that Homeport makes has after the name it stands for."""
ACCOUNT_SUFFIX = "asr"
"""The same of a storage account, whose names have no dashes in ASR."""


class ResourceKind(StrEnum):
    """The three kinds; the text is how people and the API call them."""

    GROUP = "resource-group"
    SET = "availability-set"
    RESERVATION = "capacity-reservation"

    @property
    def words(self) -> str:
        """For messages."""
        return self.value.replace("-", " ")


class LockLevel(StrEnum):
    """What a lock on a resource group keeps from being done in it."""

    READ_ONLY = "read-only"
    DELETE = "delete"


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupLock:
    """A lock that somebody has put on a group; Homeport puts none there, so each is foreign."""

    name: str
    level: LockLevel


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """What is held back on one host. Memory in bytes."""

    memory: int
    vcpus: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    """
    One resource of a site.

    `lock` is for groups, `holds` for capacity reservations. `made_for` is the item it was made for
    by Homeport, which takes it away again with the item if nobody else uses it.
    """

    kind: ResourceKind
    name: str
    lock: GroupLock | None = None
    holds: dict[HostName, Hold] = field(default_factory=dict)
    made_for: ItemId | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Membership:
    """A machine of the site belongs to a resource."""

    machine: str
    kind: ResourceKind
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteResources:
    """All resources of one site, and who belongs to them."""

    resources: tuple[Resource, ...] = ()
    memberships: tuple[Membership, ...] = ()

    def find(self, kind: ResourceKind, name: str | None) -> Resource | None:
        """The resource of that name."""
        return next((r for r in self.resources if (r.kind, r.name) == (kind, name)), None)

    def of_kind(self, kind: ResourceKind) -> tuple[Resource, ...]:
        """All of a kind."""
        return tuple(resource for resource in self.resources if resource.kind is kind)

    def of(self, machine: str, kind: ResourceKind) -> str | None:
        """The resource of a kind that a machine belongs to."""
        wanted = (machine, kind)
        found = (m.name for m in self.memberships if (m.machine, m.kind) == wanted)
        return next(found, None)

    def members(self, kind: ResourceKind, name: str | None) -> tuple[str, ...]:
        """The machines that belong to a resource, by name."""
        return tuple(
            sorted(m.machine for m in self.memberships if (m.kind, m.name) == (kind, name))
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class HostShape:
    """A host as its last inventory has it. Memory in bytes."""

    name: HostName
    alive: bool
    memory: int
    memory_free: int
    cpus: int
    pools: tuple[Pool, ...] = ()
    networks: tuple[Network, ...] = ()
    machines: tuple[str, ...] = ()

    def pool(self, name: str) -> Pool | None:
        """The pool of that name."""
        return next((pool for pool in self.pools if pool.name == name), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Seated:
    """A machine that runs on a host, or would after a failover. Memory in bytes."""

    host: HostName
    machine: str
    memory: int
    vcpus: int
    runs: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """A site as placing a machine sees it."""

    site: SiteName
    hosts: tuple[HostShape, ...] = ()
    seated: tuple[Seated, ...] = ()
    held: SiteResources = field(default_factory=SiteResources)

    def host(self, name: str) -> HostShape | None:
        """The host of that name."""
        return next((host for host in self.hosts if host.name == name), None)

    def on(self, host: str, *, without: str = "") -> tuple[Seated, ...]:
        """What stands on a host, one machine left out."""
        return tuple(s for s in self.seated if s.host == host and s.machine != without)

    def stand(self, availability_set: str | None, *, without: str) -> Mapping[HostName, str]:
        """Hosts that a member of the set has taken, and which; one machine is left out."""
        members = self.held.members(ResourceKind.SET, availability_set)
        return {
            s.host: s.machine for s in self.seated if s.machine in members and s.machine != without
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """What a machine takes on a host, and the reservation it draws on. Memory in bytes."""

    machine: str
    memory: int
    vcpus: int
    reservation: str | None = None


def held_for_others(around: Surroundings, host: str, need: Need, *, undrawn: bool) -> Hold:
    """
    What is held back on a host for others than `need`'s machine.

    `undrawn` leaves out what running members have taken: it is gone from the free memory already.
    """
    memory = vcpus = 0
    for resource in around.held.of_kind(ResourceKind.RESERVATION):
        hold = resource.holds.get(HostName(host))
        if hold is None or resource.name == need.reservation:
            continue
        drawn = _drawn(around, host, resource.name, need.machine, running=True)
        memory += max(0, hold.memory - drawn.memory) if undrawn else hold.memory
        vcpus += max(0, hold.vcpus - drawn.vcpus) if undrawn else hold.vcpus
    return Hold(memory=memory, vcpus=vcpus)


def left_of(around: Surroundings, host: str, need: Need) -> Hold | None:
    """What its own reservation has left on a host for `need`; None when it draws on none."""
    resource = around.held.find(ResourceKind.RESERVATION, need.reservation)
    if resource is None:
        return None
    hold = resource.holds.get(HostName(host), Hold(memory=0, vcpus=0))
    drawn = _drawn(around, host, resource.name, need.machine, running=False)
    return Hold(memory=hold.memory - drawn.memory, vcpus=hold.vcpus - drawn.vcpus)


def _drawn(around: Surroundings, host: str, name: str, without: str, *, running: bool) -> Hold:
    members = around.held.members(ResourceKind.RESERVATION, name)
    there = [s for s in around.on(host, without=without) if s.machine in members]
    counted = [s for s in there if s.runs or not running]
    return Hold(memory=sum(s.memory for s in counted), vcpus=sum(s.vcpus for s in counted))


def users_of(around: Surroundings, kind: ResourceKind, name: str) -> tuple[str, ...]:
    """The members of a resource that still exist: on a host, or as an item's side."""
    there = {s.machine for s in around.seated} | {m for h in around.hosts for m in h.machines}
    return tuple(m for m in around.held.members(kind, name) if m in there)


def made_name(name: str, suffix: str = MADE_SUFFIX) -> str:
    """The name of what is made to stand for `name`; it never grows over round trips."""
    return name if name.endswith(suffix) else (name[: 63 - len(suffix)] + suffix)


def networks_on(hosts: Iterable[HostShape]) -> tuple[str, ...]:
    """The networks of some hosts, each once."""
    return tuple(sorted({network.name for host in hosts for network in host.networks}))
