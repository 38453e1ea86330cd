"""Machines of the user's own, made, started, stopped and shown on request."""

from __future__ import annotations

from pathlib import Path

from homeport.agent.newmachine import describe_new
from homeport.agent.operations.order import Bench
from homeport.dataplane.points import run_tool
from homeport.errors import NotFoundError, RefusedError
from homeport.model.host import DiskPlace, Placement, Pool, UnknownMachineError
from homeport.model.ids import check_name
from homeport.model.machine import PowerState
from homeport.model.operations import (
    CreateMachine,
    MachineName,
    MachineShape,
    NewDisk,
    Nothing,
)


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
    """Make a machine with its disks in the pool; one that is there already stays as it is."""
    check_name("machine", order.name)
    compute = bench.means.compute
    if compute.state(order.name) is not PowerState.ABSENT:
        raise RefusedError(
            f"There is a machine {order.name} on this host already.",
            code="NameTaken",
            remedy="Choose another name.",
        )
    pool = _pool(bench, order.pool)
    paths = {disk.name: _make_disk(Path(pool.path), disk) for disk in order.disks}
    kvm = compute.inventory().kvm
    definition = describe_new(order, {name: str(path) for name, path in paths.items()}, kvm=kvm)
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
    """Start a machine, unless it is fenced or locked."""
    _check_guard(bench, order.name)
    bench.means.compute.start(order.name)
    return Nothing()


def stop_machine(bench: Bench, order: MachineName) -> Nothing:
    """Shut a machine down; after the time-out its power is cut."""
    bench.means.compute.stop(order.name, timeout=order.timeout)
    return Nothing()


def delete_machine(bench: Bench, order: MachineName) -> Nothing:
    """Take a machine away that belongs to no item; its disks stay."""
    note = bench.means.compute.note(order.name)
    if note is not None:
        raise MachineGuardedError(order.name, note.reason or "It belongs to a replicated item.")
    bench.means.compute.delete(order.name)
    return Nothing()


def show_machine(bench: Bench, order: MachineName) -> MachineShape:
    """A machine's definition and state."""
    compute = bench.means.compute
    state = compute.state(order.name)
    if state is PowerState.ABSENT:
        raise UnknownMachineError(order.name)
    return MachineShape(definition=compute.describe(order.name), state=state)


def _check_guard(bench: Bench, name: str) -> None:
    note = bench.means.compute.note(name)
    if note is not None and not note.may_start:
        raise MachineGuardedError(name, note.reason)


def _pool(bench: Bench, name: str) -> Pool:
    for pool in bench.means.compute.inventory().pools:
        if pool.name == name:
            return pool
    raise NotFoundError(
        f"This host has no storage pool {name}.",
        code="PoolMissing",
        remedy="Name one that it has (homeport site show).",
    )


def _make_disk(folder: Path, disk: NewDisk) -> Path:
    """The disk's file, empty or a copy, made beside its place and renamed when it is whole."""
    check_name("disk", disk.name)
    path = folder / f"{disk.name}.{disk.format}"
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
    partial.rename(path)
    return path
