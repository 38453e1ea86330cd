"""
The item's machine on this host: which one it is, so that nobody else's is stopped or deleted.

A machine of the right name may be another user's, made since protection began. Ours carries our
note, or is the one whose uuid the item's definition has. A note of another item, or a lock of
another name than ours, is somebody else's: it is told, and neither overwritten nor lifted.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from homeport.agent.held import HeldItem
from homeport.agent.means import Means
from homeport.errors import RefusedError
from homeport.model.host import Note, foreign_lock_remedy
from homeport.model.machine import MachineDefinition, PowerState


class NameTakenError(RefusedError):
    """A machine of the name the item's would have, which is not the item's."""

    code = "NameTaken"

    def __init__(self, machine: str) -> None:
        super().__init__(
            f"This host has a machine {machine} that is not of this item.",
            cause="It was made after protection had been enabled.",
            remedy="Rename or remove that machine, then try again.",
        )
        self.machine = machine


class ForeignLockError(RefusedError):
    """A machine that somebody else has locked, or that a lock was left on."""

    code = "ForeignLock"

    def __init__(self, machine: str, lock: str) -> None:
        super().__init__(
            f"Machine {machine} carries the lock {lock}.",
            cause="It was put there by somebody else, or left over from another vault or "
            "protection.",
            remedy=foreign_lock_remedy(machine),
        )
        self.machine, self.lock = machine, lock


def running_note(held: HeldItem, role: str) -> Note:
    """The note of a machine that may run here under the ledger's epoch."""
    return Note(item=held.item, epoch=held.ledger.epoch, role=role, may_start=True, confirm=True)


def fenced_note(held: HeldItem, *, lock: str) -> Note:
    """The note of a machine that may not run here."""
    return Note(
        item=held.item,
        epoch=held.ledger.epoch,
        role="fenced",
        may_start=False,
        reason=f"{held.ledger.name} runs at the other site since epoch {held.ledger.epoch}. "
        "Fail back or undo the failover to run it here.",
        lock=lock or None,
    )


def forbid(held: HeldItem, means: Means, machine: str, *, lock: str) -> None:
    """
    Switch the item's machine off and deny its start; done twice is done once.

    The mark comes first, so that nobody starts it in between. One that cannot be marked is switched
    off all the same. Save `fencing` before: whatever ends this half way, the guard goes on with it.
    """
    try:
        means.compute.set_autostart(machine, on=False)
        means.compute.set_note(machine, fenced_note(held, lock=lock))
    finally:
        means.compute.stop(machine, timeout=0)


def foreign_lock(held: HeldItem, note: Note | None, *ours: str) -> str | None:
    """The lock a note stands for if it is not the item's own under one of these names."""
    if note is None:
        return None
    if note.item != held.item:
        return f"{note.lock or 'of no name'} (of item {note.item})"
    return note.lock if note.lock and note.lock not in ours else None


def lock_on(held: HeldItem, means: Means) -> str | None:
    """The lock that is really on the item's machine; the ledger's where there is no machine."""
    machine, ledger = held.ledger.machine, held.ledger
    if means.compute.state(machine) is PowerState.ABSENT:
        return ledger.lock or None
    note = means.compute.note(machine)
    return foreign_lock(held, note, ledger.lock) or (note.lock if note else None)


def check_lock(held: HeldItem, means: Means, machine: str, *, lock: str = "") -> None:
    """
    Raise ForeignLockError if the machine carries another lock than the ledger's or `lock`.

    One that is absent carries none.
    """
    if means.compute.state(machine) is PowerState.ABSENT:
        return
    found = foreign_lock(held, means.compute.note(machine), held.ledger.lock, lock)
    if found is not None:
        raise ForeignLockError(machine, found)


def is_own(held: HeldItem, means: Means, machine: str) -> bool:
    """Whether the machine of that name is the item's; one that is absent is not."""
    if means.compute.state(machine) is PowerState.ABSENT:
        return False
    note = means.compute.note(machine)
    if note is not None:
        return note.item == held.item
    known = {one.name: one.uuid for one in means.compute.inventory().machines}
    return machine == held.ledger.definition.name and (
        known.get(machine) == held.ledger.definition.uuid
    )


def check_name_free(held: HeldItem, means: Means, machine: str) -> None:
    """Raise NameTakenError if the name is another machine's."""
    absent = means.compute.state(machine) is PowerState.ABSENT
    if not absent and not is_own(held, means, machine):
        raise NameTakenError(machine)


def delete_own(held: HeldItem, means: Means, machine: str) -> bool:
    """
    Delete the item's machine of that name; True if there is none of it afterwards.

    The ledger stops meaning it to be here before it goes, or the guard would make it again.
    """
    if machine == held.ledger.machine:
        held.save(guarded=False)
    if is_own(held, means, machine):
        means.compute.delete(machine)
    return means.compute.state(machine) is PowerState.ABSENT


def variables_in(definition: MachineDefinition) -> str:
    """Where the definition has its UEFI variables, empty if it names no file."""
    return ET.fromstring(definition.domain_xml).findtext("os/nvram") or ""  # noqa: S314 - libvirt's


def variables_path(
    held: HeldItem, means: Means, definition: MachineDefinition, machine: str
) -> str:
    """
    Where a machine booted here keeps its UEFI variables: where the user's own had them. Without one
    it is where libvirt has them if the definition leaves that to it, else beside the disks, so that
    they stay when the item's folder goes.
    """
    if held.ledger.variables:
        return held.ledger.variables
    own = None if variables_in(definition) else means.compute.variables(definition, name=machine)
    return str(own or held.path(f"../../{machine}.nvram.fd"))
