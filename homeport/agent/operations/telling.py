"""
What this side holds of an item, told before a failover or a reprotect: asking changes nothing.

Positions it can prove, what lies on its disks, what was written since, and who else wrote there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

from homeport.agent.aside import unsent_bytes
from homeport.agent.held import HeldItem
from homeport.agent.ledgers import UnknownItemError
from homeport.agent.machine import lock_on
from homeport.agent.means import Means
from homeport.agent.measuring import digest_rate
from homeport.agent.operations.order import Bench
from homeport.agent.operations.placing import machine_here, names_taken
from homeport.agent.places import is_away, is_here
from homeport.agent.stamps import altered
from homeport.dataplane.points import backing_of, disk_size
from homeport.dataplane.qcow2 import read_map
from homeport.errors import HomeportError, RefusedError
from homeport.model.host import HostInventory, MachineSources, UnsupportedMachineError
from homeport.model.ids import DiskName
from homeport.model.item import DiskState, Role
from homeport.model.ledger import DiskChain, ItemLedger
from homeport.model.machine import PowerState
from homeport.model.operations import AskFacts, DiskFacts, HeldPoint, Problem, SideFacts
from homeport.model.position import Position

MAKES = ("pool", "network", "other-pool")
"""What this agent makes where it is missing, or where another is asked for."""


def facts(bench: Bench, order: AskFacts) -> SideFacts:
    """What this side holds; asking changes nothing."""
    inventory = bench.means.compute.inventory()
    if not bench.shelf.has(order.item) or (order.pool and not is_here(bench, order.item)):
        return _nothing_here(bench, order, inventory)
    with bench.shelf.claim(order.item, bench.control) as work:
        held, ledger = work.held, work.held.ledger
        pool = _pool_of(held, inventory, asked=order.pool)
        disks_now, unsupported = _disks_now(held, bench.means)
        machine_state = bench.means.compute.state(ledger.machine)
        return SideFacts(
            item=order.item,
            machine_state=machine_state,
            disks=tuple(_disk_facts(held, chain) for chain in ledger.disks),
            held=_held_points(held),
            stands_at=_stands_at(ledger),
            written=_written(held, in_use=machine_state in {PowerState.RUNNING, PowerState.PAUSED}),
            definition=ledger.definition,
            pool=pool[0],
            pool_writable=pool[1],
            pool_available=pool[2],
            missing_networks=_missing(order, inventory),
            memory_free=inventory.memory_free,
            lock=lock_on(held, bench.means),
            problems=(*_memory_problems(inventory, order.memory), *unsupported),
            digest_rate=digest_rate(bench.means, held),
            disks_now=disks_now,
            makes=MAKES,
            taken=names_taken(bench, order),
            stranger=_stranger(bench, order),
        )


def _nothing_here(bench: Bench, order: AskFacts, inventory: HostInventory) -> SideFacts:
    """A side that holds nothing of the item, or nothing any more."""
    pool = _pool_named(order.pool, inventory)
    problems = _memory_problems(inventory, order.memory)
    if is_away(bench, order.item, inventory):
        problems += (UnknownItemError(order.item).as_dict(),)
    machine, own = machine_here(bench, order)
    note = bench.means.compute.note(machine) if own else None
    return SideFacts(
        item=order.item,
        machine_state=bench.means.compute.state(machine) if own else PowerState.ABSENT,
        lock=note.lock if note else None,
        taken=names_taken(bench, order),
        stranger=_stranger(bench, order),
        disks=(),
        held=(),
        stands_at=None,
        pool=pool[0],
        pool_writable=pool[1],
        pool_available=pool[2],
        missing_networks=_missing(order, inventory),
        memory_free=inventory.memory_free,
        problems=problems,
        tracked=False,
        digest_rate=digest_rate(bench.means, None),
        makes=MAKES,
    )


def _stranger(bench: Bench, order: AskFacts) -> str:
    """A machine that has the item's name here and is not the item's, asked for a replica."""
    machine, own = machine_here(bench, order) if order.name else ("", True)
    return "" if own else machine


def _missing(order: AskFacts, inventory: HostInventory) -> tuple[str, ...]:
    names = {network.name for network in inventory.networks}
    return tuple(name for name in order.networks if name not in names)


def _disks_now(
    held: HeldItem, means: Means
) -> tuple[tuple[DiskName, ...] | None, tuple[Problem, ...]]:
    """
    The machine's disks by name, and what keeps it from being replicated as it is now.

    A disk counts as attached if either view of libvirt has it, and as detached if one has it not.
    """
    ledger, compute = held.ledger, means.compute
    if compute.state(ledger.machine) is PowerState.ABSENT:
        return None, ()
    names = {chain.disk.target: chain.name for chain in ledger.disks}
    try:
        defined = compute.describe(ledger.machine, names=names).disks
    except UnsupportedMachineError as error:
        runs = ledger.role in {Role.RUNNING, Role.SOURCE}
        return None, (error.as_dict(),) if runs else ()
    by_target = {disk.target: disk.name for disk in defined}
    found = _attached(by_target, names, compute.sources(ledger.machine))
    return tuple(sorted(found)), ()


def _attached(
    defined: Mapping[str, DiskName], names: Mapping[str, DiskName], sources: MachineSources
) -> set[DiskName]:
    """Names of the disks that are attached, from the definition and from what runs."""
    found = {
        target: name
        for target, name in defined.items()
        if not sources.live or target in sources.live or target not in names
    }
    for target, path in sources.live.items():
        if target not in sources.persistent and target not in names:
            name = DiskName(Path(path).stem)  # attached to the running machine only
            found[target] = DiskName(f"{name}-{target}") if name in found.values() else name
    return set(found.values())


def _held_points(held: HeldItem) -> tuple[HeldPoint, ...]:
    """Positions this side can prove; of a side that may become a replica those in its chain."""
    ledger, chain = held.ledger, held.ledger.disks[0]
    here = {chain.base_at, *(layer.position for layer in chain.layers)} if chain.proven else set()
    running = ledger.role in {Role.RUNNING, Role.SOURCE}
    told = _in_reach(held) if running else here
    return tuple(
        HeldPoint(
            position=past.position,
            states=tuple(
                DiskState(disk=disk.name, state=past.states[disk.name])
                for disk in ledger.disks
                if disk.name in past.states
            ),
            changed=dict(past.changed),
        )
        for past in ledger.past
        if past.position in told
    )


def _in_reach(held: HeldItem) -> set[Position | None]:
    """
    Positions from which a running side can tell what differs: no map in between is lost.

    A machine that runs from a point counts up and down from it; a source has all of its own.
    """
    ledger = held.ledger
    known = sorted(past.position for past in ledger.past)
    if ledger.role is not Role.RUNNING or ledger.booted not in known:
        return set(known)
    at = known.index(ledger.booted)
    newer = takewhile(held.has_map, known[at + 1 :])
    with_map = takewhile(held.has_map, reversed(known[1 : at + 1]))
    older = (known[known.index(position) - 1] for position in with_map)
    return {ledger.booted, *newer, *older}


def _stands_at(ledger: ItemLedger) -> Position | None:
    """Where the running side's own line of writes begins to be unknown to the other side."""
    if ledger.role is Role.SOURCE and ledger.acknowledged is not None:
        return ledger.acknowledged
    return ledger.booted if ledger.booted is not None else ledger.stands_at


def _written(held: HeldItem, *, in_use: bool) -> dict[str, int]:
    since = _stands_at(held.ledger)
    return {
        chain.name: unsent_bytes(held, chain, since, in_use=in_use) for chain in held.ledger.disks
    }


def _disk_facts(held: HeldItem, chain: DiskChain) -> DiskFacts:
    base = held.path(chain.base)
    if not base.exists():
        return DiskFacts(
            disk=chain.name,
            exists=False,
            readable=False,
            untouched=False,
            size=chain.disk.size,
            allocated=0,
            path=str(base),
            reason=f"{base} is gone",
        )
    broken = _unreadable(held, chain)
    touched = "" if broken else _touched(held, chain)
    return DiskFacts(
        disk=chain.name,
        exists=True,
        readable=not broken,
        untouched=not touched,
        size=chain.disk.size,
        allocated=_allocated(held, chain),
        path=str(base),
        unsent=0 if broken else unsent_bytes(held, chain, held.ledger.acknowledged),
        reason=broken or touched,
    )


def _unreadable(held: HeldItem, chain: DiskChain) -> str:
    """Why the chain cannot be read, or nothing."""
    intent = held.ledger.committing
    joined = None if intent is None else held.path(intent.into)  # one may stand below it already
    below = [held.path(chain.base)]
    try:
        disk_size(below[0], chain.disk.format.value)
        for layer in chain.layers:
            path = held.path(layer.path)
            read_map(path)
            if backing_of(path) not in below:
                return f"{path} does not stand on {below[-1]}"
            below = [*(below if below[-1] == joined else ()), path]
    except (HomeportError, OSError) as error:
        return str(error)
    return ""


def _touched(held: HeldItem, chain: DiskChain) -> str:
    """What was written to from outside, or nothing: immutable files look as we left them."""
    intent = held.ledger.committing
    here = intent is not None and intent.disk == chain.name
    ours = chain.names[chain.names.index(intent.into) :][:3] if intent and here else ()
    touched = sorted(altered(held, chain) - set(ours))
    return f"{held.path(touched[0])} was written to from outside" if touched else ""


def _allocated(held: HeldItem, chain: DiskChain) -> int:
    names = [chain.base, *(layer.path for layer in chain.layers)]
    names += [chain.active] if chain.active else []
    paths = [held.path(name) for name in names]
    return sum(path.stat().st_blocks * 512 for path in paths if path.exists())


def _pool_of(held: HeldItem, inventory: HostInventory, *, asked: str) -> tuple[str, bool, int]:
    """The pool of the item's disks, and whether there is room in the one that is asked for."""
    folder = held.folder.parent.parent
    other = [pool.name for pool in inventory.pools if pool.name == asked]
    for pool in inventory.pools:
        if Path(pool.path).resolve() == folder:
            room = _pool_named((*other, pool.name)[0], inventory)
            return pool.name, *room[1:]
    here = os.statvfs(folder)
    return str(folder), os.access(folder, os.W_OK), here.f_bavail * here.f_frsize


def _pool_named(name: str, inventory: HostInventory) -> tuple[str, bool, int]:
    """The pool a new replica would be made in; one that is not there has no room."""
    for pool in inventory.pools:
        if pool.name == name:
            return pool.name, pool.writable and Path(pool.path).is_dir(), pool.available
    return name, False, 0


def _memory_problems(inventory: HostInventory, needed: int) -> tuple[Problem, ...]:
    if needed <= inventory.memory:
        return ()
    error = RefusedError(
        "This host has not the memory the machine needs.",
        code="NotEnoughMemory",
        remedy="Choose a larger host, or give the machine less memory.",
    )
    return (error.as_dict(),)
