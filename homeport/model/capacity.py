"""
Whether a host has room for a machine, beside what is held back there for others.

Used when a replica is placed, in the review, and before a failover. Each answer carries its
figures. Nothing here counts what merely stands by: without a reservation room is best effort.
"""

from __future__ import annotations

from homeport.errors import RefusedError
from homeport.model.ids import HostName
from homeport.model.resources import (
    Hold,
    HostShape,
    Need,
    ResourceKind,
    Surroundings,
    held_for_others,
    left_of,
)
from homeport.units import show_size


class CapacityHeldBackError(RefusedError):
    """A host would have room, if some of it were not held back for others."""

    code = "CapacityHeldBack"

    def __init__(self, host: str, need: Need, has: Hold, held: Hold) -> None:
        super().__init__(
            f"{host} has {_room(has)}; {_room(held)} of it is held back for others, and "
            f"{need.machine} needs {_room(Hold(memory=need.memory, vcpus=need.vcpus))}.",
            cause="Capacity reservation groups keep it for their members.",
            remedy=f"Let {need.machine} draw on a reservation, lower one (homeport capacity list), "
            "or choose another host.",
        )
        self.host = host
        self.has = has
        self.held = held


class ReservationExhaustedError(RefusedError):
    """The reservation that a machine is to draw on has not enough left on a host."""

    code = "ReservationExhausted"

    def __init__(self, host: str, need: Need, left: Hold) -> None:
        super().__init__(
            f"Capacity reservation {need.reservation} has {_room(left)} left on {host}; "
            f"{need.machine} needs {_room(Hold(memory=need.memory, vcpus=need.vcpus))}.",
            cause="It holds nothing there, or its other members draw on it.",
            remedy="Raise what it holds back (homeport capacity create), or choose another.",
        )
        self.host = host
        self.left = left


def _room(hold: Hold) -> str:
    vcpus = max(0, hold.vcpus)
    return f"{show_size(max(0, hold.memory))} and {vcpus} vCPU{'' if vcpus == 1 else 's'}"


def capacity_errors(
    around: Surroundings, host: HostShape, need: Need, *, free: int | None = None
) -> list[RefusedError]:
    """
    What keeps a host from taking a machine; empty when nothing does.

    `free` is the memory that no running machine has, where this one is to run now; without it only
    the host's size counts. A machine whose size is not known (0) always fits.
    """
    size = Hold(memory=host.memory, vcpus=host.cpus)
    found = [*_too_small(host.name, need, size), *_held(around, host.name, need, size)]
    if not found and free is not None and not _runs_there(around, host.name, need):
        found = _free_errors(around, host, need, free)
    left = left_of(around, host.name, need)
    if left and _exhausted(around, host.name, need, left):
        found.append(ReservationExhaustedError(host.name, need, left))
    return found


def _exhausted(around: Surroundings, host: str, need: Need, left: Hold) -> bool:
    """What a reservation does not hold of, memory or vCPUs, its members take as others do."""
    resource = around.held.find(ResourceKind.RESERVATION, need.reservation)
    hold = resource.holds.get(HostName(host)) if resource else None
    if hold is None:
        return True
    short_of_memory = hold.memory > 0 and need.memory > left.memory
    return short_of_memory or (hold.vcpus > 0 and need.vcpus > left.vcpus)


def _too_small(host: str, need: Need, size: Hold) -> list[RefusedError]:
    found = []
    if need.memory > size.memory:
        found.append(_not_enough_memory(host, need, size.memory, "of memory"))
    if need.vcpus > size.vcpus:
        found.append(
            RefusedError(
                f"{host} has {size.vcpus} CPUs; {need.machine} needs {need.vcpus} vCPUs.",
                code="NotEnoughCpus",
                cause="A machine with more vCPUs than its host has CPUs runs badly.",
                remedy="Choose a larger host, or give the machine fewer vCPUs.",
            )
        )
    return found


def _not_enough_memory(host: str, need: Need, has: int, what: str) -> RefusedError:
    return RefusedError(
        f"{host} has {show_size(has)} {what}; {need.machine} needs {show_size(need.memory)}.",
        code="NotEnoughMemory",
        cause="The machine could not be started there.",
        remedy="Stop other machines there, choose a larger host, or give the machine less memory.",
    )


def _held(around: Surroundings, host: str, need: Need, size: Hold) -> list[RefusedError]:
    held = held_for_others(around, host, need, undrawn=False)
    short_of_memory = size.memory - held.memory < need.memory <= size.memory
    short_of_cpus = size.vcpus - held.vcpus < need.vcpus <= size.vcpus
    if short_of_memory or short_of_cpus:
        return [CapacityHeldBackError(host, need, size, held)]
    return []


def _free_errors(
    around: Surroundings, host: HostShape, need: Need, free: int
) -> list[RefusedError]:
    held = held_for_others(around, host.name, need, undrawn=True)
    if held.memory and free - held.memory < need.memory:
        room = Hold(memory=free, vcpus=host.cpus)
        return [CapacityHeldBackError(host.name, need, room, held)]
    if need.memory > free:
        return [_not_enough_memory(host.name, need, free, "that no running machine has")]
    return []


def free_on(around: Surroundings, host: HostShape, *, without: str) -> int:
    """
    The memory of a host that no running machine has.

    What the host itself calls free leaves out its page cache, which gives way.
    """
    taken = (s.memory for s in around.on(host.name, without=without) if s.runs)
    return host.memory - sum(taken)


def _runs_there(around: Surroundings, host: str, need: Need) -> bool:
    return any(s.runs and s.machine == need.machine for s in around.on(host))
