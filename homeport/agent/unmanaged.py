"""
Unmanaged disks of a machine that is kept: its data disks are the replica, its OS disk has a copy.

Managed disks are renamed to be the replica; unmanaged ones lie where a person put them and are used
in place, under their names. So that the kept machine and the replica do not share a file, the data
disks are detached from it, and a copy of the OS disk, which is the first one, is attached instead
of it. The machine as it was is written down first; it gets its own disks back when it is booted
here again or released, and then the copy is gone.

    write the definition down -> enter the copy -> make it -> have the machine name it

Each step is found done when repeated. The copy is of the disk as the machine last saw it: it is
made before anything is set aside.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from homeport.agent.definitions import keep_definition
from homeport.agent.held import HeldItem
from homeport.agent.ledgers import write_durably
from homeport.agent.machine import fenced_note
from homeport.agent.means import Means
from homeport.agent.resources import open_entries
from homeport.dataplane.points import commit_down, run_tool, sync_path
from homeport.errors import RefusedError
from homeport.model.codec import from_json, to_json
from homeport.model.host import DiskPlace, Placement
from homeport.model.ledger import DiskChain
from homeport.model.machine import MachineDefinition, PowerState

COPY = "copy"
"""Kind of the copy's entry in the ledger; its name is the file's path."""
COPY_SUFFIX = "-OScopy"
ATTACHED_FILE = "attached.json"
"""In the item's folder: the machine with all its disks, as it was before they were detached."""


class CopyTakenError(RefusedError):
    """A file under the name that the OS disk's copy would get, which is not Homeport's."""

    code = "NameTaken"

    def __init__(self, disk: str, path: Path) -> None:
        super().__init__(
            f"{path} exists, and is not Homeport's.",
            cause=f"The copy of disk {disk} gets this name, for the machine that is kept.",
            remedy="Move the file away, then ask for the reprotect again.",
        )
        self.disk, self.path = disk, path


def use_in_place(held: HeldItem, means: Means) -> tuple[str, ...]:
    """
    Detach what becomes the replica from the machine that is kept, which is off; in words.

    Without a machine, or where all disks are managed, there is nothing to do.
    """
    own = [chain for chain in held.ledger.disks if not chain.disk.managed]
    machine = held.ledger.machine
    if not own or means.compute.state(machine) is PowerState.ABSENT:
        return ()
    system = held.ledger.disks[0]
    copy = _copy_path(held, system)
    if means.compute.sources(machine).persistent.get(system.disk.target) == str(copy):
        return ()  # done before; the copy is the machine's since, and is not made again
    if copy.exists() and str(copy) not in {one.name for one in open_entries(held, COPY)}:
        raise CopyTakenError(system.name, copy)
    _write_down(held, means)
    reason = "copy of the OS disk, attached to the machine that is kept until failback"
    held.save(made=held.made(COPY, str(copy), reason, means.clock.now()))
    _make(held, system, copy)
    _name_copy(held, means, system, copy)
    keep_definition(held, means)
    told = f"copied: {system.name} as {copy.name}, which is attached to {machine} instead of it"
    detached = ", ".join(chain.name for chain in held.ledger.disks if chain is not system)
    more = f"detached from {machine} and used in place: {detached}"
    return (told, more) if detached else (told,)


def has_copy(held: HeldItem) -> bool:
    """Whether the kept machine has a copy of its OS disk, and its other disks are detached."""
    return bool(open_entries(held, COPY))


def give_back(held: HeldItem, means: Means) -> None:
    """Have the machine that is kept name its own disks again, all of them, each its base."""
    path = held.folder / ATTACHED_FILE
    machine = held.ledger.machine
    if not path.exists() or means.compute.state(machine) is PowerState.ABSENT:
        return
    definition = from_json(MachineDefinition, path.read_bytes())
    places = {
        chain.disk.target: DiskPlace(
            path=str(held.path(chain.base)), format=chain.disk.format.value
        )
        for chain in held.ledger.disks
    }
    means.compute.create(definition, _placement(held, definition, places))


def drop_copy(held: HeldItem, means: Means) -> None:
    """The machine has its own disks: the copy goes, and what was written down."""
    for entry in open_entries(held, COPY):
        for path in _files(Path(entry.name)):
            path.unlink(missing_ok=True)
        held.save(made=held.gone(COPY, entry.name, means.clock.now()))
    (held.folder / ATTACHED_FILE).unlink(missing_ok=True)


def _write_down(held: HeldItem, means: Means) -> None:
    """The machine with all its disks; what is written down already is from before a crash."""
    path = held.folder / ATTACHED_FILE
    if not path.exists():
        names = {chain.disk.target: chain.name for chain in held.ledger.disks}
        definition = means.compute.describe(held.ledger.machine, names=names)
        write_durably(path, to_json(MachineDefinition, definition))


def _copy_path(held: HeldItem, chain: DiskChain) -> Path:
    """Beside the disk, where a copy may share its blocks; of a device in the item's pool."""
    base = held.path(chain.base)
    folder = held.folder.parent.parent if base.is_block_device() else base.parent
    return folder / f"{chain.name}{COPY_SUFFIX}{chain.disk.suffix}"


def _files(copy: Path) -> tuple[Path, Path, Path]:
    """A copy, the copy before it is whole, and that of a layer that goes into it."""
    return copy, copy.with_name(copy.name + ".partial"), copy.with_name(copy.name + ".layer")


def _make(held: HeldItem, chain: DiskChain, copy: Path) -> None:
    """
    The disk through all its layers, as one file, whole or not at all.

    The base's blocks are shared where the file system can; the layers are small beside it.
    """
    if copy.exists():
        return
    final, partial, scratch = _files(copy)
    try:
        _clone(held.path(chain.base), partial)
        for name in chain.names[1:]:
            if held.path(name).exists():
                _clone(held.path(name), scratch)
                commit_down(scratch, into=partial, into_format=chain.disk.format.value, above=())
                scratch.unlink()
        sync_path(partial)
    except Exception:  # the pool may be full of it
        for path in (partial, scratch):
            path.unlink(missing_ok=True)
        raise
    partial.rename(final)
    sync_path(final.parent)


def _clone(source: Path, copy: Path) -> None:
    copy.unlink(missing_ok=True)
    run_tool(["cp", "--reflink=auto", "--sparse=always", str(source), str(copy)])


def _name_copy(held: HeldItem, means: Means, system: DiskChain, copy: Path) -> None:
    """The machine without its data disks, and with the copy for the OS disk."""
    kept = from_json(MachineDefinition, (held.folder / ATTACHED_FILE).read_bytes())
    others = {chain.disk.target for chain in held.ledger.disks if chain is not system}
    root = ET.fromstring(kept.domain_xml)  # noqa: S314 - libvirt's own
    devices = root.find("devices")
    for disk in [] if devices is None else devices.findall("disk"):
        target = disk.find("target")
        if devices is not None and target is not None and target.get("dev") in others:
            devices.remove(disk)
    alone = MachineDefinition(
        name=kept.name,
        uuid=kept.uuid,
        memory=kept.memory,
        vcpus=kept.vcpus,
        firmware=kept.firmware,
        disks=tuple(disk for disk in kept.disks if disk.target == system.disk.target),
        nics=kept.nics,
        domain_xml=ET.tostring(root, encoding="unicode"),
    )
    place = DiskPlace(path=str(copy), format=system.disk.format.value)
    means.compute.create(alone, _placement(held, alone, {system.disk.target: place}))


def _placement(
    held: HeldItem, definition: MachineDefinition, places: dict[str, DiskPlace]
) -> Placement:
    """As the machine was on this host, but for its disks; its variables stay as they are."""
    return Placement(
        name=held.ledger.machine,
        uuid=definition.uuid,
        disks=places,
        networks={nic.network: nic.network for nic in definition.nics if nic.network},
        note=fenced_note(held, lock=held.ledger.lock),
    )
