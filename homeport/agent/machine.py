"""
The item's machine on this host: which one it is, so that nobody else's is stopped or deleted.

A machine of the right name may be another user's, made since protection began. Ours carries our
note, or is the one whose uuid the item's definition has.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from homeport.agent.held import HeldItem
from homeport.agent.means import Means
from homeport.errors import RefusedError
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
    """Delete the item's machine of that name; True if there is none of it afterwards."""
    if is_own(held, means, machine):
        means.compute.delete(machine)
    return means.compute.state(machine) is PowerState.ABSENT


def variables_in(definition: MachineDefinition) -> str:
    """Where the definition has its UEFI variables, empty if it names no file."""
    return ET.fromstring(definition.domain_xml).findtext("os/nvram") or ""  # noqa: S314 - libvirt's


def variables_path(held: HeldItem, machine: str) -> str:
    """
    Where a machine booted here keeps its UEFI variables: where the user's own had them, else
    beside the disks, so that they stay when the item's folder goes.
    """
    return held.ledger.variables or str(held.path(f"../../{machine}.nvram.fd"))
