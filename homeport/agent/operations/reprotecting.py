"""
Reprotect at both hosts: what each holds, the old disks made replicas, the running side made source.

Until the first point of the new direction is listed the old disks' content, read through the chain,
is what it was: writes the other side never had are set aside, names change, and nothing else.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from homeport.agent.aside import forget_beyond, set_aside, set_whole_aside, unsent_bytes
from homeport.agent.bases import base_name, name_bases
from homeport.agent.committing import finish_commit
from homeport.agent.held import HeldItem
from homeport.agent.machine import check_name_free, delete_own
from homeport.agent.operations.failing_over import fenced_note, need_role
from homeport.agent.operations.order import Bench
from homeport.agent.operations.protecting import (
    prepare_target,
    replica_chain,
    store_prefix,
    without_seed,
)
from homeport.agent.rotation import recover_rotation, rotate
from homeport.agent.source import describe_here, settle
from homeport.agent.stamps import altered, restamped
from homeport.agent.work import Work
from homeport.dataplane.landing import sweep_all
from homeport.dataplane.points import backing_of, disk_size
from homeport.dataplane.qcow2 import read_map
from homeport.errors import HomeportError, RefusedError, TransientError
from homeport.model.host import HostInventory
from homeport.model.item import DiskState, Role
from homeport.model.ledger import DiskChain, ItemLedger, PointRecord
from homeport.model.machine import PowerState
from homeport.model.operations import (
    AskFacts,
    At,
    DiskFacts,
    HeldPoint,
    PrepareReplica,
    PrepareTarget,
    Problem,
    ReplicaFacts,
    Reverse,
    SideFacts,
)
from homeport.model.planning import Way
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


def prepare_replica(bench: Bench, order: PrepareReplica) -> ReplicaFacts:
    """Make the old side's disks replicas; repeated, it finds what is done and goes on."""
    if not bench.shelf.has(order.item):
        _adopt(bench, order)
    with bench.shelf.claim(order.item, bench.control) as work:
        held, means = work.held, work.means
        held.check_epoch(order.epoch)
        need_role(held, Role.FENCED, Role.SOURCE, Role.TARGET, Role.RUNNING)
        actions = _switch_off(work, order)
        recover_rotation(held, means)
        finish_commit(held, means)
        if held.ledger.role is not Role.TARGET:
            _leave_store(work)
            forget_beyond(held, booted=None, committed=False, role=Role.TARGET)
        unsent = set_aside(held, means, order.common)
        actions += _replace_whole(work, order)
        held.save_chains(
            [_for_way(held, chain, order) for chain in held.ledger.disks],
            resyncing=True,
            ended=False,
            captured=(),
            points=_kept_points(held.ledger, order),
            acknowledged=order.common,
            past=tuple(past for past in held.ledger.past if past.position == order.common),
            definition=order.definition,
        )
        actions += name_bases(held, replica=True)
        actions += _machine_afterwards(work, order)
        held.sweep_files()
        return ReplicaFacts(unsent=unsent, actions=actions)


def reverse(bench: Bench, order: Reverse) -> At:
    """Be the source; the first point is a resync. Asked again, a new first point is taken."""
    with bench.shelf.claim(order.item, bench.control) as work:
        held, means = work.held, work.means
        held.check_epoch(order.epoch)
        need_role(held, Role.RUNNING, Role.SOURCE)
        settle(held, means)
        now = means.clock.now()
        means.make_store(order.cache)
        sweep_all(work.items_in(order.cache))  # what an earlier direction or attempt left there
        held.save(
            role=Role.SOURCE,
            epoch=order.epoch,
            cache=order.cache,
            policy=order.policy,
            resyncing=True,
            captured=(),
            acknowledged=None,
            bytes_moved=0,
            definition=describe_here(held, means)[0],
            made=held.made(
                "objects", store_prefix(order.cache, held.ledger.vault, held.item), "the cache", now
            ),
        )
        ways = {
            name: Way.EXACT.value if way == Way.NOTHING.value else way
            for name, way in order.ways.items()
        }
        anew = all(way == Way.FULL.value for way in ways.values())
        position = rotate(held, means, ways=ways, previous=None if anew else order.common)
        return At(position=position)


def _leave_store(work: Work) -> None:
    """
    Empty this side's part of its own store: what it holds was landed, or is set aside here.

    A store that does not answer keeps it, and the ledger goes on saying so.
    """
    held = work.held
    if held.ledger.cache is None or held.ledger.role is Role.RUNNING:
        return
    try:
        sweep_all(work.items)
    except TransientError:
        return
    prefix = store_prefix(held.ledger.cache, held.ledger.vault, held.item)
    held.save(made=held.gone("objects", prefix, work.means.clock.now()))


def _switch_off(work: Work, order: PrepareReplica) -> tuple[str, ...]:
    """Own nothing here any more: off, forbidden to start, locked."""
    held, compute = work.held, work.means.compute
    check_name_free(held, work.means, held.ledger.machine)
    held.save(epoch=order.epoch, lock=order.lock)
    if compute.state(held.ledger.machine) is PowerState.ABSENT:
        return ()
    was = compute.state(held.ledger.machine)
    compute.set_autostart(held.ledger.machine, on=False)
    compute.set_note(held.ledger.machine, fenced_note(held))
    compute.stop(held.ledger.machine, timeout=0)
    running = was in {PowerState.RUNNING, PowerState.PAUSED}
    return (f"switched off: {held.ledger.machine}",) if running else ()


def _machine_afterwards(work: Work, order: PrepareReplica) -> tuple[str, ...]:
    held, compute = work.held, work.means.compute
    machine = held.ledger.machine
    if compute.state(machine) is PowerState.ABSENT:
        return ()
    if order.keep_machine:
        return (f"kept and locked until failback: {machine}",)
    delete_own(held, work.means, machine)
    held.save(made=held.gone("machine", machine, work.means.clock.now()))
    return (f"deleted: {machine}",)


def _replace_whole(work: Work, order: PrepareReplica) -> tuple[str, ...]:
    """Keep the disks that full copies will replace: nothing is written over them."""
    held = work.held
    kept: list[str] = []
    for chain in held.ledger.disks:
        if _way_of(chain, order) is Way.FULL and chain.whole:
            kept += set_whole_aside(held, work.means, chain)
    return tuple(kept)


def _kept_points(ledger: ItemLedger, order: PrepareReplica) -> tuple[PointRecord, ...]:
    """Points that lie in the chains stay bootable until the first new one is listed."""
    here = [{chain.base_at, *(one.position for one in chain.layers)} for chain in ledger.disks]
    return tuple(
        point
        for point in ledger.points
        if all(point.position in positions for positions in here)
        and (order.common is None or point.position <= order.common)
    )


def _way_of(chain: DiskChain, order: PrepareReplica) -> Way:
    return Way(order.ways.get(chain.name, Way.FULL.value))


def _for_way(held: HeldItem, chain: DiskChain, order: PrepareReplica) -> DiskChain:
    """
    What of a chain is known stays. A disk that is compared is what it is now: if somebody wrote to
    it, that has been noticed. Without a common point it proves none.
    """
    way = _way_of(chain, order)
    if way is Way.FULL:
        disk = replace(chain.disk, size=order.definition.disk(chain.name).size)
        base = held.path(chain.base).with_name(base_name(disk, replica=True))
        return without_seed(replace(chain, disk=disk, base=held.name_of(base)))
    if way is Way.DIFFERENTIAL:
        return replace(restamped(held, chain), proven=order.common is not None)
    return chain


def _adopt(bench: Bench, order: PrepareReplica) -> None:
    """A side that holds nothing: a ledger on what lies in its pool, as for a new target."""
    prepare_target(
        bench,
        PrepareTarget(
            item=order.item,
            name=order.name,
            vault=order.vault,
            epoch=order.epoch,
            definition=order.definition,
            pool=order.pool,
        ),
    )
    held = bench.shelf.peek(order.item)
    chains = []
    for chain in held.ledger.disks:
        path = held.path(replica_chain(chain.disk).base)
        chains.append(replace(chain, whole=True) if path.exists() else chain)
    held.save_chains(chains)


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
