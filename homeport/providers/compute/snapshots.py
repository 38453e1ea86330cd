"""
Rotation: one libvirt snapshot that puts a fresh overlay under every disk at one instant.

`hypervisor` calls it with a machine's `virDomain`. What libvirt would accept although it loses
data is refused before: an overlay of another size or without a backing file, a machine with a saved
state, a disk left unnamed (which libvirt would then snapshot under a name of its own).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from homeport.model.host import Rotation
from homeport.model.manifest import Consistency
from homeport.providers.compute import domain_xml
from homeport.providers.compute.failures import (
    SavedStateError,
    StaleDefinitionError,
    UnknownDiskError,
    is_busy,
    is_lost,
)
from homeport.providers.compute.images import check_overlay, same_file

_FLAGS = (
    libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
)
# Without it a guest agent that hangs in its freeze scripts holds the call for ever. VSS, the
# slowest of them, gives its writers 60 s.
_AGENT_TIMEOUT = 60

IN_PLACE = Rotation(
    consistency=Consistency.CRASH,
    reason="the overlays were in place already, from a call that did not hear its answer",
)


def checked_request(domain: Any, current: Mapping[str, str], overlays: Mapping[str, Path]) -> str:
    """
    Check everything and return the snapshot's XML; `current` is each disk's top file by target.

    Raises:
        UnknownDiskError, SavedStateError, OverlayMismatchError, UnreadableImageError.
    """
    machine = domain.name()
    check_targets(machine, current, overlays)
    if domain.hasManagedSaveImage():
        raise SavedStateError(machine)
    root = domain_xml.parse(domain.XMLDesc(0))
    sizes = {target: domain.blockInfo(target)[0] for target in overlays}
    check_overlays(root, current, overlays, sizes)
    return snapshot_xml([facts.target for facts in domain_xml.disks(root)], overlays)


def check_targets(machine: str, current: Mapping[str, str], overlays: Mapping[str, Path]) -> None:
    """
    Raise unless each overlay is for a disk of the machine.

    Raises:
        UnknownDiskError.
    """
    for target in overlays:
        if target not in current:
            raise UnknownDiskError(machine, target, "the machine has no such disk")


def check_overlays(
    root: ET.Element,
    current: Mapping[str, str],
    overlays: Mapping[str, Path],
    sizes: Mapping[str, int],
) -> None:
    """
    Raise unless each overlay fits its disk, as `root` has it and as large as it is now.

    Raises:
        OverlayMismatchError, UnreadableImageError.
    """
    formats = {facts.target: facts.format for facts in domain_xml.disks(root)}
    for target, overlay in overlays.items():
        check_overlay(
            overlay,
            size=sizes[target],
            below=Path(current[target]),
            below_format=formats[target],
        )


def in_place(current: Mapping[str, str], overlays: Mapping[str, Path], machine: str) -> bool:
    """
    Whether all overlays are the disks' top files already.

    Raises:
        StaleDefinitionError: some are and some are not, which one call cannot have done.
    """
    there = [same_file(current.get(target), path) for target, path in overlays.items()]
    if any(there) and not all(there):
        raise StaleDefinitionError(machine, "some disks have their new overlay, others not")
    return all(there)


def snapshot_xml(targets: list[str], overlays: Mapping[str, Path]) -> str:
    """The request: every disk named, ours with their overlay, all others left out by name."""
    root = ET.Element("domainsnapshot")
    listed = ET.SubElement(root, "disks")
    for target in targets:
        disk = ET.SubElement(listed, "disk", {"name": target, "snapshot": "no"})
        if target in overlays:
            disk.set("snapshot", "external")
            disk.set("type", "file")
            ET.SubElement(disk, "driver", {"type": "qcow2"})
            ET.SubElement(disk, "source", {"file": str(overlays[target])})
    return ET.tostring(root, encoding="unicode")


def take(domain: Any, request: str, *, quiesce: bool) -> Rotation:
    """
    Make the snapshot; frozen if asked for and possible, otherwise plain with the reason.

    A refused freeze moves nothing, so the plain attempt after it is as good as the first.
    """
    if not quiesce:
        domain.snapshotCreateXML(request, _FLAGS)
        return Rotation(consistency=Consistency.CRASH)
    running = domain.isActive()
    reason = _take_frozen(domain, request) if running else _why_not_shut_down(domain)
    if reason or not running:
        domain.snapshotCreateXML(request, _FLAGS)
    consistency = Consistency.CRASH if reason else Consistency.APP
    return Rotation(consistency=consistency, reason=reason)


def _why_not_shut_down(domain: Any) -> str:
    """Empty when the guest shut itself down, which leaves its disks as good as a freeze does."""
    if domain.state()[1] == libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN:
        return ""
    return "the machine is off, and it is not known that the guest shut itself down"


def _take_frozen(domain: Any, request: str) -> str:
    """Empty when it was taken; why the guest could not be frozen otherwise."""
    try:
        domain.agentSetResponseTimeout(_AGENT_TIMEOUT, 0)
        domain.snapshotCreateXML(request, _FLAGS | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE)
    except libvirt.libvirtError as error:
        if is_lost(error) or is_busy(error):
            raise
        return f"the guest could not be frozen: {error.get_error_message()}"
    return ""
