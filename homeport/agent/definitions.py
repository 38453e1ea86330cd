"""
The definition of an item's machine, so that it can be made again as it was.

The side that owns the machine has it in its ledger or in the point it booted. On the other side the
ledger's becomes that of the machine over there with the next point that lands, so the machine that
is kept and locked here has its own in a file beside the ledger.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import structlog

from homeport.agent.booting import manifest_of
from homeport.agent.held import HeldItem
from homeport.agent.ledgers import write_durably
from homeport.agent.machine import fenced_note, running_note, variables_in, variables_path
from homeport.agent.means import Means
from homeport.agent.source import describe_here
from homeport.errors import HomeportError, RefusedError
from homeport.model.codec import from_json, to_json
from homeport.model.host import DiskPlace, Note, Placement
from homeport.model.item import Role
from homeport.model.machine import Firmware, MachineDefinition

KEPT_FILE = "machine.json"
"""In the item's folder: the machine that is kept and locked, as it was when it was fenced."""

log = structlog.get_logger("homeport.agent")


class NoDefinitionError(RefusedError):
    """A machine that is to be made again, and nothing says what it was like."""

    code = "NoDefinition"

    def __init__(self, machine: str) -> None:
        super().__init__(
            f"Machine {machine} was undefined, and its definition is not known here.",
            cause="It was fenced by a version that did not keep definitions, or could not be read.",
            remedy="Nothing is lost: its disks are the replica. A failback defines it from the "
            "point it boots.",
        )


def keep_definition(held: HeldItem, means: Means) -> None:
    """
    Keep the machine's definition as it is now; what was kept before stays if it cannot be read.

    Call it while the definition names the machine's own disks.
    """
    try:
        definition, _ = describe_here(held, means)
    except RefusedError as error:
        log.info("definition_not_kept", item=held.item, message=error.message)
        return
    write_durably(held.folder / KEPT_FILE, to_json(MachineDefinition, definition))


def define_again(held: HeldItem, means: Means) -> None:
    """
    Make the machine again under its name, off, autostart off, with its disks, note and variables.

    A variables file that is still there stays as it is. Raises what `Compute.create` raises, and
    NoDefinitionError.
    """
    machine, role = held.ledger.machine, held.ledger.role
    definition = _definition(held)
    networks: dict[str, str | None] = {
        nic.network: nic.network for nic in definition.nics if nic.network
    }
    if role is Role.RUNNING:
        networks = held.ledger.networks
    variables = _variables(held, means, definition)
    if variables and Path(variables).exists():
        definition = replace(definition, nvram=None)
    placement = Placement(
        name=machine,
        uuid=definition.uuid,
        disks=_places(held, definition),
        networks=networks,
        nvram_path=variables,
        note=_note(held),
    )
    means.compute.create(definition, placement)


def _definition(held: HeldItem) -> MachineDefinition:
    ledger = held.ledger
    if ledger.role is Role.RUNNING and ledger.booted is not None:
        return manifest_of(held, ledger.booted).machine
    kept = held.folder / KEPT_FILE
    if ledger.role in {Role.FENCED, Role.TARGET} and kept.exists():
        try:
            return from_json(MachineDefinition, kept.read_bytes())
        except HomeportError as error:
            log.warning("kept_definition_unreadable", item=held.item, message=error.message)
    if ledger.role is Role.TARGET:
        raise NoDefinitionError(ledger.machine)
    return ledger.definition


def _note(held: HeldItem) -> Note:
    role = held.ledger.role
    if role in {Role.SOURCE, Role.RUNNING}:
        return running_note(held, role.value)
    return fenced_note(held, lock=held.ledger.lock)


def _variables(held: HeldItem, means: Means, definition: MachineDefinition) -> str | None:
    if definition.firmware is not Firmware.UEFI:
        return None
    known = variables_path(held, means, definition, held.ledger.machine)
    if held.ledger.role is Role.RUNNING:
        return known
    return variables_in(definition) or known


def _places(held: HeldItem, definition: MachineDefinition) -> dict[str, DiskPlace]:
    """
    The active layers; where there are none, what the definition had.

    That is the case of a kept machine whose disks are a replica now: its definition names files
    that are gone, so that it could not be started into the replica.
    """
    places = _named_in(definition)
    for chain in held.ledger.disks:
        if chain.active:
            path = str(held.path(chain.active))
            places[chain.disk.target] = DiskPlace(path=path, format="qcow2")
    targets = {disk.target for disk in definition.disks}
    return {target: place for target, place in places.items() if target in targets}


def _named_in(definition: MachineDefinition) -> dict[str, DiskPlace]:
    found = {}
    root = ET.fromstring(definition.domain_xml)  # noqa: S314 - libvirt's own
    for disk in root.iterfind("devices/disk"):
        target, source, driver = disk.find("target"), disk.find("source"), disk.find("driver")
        if target is None or source is None:
            continue
        path = source.get("file") or source.get("dev") or ""
        kind = "raw" if driver is None else driver.get("type", "raw")
        found[target.get("dev", "")] = DiskPlace(path=path, format=kind)
    return found
