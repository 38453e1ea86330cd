"""Machines of the user's own, made, started, stopped and shown on request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from homeport.agent.newmachine import describe_new
from homeport.agent.oddities import is_locked
from homeport.agent.operations.order import Bench
from homeport.agent.owndisks import check_removable, disks_of
from homeport.agent.source import settle
from homeport.dataplane.points import run_tool, sync_path
from homeport.errors import HomeportError, NotFoundError, RefusedError
from homeport.model.host import DiskPlace, Placement, Pool, UnknownMachineError
from homeport.model.ids import check_name
from homeport.model.item import Role
from homeport.model.ledger import ItemLedger
from homeport.model.machine import PowerState
from homeport.model.machine_orders import (
    CreateMachine,
    DeletedMachine,
    DeleteMachine,
    MachineName,
    MachineShape,
    NewDisk,
)
from homeport.model.operations import Nothing


class MachineGuardedError(RefusedError):
    """A machine that belongs to an item and may not be changed by hand now."""

    code = "MachineLocked"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"Machine {name} is locked.",
            cause=reason,
            remedy="Disable its protection first (homeport disable), or fail back to it.",
        )


def create_machine(bench: Bench, order: CreateMachine) -> Nothing:
    """Make a machine with its disks in the pool; the same order again finds it made."""
    check_name("machine", order.name)
    compute = bench.means.compute
    pool = _pool(bench, order.pool)
    paths = {disk.name: _disk_path(Path(pool.path), disk) for disk in order.disks}
    inventory = compute.inventory()
    names = {name: str(path) for name, path in paths.items()}
    definition = describe_new(order, names, kvm=inventory.kvm)
    there = {one.name: one.uuid for one in inventory.machines}.get(order.name)
    if there not in (None, definition.uuid):
        raise RefusedError(
            f"There is a machine {order.name} on this host already.",
            code="NameTaken",
            remedy="Choose another name.",
        )
    if there is None:
        for disk in order.disks:
            _make_disk(paths[disk.name], disk)
    placement = Placement(
        name=order.name,
        uuid=definition.uuid,
        disks={
            disk.target: DiskPlace(path=str(paths[disk.name]), format=disk.format.value)
            for disk in definition.disks
        },
        networks={order.network: order.network} if order.network else {},
    )
    compute.create(definition, placement)
    if order.start:
        compute.start(order.name)
    return Nothing()


def start_machine(bench: Bench, order: MachineName) -> Nothing:
    """
    Start a machine, unless it is fenced or locked.

    Of an item's, what a crash left open is finished before: after a power cut a commit that was
    under way may have left its base without data that a header counts on.
    """
    _check_guard(bench, order.name)
    item = _item_of(bench, order.name)
    if item is None:
        bench.means.compute.start(order.name)
        return Nothing()
    with bench.shelf.claim(item, bench.control) as work:
        _check_guard(bench, order.name)  # what was waited for may have been its fence
        settle(work.held, work.means)
        work.means.compute.start(order.name)
        return Nothing()


def stop_machine(bench: Bench, order: MachineName) -> Nothing:
    """Shut a machine down; after the time-out its power is cut."""
    bench.means.compute.stop(order.name, timeout=order.timeout)
    return Nothing()


def delete_machine(bench: Bench, order: DeleteMachine) -> DeletedMachine:
    """
    Take a machine away that belongs to no item; its disks stay unless they are to go too.

    The machine goes first: a crash in between leaves files that nobody has, never the other way.
    """
    note = bench.means.compute.note(order.name)
    if note is not None:
        raise MachineGuardedError(order.name, note.reason or "It belongs to a replicated item.")
    for ledger in _ledgers_of(bench, order.name):
        if ledger.guarded:  # its note was taken away, and is not back yet
            raise MachineGuardedError(order.name, f"It belongs to the item {ledger.name}.")
    disks = disks_of(bench.means, order.name)
    if order.disks:
        disks = check_removable(bench.shelf, disks, machine=order.name)
    bench.means.compute.delete(order.name)
    gone = [path for path, reason in sorted(disks.items()) if order.disks and not reason]
    for path in gone:
        path.unlink(missing_ok=True)
    kept = {str(path): reason for path, reason in sorted(disks.items()) if path not in gone}
    return DeletedMachine(
        removed=tuple(str(path) for path in gone),
        kept={path: reason if order.disks else "" for path, reason in kept.items()},
    )


def show_machine(bench: Bench, order: MachineName) -> MachineShape:
    """A machine's definition and state."""
    compute = bench.means.compute
    state = compute.state(order.name)
    if state is PowerState.ABSENT:
        raise UnknownMachineError(order.name)
    return MachineShape(definition=compute.describe(order.name), state=state)


def _item_of(bench: Bench, name: str) -> str | None:
    """The item whose machine runs here under that name."""
    found = _ledgers_of(bench, name)
    return next((one.item for one in found if one.role in {Role.SOURCE, Role.RUNNING}), None)


def _ledgers_of(bench: Bench, name: str) -> Iterator[ItemLedger]:
    """Ledgers of the items whose machine has that name here."""
    for item in bench.shelf.items():
        with suppress(HomeportError):
            ledger = bench.shelf.peek(item).ledger
            if ledger.machine == name:
                yield ledger


def _check_guard(bench: Bench, name: str) -> None:
    """Raise MachineGuardedError if its note or a ledger says that it may not start."""
    note = bench.means.compute.note(name)
    if note is not None and not note.may_start:
        raise MachineGuardedError(name, note.reason)
    for ledger in _ledgers_of(bench, name):
        if is_locked(ledger) and (note is None or note.item == ledger.item):
            raise MachineGuardedError(name, f"{ledger.name} runs at the other site.")


def _pool(bench: Bench, name: str) -> Pool:
    for pool in bench.means.compute.inventory().pools:
        if pool.name == name:
            return pool
    raise NotFoundError(
        f"This host has no storage pool {name}.",
        code="PoolMissing",
        remedy="Name one that it has (homeport site show).",
    )


def _disk_path(folder: Path, disk: NewDisk) -> Path:
    check_name("disk", disk.name)
    return folder / f"{disk.name}.{disk.format}"


def _make_disk(path: Path, disk: NewDisk) -> None:
    """The disk's file, empty or a copy, made beside its place and renamed when it is whole."""
    if path.exists():
        raise RefusedError(
            f"{path} exists already.",
            code="NameTaken",
            remedy="Choose another name for the disk, or move the file away.",
        )
    partial = path.with_name(path.name + ".partial")
    if disk.image:
        run_tool(["qemu-img", "convert", "-O", disk.format, disk.image, str(partial)])
        run_tool(["qemu-img", "resize", "-q", "-f", disk.format, str(partial), str(disk.size)])
    else:
        run_tool(["qemu-img", "create", "-q", "-f", disk.format, str(partial), str(disk.size)])
    sync_path(partial)
    partial.rename(path)
    sync_path(path.parent)
