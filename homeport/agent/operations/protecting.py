"""Enable at both hosts: all problems at once, the target's folder, the source's first rotation."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from homeport.agent.bases import base_name, replica_ledger
from homeport.agent.confirming import confirm
from homeport.agent.held import entry
from homeport.agent.ledgers import FOLDER, item_folder
from homeport.agent.machine import running_note
from homeport.agent.means import Means
from homeport.agent.operations.order import Bench
from homeport.agent.passages import open_passages
from homeport.agent.places import is_here
from homeport.agent.rotation import recover_rotation, rotate
from homeport.dataplane.points import stamp
from homeport.errors import HomeportError, RefusedError
from homeport.model.host import HostInventory, UnsupportedMachineError
from homeport.model.ids import ItemId, VaultId
from homeport.model.item import Role
from homeport.model.ledger import DiskChain, ItemLedger
from homeport.model.machine import MachineDefinition, PowerState
from homeport.model.messages import LedgerEntry, StoreAddress
from homeport.model.operations import (
    Arm,
    At,
    CheckSource,
    PrepareTarget,
    Problem,
    SourceFacts,
    TargetFacts,
)
from homeport.model.policy import ReplicationPolicy
from homeport.units import show_size


def check_source(bench: Bench, order: CheckSource) -> SourceFacts:
    """Whether the machine can be protected; everything against it at once."""
    compute = bench.means.compute
    problems: list[Problem] = []
    definition = None
    try:
        definition = compute.describe(order.machine)
    except UnsupportedMachineError as error:
        problems += [
            RefusedError(one.message, code=one.code, remedy=one.remedy).as_dict()
            for one in error.problems
        ]
    except RefusedError as error:
        problems.append(error.as_dict())
    if definition is not None:
        problems += _disk_problems(bench.means, definition)
        problems += _taken(bench, order.machine)
    return SourceFacts(
        problems=tuple(problems), definition=definition, state=compute.state(order.machine)
    )


def prepare_target(bench: Bench, order: PrepareTarget) -> TargetFacts:
    """Check that the machine could live here; unless only checking, make its folder and ledger."""
    inventory = bench.means.compute.inventory()
    pool = next((pool for pool in inventory.pools if pool.name == order.pool), None)
    problems = list(_target_problems(bench, order, inventory))
    if problems or pool is None or order.only_check:
        return TargetFacts(problems=tuple(problems))
    return TargetFacts(problems=(), folder=str(begin_target(bench, order, Path(pool.path))))


def begin_target(
    bench: Bench,
    order: PrepareTarget,
    pool: Path,
    *,
    made: tuple[LedgerEntry, ...] = (),
    original: bool = False,
) -> Path:
    """The item's folder in a pool, with its ledger, if this host has none yet; the folder."""
    folder = item_folder(pool.resolve(), order.name, order.item)
    if not is_here(bench, order.item):
        ledger = replica_ledger(
            folder,
            order.definition.disks,
            bench.means.clock.now(),
            vault=order.vault,
            item=order.item,
            name=order.name,
            machine=order.name,
            epoch=order.epoch,
            definition=order.definition,
            original=original,
            policy=ReplicationPolicy(name="default"),
            networks=order.networks,
            made=made,
        )
        bench.shelf.add(order.item, folder, ledger)
    return folder


def arm(bench: Bench, order: Arm) -> At:
    """Begin tracking: ledger, autostart off, hook, note, first rotation."""
    means = bench.means
    if not bench.shelf.has(order.item):
        _begin(bench, order)
    with bench.shelf.claim(order.item, bench.control) as work:
        held = work.held
        held.check_epoch(order.epoch)
        held.save(epoch=order.epoch, cache=order.cache, policy=order.policy)
        means.make_store(order.cache)
        means.compute.install_hook()
        means.compute.set_autostart(order.machine, on=False)
        confirm(means, order.item)
        means.compute.set_note(order.machine, running_note(held, "source"))
        held.save(guarded=True, confirmed=True)
        recover_rotation(held, means)
        if held.ledger.stands_at is None:
            open_passages(held, means)
            rotate(held, means)
        return At(position=held.ledger.newest_captured)


def _begin(bench: Bench, order: Arm) -> None:
    means = bench.means
    found = means.compute.describe(order.machine)
    definition = found.unmanaged() if order.unmanaged else found
    sources = means.compute.sources(order.machine).persistent
    paths = {disk.name: resolved(Path(sources[disk.target])) for disk in definition.disks}
    first = paths[definition.disks[0].name].parent
    folder = item_folder(first, order.name, order.item)
    chains = tuple(
        DiskChain(
            disk=disk,
            base=os.path.relpath(paths[disk.name], folder),
            base_stamp=stamp(paths[disk.name]),
        )
        for disk in definition.disks
    )
    now = means.clock.now()
    store = store_prefix(order.cache, order.vault, order.item)
    ledger = ItemLedger(
        vault=order.vault,
        item=order.item,
        name=order.name,
        machine=order.machine,
        role=Role.SOURCE,
        epoch=order.epoch,
        definition=definition,
        disks=chains,
        original=True,
        policy=order.policy,
        cache=order.cache,
        variables=str(means.compute.variables(definition, name=order.machine) or ""),
        autostart=_autostart(means, order.machine),
        made=(
            entry("folder", str(folder), "overlays and ledger", now),
            entry("note", order.machine, "epoch in the machine's metadata", now),
            entry("objects", store, "the cache", now),
        ),
    )
    bench.shelf.add(order.item, folder, ledger)


def resolved(path: Path) -> Path:
    """The path with links in its folders followed: relative names need that. Itself it stays."""
    return path.parent.resolve() / path.name


def store_prefix(cache: StoreAddress, vault: VaultId, item: ItemId) -> str:
    """Where an item's objects lie, for people."""
    return f"{cache.url.rstrip('/')}/v1/{vault}/{item}/"


def _autostart(means: Means, machine: str) -> bool:
    return any(m.name == machine and m.autostart for m in means.compute.inventory().machines)


def _disk_problems(means: Means, definition: MachineDefinition) -> Iterable[Problem]:
    if not definition.disks:
        yield RefusedError(
            f"{definition.name} has no disk that can be replicated.",
            code="NoDisks",
            cause="Only writable, unshared disks that are files or block devices count.",
            remedy="Add a disk, or leave the machine unprotected: its definition alone is enough.",
        ).as_dict()
    sources = means.compute.sources(definition.name).persistent
    for disk in definition.disks:
        folder = Path(sources[disk.target]).parent
        if not os.access(folder, os.W_OK):
            yield RefusedError(
                f"The folder of disk {disk.name}, {folder}, cannot be written to.",
                code="FolderNotWritable",
                cause="Overlays are made beside the disk.",
                remedy="Make the folder writable, or move the disk to a folder that is.",
            ).as_dict()


def _taken(bench: Bench, machine: str) -> Iterable[Problem]:
    for item in bench.shelf.items():
        try:
            ledger = bench.shelf.peek(item).ledger
        except HomeportError:
            continue
        if ledger.machine == machine and ledger.role in {Role.SOURCE, Role.RUNNING}:
            yield RefusedError(
                f"{machine} is protected already, as item {ledger.name}.",
                code="AlreadyProtected",
                cause="This host has a ledger for it.",
                remedy=f"Disable {ledger.name} first (homeport disable).",
            ).as_dict()


def _target_problems(
    bench: Bench, order: PrepareTarget, inventory: HostInventory
) -> Iterable[Problem]:
    yield from _pool_problems(bench, order, inventory)
    known = {network.name for network in inventory.networks}
    for name, to in sorted(order.networks.items()):
        if to is not None and to not in known:
            yield RefusedError(
                f"This host has no network {to} (for {name}).",
                code="NetworkMissing",
                cause="The network mapping points at it.",
                remedy="Make the network, or map another one.",
            ).as_dict()
    if inventory.memory < order.definition.memory:
        yield RefusedError(
            f"This host has {show_size(inventory.memory)} of memory; "
            f"{order.definition.name} needs {show_size(order.definition.memory)}.",
            code="NotEnoughMemory",
            remedy="Choose a larger host.",
        ).as_dict()
    here = bench.means.compute.state(order.name)
    if here is not PowerState.ABSENT and not bench.shelf.has(order.item):
        yield RefusedError(
            f"This host has a machine {order.name} already.",
            code="NameTaken",
            cause="After a failover the machine would get this name here.",
            remedy="Rename or remove that machine, or choose another host.",
        ).as_dict()


def _pool_problems(
    bench: Bench, order: PrepareTarget, inventory: HostInventory
) -> Iterable[Problem]:
    pool = next((pool for pool in inventory.pools if pool.name == order.pool), None)
    if pool is None:
        names = ", ".join(sorted(pool.name for pool in inventory.pools)) or "none"
        yield RefusedError(
            f"This host has no storage pool {order.pool}.",
            code="PoolMissing",
            cause=f"Its pools: {names}.",
            remedy="Make the pool, or name another one (--pool).",
        ).as_dict()
        return
    if not pool.writable:
        yield RefusedError(
            f"Pool {pool.name} ({pool.path}) cannot be written to.",
            code="PoolNotWritable",
            remedy="Repair the pool, or name another one (--pool).",
        ).as_dict()
    if not bench.shelf.has(order.item):
        yield from taken_names(Path(pool.path), order.definition)


def taken_names(pool: Path, definition: MachineDefinition) -> Iterable[Problem]:
    """What lies in a pool under the names that a replica of the definition needs, as problems."""
    for path, disk in taken_paths(pool, definition).items():
        message, cause = f"{path} is a file; a folder of that name is needed.", ""
        if disk:
            message = f"{path} exists, and is not Homeport's."
            cause = f"Disk {disk} gets this name here, now or after a failover."
        yield RefusedError(
            message,
            code="NameTaken",
            cause=cause,
            remedy="Move the file away, or choose another pool (--pool).",
        ).as_dict()


def taken_paths(pool: Path, definition: MachineDefinition) -> dict[Path, str]:
    """What lies in a pool where a replica's files would, each with its disk; empty: the folder."""
    needed = {
        pool / base_name(disk, replica=replica): disk.name
        for disk in definition.disks
        for replica in (True, False)
    }
    taken: dict[Path, str] = {path: name for path, name in needed.items() if path.exists()}
    return taken | ({pool / FOLDER: ""} if (pool / FOLDER).is_file() else {})


def without_seed(chain: DiskChain) -> DiskChain:
    """The chain of a replica to be seeded anew into its base."""
    return replace(
        chain, base_at=None, base_state=None, base_stamp=None, whole=False, layers=(), beyond=()
    )
