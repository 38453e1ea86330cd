"""
Where a machine's replica goes, and its group, set and reservation: settled, made, remembered.

Runs inside a transaction of a request or of a job's step; done twice it has the effect of once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from homeport.model.capacity import CapacityHeldBackError, capacity_errors, free_on
from homeport.model.ids import HostName, SiteName
from homeport.model.item import ReplicatedItem, Seat, Side
from homeport.model.machine import MachineDefinition
from homeport.model.requests import ProtectRequest
from homeport.model.resources import (
    Hold,
    Need,
    Resource,
    ResourceKind,
    Surroundings,
    made_name,
)
from homeport.model.target import Setting, Target
from homeport.orchestration.books import Books, HostRow
from homeport.orchestration.customise import asked_of, check_asked
from homeport.orchestration.placement import Wanted, place
from homeport.orchestration.ports import ItemRow, Json, Vault

GROUP, SET, RESERVATION = ResourceKind
Settings = dict[ResourceKind, Setting]


def put_in_place(
    vault: Vault, item: ReplicatedItem, target: Target, definition: MachineDefinition
) -> dict[str, Json]:
    """Make what the review has marked new, and have the standby machine belong; facts to keep."""
    settings = {
        GROUP: target.group,
        SET: target.availability_set,
        RESERVATION: target.reservation,
    }
    machine = item.standby.machine
    need = Need(machine=machine, memory=definition.memory, vcpus=definition.vcpus)
    belong(vault, item, item.standby, settings, need)
    known = vault.item(item.id).facts.get("places", {})
    return {"places": {**known, item.active.other.value: plain(settings)}, "shape": shape(need)}


def belong(vault: Vault, item: ReplicatedItem, seat: Seat, settings: Settings, need: Need) -> None:
    """Have the machine of a seat belong to these, and to no others."""
    for kind, setting in settings.items():
        if not setting.value:
            vault.resources.leave(seat.site, seat.machine, kind)
            continue
        if setting.new:
            vault.resources.put(seat.site, _made(kind, setting.value, item, seat, need))
        vault.resources.join(seat.site, seat.machine, kind, setting.value)


def _made(kind: ResourceKind, name: str, item: ReplicatedItem, seat: Seat, need: Need) -> Resource:
    """A new resource; a reservation holds what the machine needs, on its host."""
    hold = {seat.host: Hold(memory=need.memory, vcpus=need.vcpus)}
    holds = hold if kind is RESERVATION else {}
    return Resource(kind=kind, name=name, holds=holds, made_for=item.id)


def _first_settings(
    target: Surroundings,
    source: Surroundings,
    machine: str,
    *,
    name: str,
    asked: dict[ResourceKind, str | None],
) -> Settings:
    """
    What a newly protected machine goes into at the target; what was asked for exists.

    Left out: the group `<name>-asr`, after the source's group or else the item, and a set after
    the source's set. No capacity is drawn on unless asked for.
    """
    group = source.held.of(machine, GROUP) or name
    default = {GROUP: group, SET: source.held.of(machine, SET)}
    return {
        kind: _first(target, kind, asked=asked[kind], default=default.get(kind))
        for kind in ResourceKind
    }


def _first(
    target: Surroundings, kind: ResourceKind, *, asked: str | None, default: str | None
) -> Setting:
    if asked is not None or not default:
        return Setting(value=asked or "")
    made = made_name(default)
    return Setting(value=made, new=target.held.find(kind, made) is None)


def _first_places(source: Surroundings, machine: str, settings: Settings) -> dict[str, Json]:
    """The item's fact `places`: where each side's machine was put, or stood already."""
    stood = {kind.value: source.held.of(machine, kind) or "" for kind in ResourceKind}
    return {Side.PRIMARY.value: stood, Side.RECOVERY.value: plain(settings)}


def plain(settings: Settings) -> dict[str, Json]:
    """Settings as the item's facts keep them."""
    return {kind.value: setting.value for kind, setting in settings.items()}


def shape(need: Need) -> dict[str, Json]:
    """What a machine needs, as the item's facts keep it."""
    return {"memory": need.memory, "vcpus": need.vcpus}


@dataclass(frozen=True, kw_only=True, slots=True)
class Put:
    """Where a newly protected machine's replica goes, into what, and why."""

    seat: Seat
    settings: Settings
    places: dict[str, Json]
    need: Need
    reason: str


def settle_first(books: Books, asked: ProtectRequest, host: HostRow, target: SiteName) -> Put:
    """
    Settle host, pool, group, set and reservation of the target.

    Raises:
        RefusedError: as `check_asked` and `place`.
    """
    there, here = books.resources.around(target), books.resources.around(host.site)
    seat = Seat(site=target, host=HostName(""), machine=asked.vm, pool="")
    check_asked(there, seat, asked)
    name = asked.name or asked.vm
    settings = _first_settings(there, here, asked.vm, name=name, asked=asked_of(asked))
    machines = host.inventory.machines if host.inventory else ()
    shape_of = next(machine for machine in machines if machine.name == asked.vm)
    need = Need(
        machine=asked.vm,
        memory=shape_of.memory,
        vcpus=shape_of.vcpus,
        reservation=asked.capacity_reservation or None,
    )
    chosen = settings[ResourceKind.SET]
    apart = chosen.value if chosen.value and not chosen.new else None
    placed = place(
        there, Wanted(need=need, availability_set=apart, pool=asked.pool, host=asked.host)
    )
    return Put(
        seat=replace(seat, host=placed.host, pool=placed.pool),
        settings=settings,
        places=_first_places(here, asked.vm, settings),
        need=need,
        reason=placed.reason,
    )


def need_room(books: Books, row: ItemRow) -> None:
    """
    The host may be full, and is then asked to do it all the same; what is held back is not taken.

    Raises:
        CapacityHeldBackError: it has room only in what is held back for others.
    """
    seat, told = row.item.standby, row.facts.get("shape", {})
    around = books.resources.around(seat.site)
    host = around.host(seat.host)
    if host is None or not host.memory:
        return
    need = Need(
        machine=seat.machine,
        memory=told.get("memory", 0),
        vcpus=told.get("vcpus", 0),
        reservation=around.held.of(seat.machine, ResourceKind.RESERVATION),
    )
    free = free_on(around, host, without=seat.machine)
    for error in capacity_errors(around, host, need, free=free):
        if isinstance(error, CapacityHeldBackError):
            raise error
