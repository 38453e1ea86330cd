"""
What this side holds of an item, told before a failover or a reprotect: asking changes nothing.

Positions it can prove, what lies on its disks, what was written since, and who else wrote there.
"""

from __future__ import annotations

import os
from pathlib import Path

from homeport.agent.aside import unsent_bytes
from homeport.agent.held import HeldItem
from homeport.agent.operations.order import Bench
from homeport.agent.stamps import altered
from homeport.dataplane.points import backing_of, disk_size
from homeport.dataplane.qcow2 import read_map
from homeport.errors import HomeportError, RefusedError
from homeport.model.host import HostInventory
from homeport.model.item import DiskState, Role
from homeport.model.ledger import DiskChain, ItemLedger
from homeport.model.machine import PowerState
from homeport.model.operations import AskFacts, DiskFacts, HeldPoint, Problem, SideFacts
from homeport.model.position import Position


def facts(bench: Bench, order: AskFacts) -> SideFacts:
    """What this side holds; asking changes nothing."""
    inventory = bench.means.compute.inventory()
    names = {network.name for network in inventory.networks}
    missing = tuple(name for name in order.networks if name not in names)
    problems = _memory_problems(inventory, order.memory)
    if not bench.shelf.has(order.item):
        pool = _pool_named(order.pool, inventory)
        return SideFacts(
            item=order.item,
            machine_state=PowerState.ABSENT,
            disks=(),
            held=(),
            stands_at=None,
            pool=pool[0],
            pool_writable=pool[1],
            pool_available=pool[2],
            missing_networks=missing,
            memory_free=inventory.memory_free,
            problems=problems,
            tracked=False,
        )
    with bench.shelf.claim(order.item, bench.control) as work:
        held, ledger = work.held, work.held.ledger
        pool = _pool_of(held, inventory)
        return SideFacts(
            item=order.item,
            machine_state=bench.means.compute.state(ledger.machine),
            disks=tuple(_disk_facts(held, chain) for chain in ledger.disks),
            held=_held_points(ledger),
            stands_at=_stands_at(ledger),
            written=_written(held),
            definition=ledger.definition,
            pool=pool[0],
            pool_writable=pool[1],
            pool_available=pool[2],
            missing_networks=missing,
            memory_free=inventory.memory_free,
            lock=ledger.lock or None,
            problems=problems,
        )


def _held_points(ledger: ItemLedger) -> tuple[HeldPoint, ...]:
    """Positions this side can prove; of a side that may become a replica those in its chain."""
    chain = ledger.disks[0]
    here = {chain.base_at, *(layer.position for layer in chain.layers)} if chain.proven else set()
    running = ledger.role in {Role.RUNNING, Role.SOURCE}
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
        if running or past.position in here
    )


def _stands_at(ledger: ItemLedger) -> Position | None:
    """Where the running side's own line of writes begins to be unknown to the other side."""
    if ledger.role is Role.SOURCE and ledger.acknowledged is not None:
        return ledger.acknowledged
    return ledger.booted if ledger.booted is not None else ledger.stands_at


def _written(held: HeldItem) -> dict[str, int]:
    since = _stands_at(held.ledger)
    return {chain.name: unsent_bytes(held, chain, since) for chain in held.ledger.disks}


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
    ours = () if intent is None else chain.names[chain.names.index(intent.into) :][:3]
    touched = sorted(altered(held, chain) - set(ours))
    return f"{held.path(touched[0])} was written to from outside" if touched else ""


def _allocated(held: HeldItem, chain: DiskChain) -> int:
    names = [chain.base, *(layer.path for layer in chain.layers)]
    names += [chain.active] if chain.active else []
    paths = [held.path(name) for name in names]
    return sum(path.stat().st_blocks * 512 for path in paths if path.exists())


def _pool_of(held: HeldItem, inventory: HostInventory) -> tuple[str, bool, int]:
    folder = held.folder.parent.parent
    for pool in inventory.pools:
        if Path(pool.path) == folder:
            return pool.name, pool.writable, pool.available
    room = os.statvfs(folder)
    return str(folder), os.access(folder, os.W_OK), room.f_bavail * room.f_frsize


def _pool_named(name: str, inventory: HostInventory) -> tuple[str, bool, int]:
    """The pool a new replica would be made in; one that is not there has no room."""
    for pool in inventory.pools:
        if pool.name == name:
            return pool.name, pool.writable, pool.available
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
