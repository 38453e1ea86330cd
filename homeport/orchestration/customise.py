"""
A reprotect as asked for, and what it goes into: each setting, there or made, fixed or chosen. Pure.

What a person names must exist: `check_asked` refuses the rest before anything is asked of agents.
What stood there at the last direction and went missing is made anew, as `<name>-asr`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from homeport.errors import NotFoundError, RefusedError
from homeport.model.capacity import capacity_errors, free_on
from homeport.model.estimate import DEFAULT_RATES, Rates
from homeport.model.ids import HostName, check_name
from homeport.model.item import ReplicatedItem, Seat, Side
from homeport.model.machine import PowerState
from homeport.model.operations import AskFacts, Problem, SideFacts
from homeport.model.requests import ProtectRequest, ReprotectRequest
from homeport.model.resources import (
    ACCOUNT_SUFFIX,
    Need,
    ResourceKind,
    Surroundings,
    made_name,
)
from homeport.model.review import keeps_machine
from homeport.model.target import Setting, Target
from homeport.orchestration.networks import Networks, fit_networks, networks_of, towards
from homeport.orchestration.placement import Wanted, place
from homeport.orchestration.ports import ItemRow
from homeport.units import show_size

GROUP, SET, RESERVATION = ResourceKind
LISTS = {GROUP: "group", SET: "set", RESERVATION: "capacity"}
"""Kind to the command that lists it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reversal:
    """A reprotect as asked for, with what the vault knows. `mapped`: from the running side."""

    row: ItemRow
    asked: ReprotectRequest
    mapped: Mapping[str, str]
    cache: str  # its URL; empty when the running side's site has none
    cache_users: tuple[str, ...] = ()  # other items whose points wait in it
    lock: str = ""  # the name of ours
    around: Surroundings | None = None  # the standby side's site
    rates: Rates = DEFAULT_RATES  # measured ones where there are some

    @property
    def site(self) -> Surroundings:
        """The standby side's site; an empty one where nothing is known of it."""
        return self.around or Surroundings(site=self.row.item.standby.site)

    @property
    def cache_url(self) -> str:
        """The running site's cache store as it will be; empty for none."""
        return self.asked.cache.url if self.asked.cache else self.cache

    @property
    def moves(self) -> bool:
        """Another host was asked for than the one that has the old disks."""
        return self.asked.host not in (None, self.row.item.standby.host)

    @property
    def pool(self) -> Setting:
        """Where the replica's disks will be: as asked, as before, or a new storage account."""
        left_in = self.row.item.standby.pool
        host = self.site.host(self.asked.host or self.row.item.standby.host)
        if self.asked.pool is not None:
            return Setting(value=self.asked.pool)
        if host is None or not host.memory or not left_in or host.pool(left_in):
            return Setting(value=left_in)  # as before, also where no inventory has come yet
        if self.moves:
            return Setting(value=next(p.name for p in host.pools if p.writable))
        name = made_name(self.row.item.running.pool or left_in, ACCOUNT_SUFFIX)
        return Setting(value=name, new=host.pool(name) is None)

    @property
    def item(self) -> ReplicatedItem:
        """The item, with the host and pool of its standby side as they will be."""
        item = self.row.item
        host = HostName(self.asked.host or item.standby.host)
        seat = replace(item.standby, host=host, pool=self.pool.value)
        if item.active is Side.RECOVERY:
            return replace(item, primary=seat)
        return replace(item, recovery=seat)

    def networks(self, running: SideFacts | None) -> Networks:
        """The running machine's networks to the other side's."""
        return fit_networks(
            networks_of(running.definition if running else None),
            asked=self.asked.networks,
            mapped=self.mapped,
            came_by=towards(self.row.facts, self.row.item.active),
        )

    def question(self, running: SideFacts | None) -> AskFacts:
        """What the old side is asked; the running side is asked first, for its definition."""
        definition = running.definition if running else None
        return AskFacts(
            item=self.row.item.id,
            networks=tuple(sorted({to for to in self.networks(running).values() if to})),
            memory=definition.memory if definition else 0,
            pool=self.item.standby.pool,
            new_pool=self.pool.new,
            name=self.row.item.name,
            definition=definition,
        )

    def left_in(self, kind: ResourceKind) -> str:
        """The resource the standby machine was in when this direction was last set up."""
        places = self.row.facts.get("places", {}).get(self.row.item.active.other.value, {})
        return str(places.get(kind.value) or "")

    def stays(self, old: SideFacts | None) -> bool:
        """Whether the old machine is there and will be kept."""
        there = old is not None and old.machine_state is not PowerState.ABSENT
        return there and keeps_machine(self.row.item, asked=self.asked.keep_machine)


def check_asked(around: Surroundings, seat: Seat, asked: ReprotectRequest | ProtectRequest) -> None:
    """
    Refuse what a request names and the target site does not have.

    Raises:
        NotFoundError: `UnknownHost`, `UnknownPool`, `UnknownResourceGroup`,
        `UnknownAvailabilitySet`, `UnknownCapacityReservation`.
        RefusedError: as `place` for a host that is asked for.
    """
    for kind, name in asked_of(asked).items():
        if name and around.held.find(kind, check_name(kind.words, name)) is None:
            raise unknown(around, kind, name)
    if asked.pool is not None:
        check_name("pool", asked.pool)
    if isinstance(asked, ReprotectRequest):
        _check_place(around, seat, asked)


def asked_of(asked: ReprotectRequest | ProtectRequest) -> dict[ResourceKind, str | None]:
    """What a request names, by kind."""
    return {
        GROUP: asked.resource_group,
        SET: asked.availability_set,
        RESERVATION: asked.capacity_reservation,
    }


def unknown(around: Surroundings, kind: ResourceKind, name: str) -> NotFoundError:
    """A resource that a site does not have."""
    names = ", ".join(resource.name for resource in around.held.of_kind(kind)) or "none"
    return NotFoundError(
        f"{around.site} has no {kind.words} {name}.",
        code="Unknown" + kind.words.title().replace(" ", ""),
        cause=f"It has: {names}.",
        remedy=f"Correct the name, or make it first (homeport {LISTS[kind]} create "
        f"{around.site}/{name}).",
    )


def _check_place(around: Surroundings, seat: Seat, asked: ReprotectRequest) -> None:
    if asked.host not in (None, seat.host):
        need = Need(machine=seat.machine, memory=0, vcpus=0)
        place(around, Wanted(need=need, host=asked.host, pool=asked.pool))
        return
    host = around.host(seat.host)
    if asked.pool is None or host is None or not host.memory or host.pool(asked.pool):
        return
    raise NotFoundError(
        f"{seat.host} has no pool {asked.pool}.",
        code="UnknownPool",
        cause=f"Its pools: {', '.join(pool.name for pool in host.pools) or 'none'}.",
        remedy=f"Correct the name, or make the pool there (homeport site show {seat.site}).",
    )


def settle(given: Reversal, running: SideFacts | None, old: SideFacts | None) -> Target:
    """Everything the new direction goes into, from what both sides and the vault tell."""
    group, fixed = _group(given, old)
    made = {
        SET: _resource(given, SET, given.asked.availability_set),
        RESERVATION: _resource(given, RESERVATION, given.asked.capacity_reservation),
    }
    networks, new, missing = _networks(given, running, old)
    found = given.site.held.find(GROUP, group.value)
    need = need_of(given, running, made[RESERVATION])
    return Target(
        group=replace(group, fixed=fixed),
        availability_set=made[SET],
        reservation=made[RESERVATION],
        pool=given.pool,
        networks=networks,
        new_networks=new,
        networks_missing=missing,
        group_asked=given.asked.resource_group,
        group_lock=found.lock if found else None,
        group_left_in=_still_there(given, GROUP),
        group_now=given.site.held.of(given.row.item.standby.machine, GROUP) or "",
        pool_gone=given.pool.new,
        problems=tuple(_host_problems(given, made[SET], need)),
        notes=tuple(_notes(given, networks, new, need)),
    )


def need_of(given: Reversal, running: SideFacts | None, reservation: Setting) -> Need:
    """What the machine takes: as it runs now, or as it was when it was protected."""
    definition = running.definition if running else None
    told = given.row.facts.get("shape", {})
    return Need(
        machine=given.row.item.standby.machine,
        memory=definition.memory if definition else told.get("memory", 0),
        vcpus=definition.vcpus if definition else told.get("vcpus", 0),
        reservation=reservation.value if reservation.value and not reservation.new else None,
    )


def _group(given: Reversal, old: SideFacts | None) -> tuple[Setting, str]:
    """The group, and why it cannot be another."""
    if not given.stays(old):
        return _resource(given, GROUP, given.asked.resource_group), ""
    fixed = (
        f"The original machine {given.row.item.standby.machine} is reprotected to, and stays "
        "where it is."
    )
    return _resource(given, GROUP, None), fixed


def _resource(given: Reversal, kind: ResourceKind, asked: str | None) -> Setting:
    if asked is not None:
        return Setting(value=asked)
    held, machine = given.site.held, given.row.item.standby.machine
    name = held.of(machine, kind) or given.left_in(kind)
    if not name or held.find(kind, name):
        return Setting(value=name)
    made = made_name(name)
    return Setting(value=made, new=held.find(kind, made) is None)


def _still_there(given: Reversal, kind: ResourceKind) -> str:
    """The resource the machine was left in, unless it is gone altogether."""
    left_in = given.left_in(kind)
    return left_in if given.site.held.find(kind, left_in) else ""


def _networks(
    given: Reversal, running: SideFacts | None, old: SideFacts | None
) -> tuple[Networks, tuple[str, ...], tuple[str, ...]]:
    """The map, the networks of it to be made, and those that are missing and cannot be."""
    networks = given.networks(running)
    absent = set(old.missing_networks) if old else set()
    makeable = old is not None and "network" in old.makes
    host = given.site.host(given.item.standby.host)
    there = {network.name for network in host.networks} if host else set()
    new, missing = set(), set()
    for name, to in networks.items():
        if to is None or to not in absent:
            continue
        if name in given.asked.networks or not makeable:
            missing.add(to)
            continue
        made = made_name(to)
        networks[name] = made
        if made not in there:
            new.add(made)
    return networks, tuple(sorted(new)), tuple(sorted(missing))


def _host_problems(given: Reversal, availability_set: Setting, need: Need) -> Iterator[Problem]:
    """What speaks against the host: another member of the set on it, or too little room."""
    seat = given.item.standby
    host = given.site.host(seat.host)
    name = availability_set.value
    stand = given.site.stand(name, without=seat.machine) if name else {}
    if seat.host in stand:
        yield _taken(given, seat, name, stand).as_dict()
    if host is not None and host.memory:
        for error in capacity_errors(given.site, host, need):
            yield error.as_dict()


def _taken(given: Reversal, seat: Seat, name: str, stand: Mapping[HostName, str]) -> RefusedError:
    told = ", ".join(f"{machine} on {host}" for host, machine in sorted(stand.items()))
    free = [host.name for host in given.site.hosts if host.alive and host.name not in stand]
    way = f"ask for another host (--host {free[0]}: a full copy)" if free else "add a host"
    return RefusedError(
        f"{seat.host} is taken for availability set {name}. In {seat.site} stand: {told}.",
        code="NoHostForAvailabilitySet",
        cause="Machines of an availability set do not share a host, running or standing by; the "
        f"old disks of {seat.machine} are on {seat.host}.",
        remedy=f"Move the other machine, {way}, or choose another set.",
    )


def _notes(given: Reversal, networks: Networks, new: tuple[str, ...], need: Need) -> Iterator[str]:
    item = given.row.item
    arrow = f"{item.running.site} -> {item.standby.site}"
    for name, to in sorted(networks.items()):
        before = given.mapped.get(name)
        if (
            to is not None
            and to != before
            and (before or name in given.asked.networks or to in new)
        ):
            told = f"was {before}" if before else "there was none"
            yield f"The network mapping {arrow} is rewritten: {name} -> {to} ({told})."
    if given.moves:
        yield (
            f"The replica moves to {given.item.standby.host}, by a full copy. What Homeport has "
            f"made on {item.standby.host} is removed there when it answers; its machine is kept."
        )
    host = given.site.host(given.item.standby.host)
    free = free_on(given.site, host, without=need.machine) if host and host.memory else None
    if free is not None and free < need.memory:
        yield (
            f"Running machines leave {show_size(max(0, free))} of {given.item.standby.host}'s "
            f"memory; a failback would need {show_size(need.memory)}."
        )
