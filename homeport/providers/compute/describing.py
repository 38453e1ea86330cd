"""
From a domain's XML and its files to a `MachineDefinition`, or every reason why not.

A machine is either wholly understood or refused: all problems are found before the error is
raised, so that a person mends them in one go. `hypervisor` and `memory` bring what only they know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree import ElementTree as ET

from homeport.model.host import MachineProblem, UnsupportedMachineError
from homeport.model.ids import DiskName, InvalidNameError, check_name
from homeport.model.machine import DiskDefinition, DiskFormat, MachineDefinition
from homeport.providers.compute import domain_xml, uefi
from homeport.providers.compute.domain_xml import DiskFacts
from homeport.providers.compute.images import Image, UnreadableImageError, chain
from homeport.providers.compute.notes import write_note


@dataclass(kw_only=True, slots=True)
class Host:
    """What describing needs of the hypervisor."""

    pools: Mapping[str, str] = field(default_factory=dict)  # folder: pool
    volume_path: Callable[[str, str], str | None] = lambda _pool, _volume: None
    live_size: Callable[[str], int | None] = lambda _target: None
    variables: Path = uefi.FOLDER  # where libvirt makes UEFI variables of its own choice


def machine_definition(
    xml: str, *, names: Mapping[str, str] | None, host: Host, problems: list[MachineProblem]
) -> MachineDefinition:
    """
    The definition in `xml`, the inactive XML; `problems` has what the caller found already.

    Raises:
        UnsupportedMachineError: there are problems, the caller's and all found here.
    """
    root = domain_xml.parse(xml)
    name = domain_xml.text_of(root, "name")
    problems += _machine_problems(root, name)
    described = [
        disk
        for facts in replicable(root)
        if (disk := _described(facts, names or {}, host, problems)) is not None
    ]
    if problems:
        raise UnsupportedMachineError(name, tuple(dict.fromkeys(problems)))
    write_note(root, None)
    return MachineDefinition(
        name=name,
        uuid=domain_xml.text_of(root, "uuid"),
        memory=domain_xml.memory(root),
        vcpus=domain_xml.vcpus(root),
        firmware=domain_xml.firmware(root),
        disks=_distinct(described),
        nics=domain_xml.nics(root),
        domain_xml=domain_xml.print_xml(root),
        nvram=_variables(root, host),
    )


def replicable(root: ET.Element) -> list[DiskFacts]:
    """The disks that count: not a cdrom, a floppy, read-only or shareable."""
    return [facts for facts in domain_xml.disks(root) if not facts.fixed]


def running_problems(live: ET.Element) -> list[MachineProblem]:
    """Settings that the machine runs with, though its definition may have been mended since."""
    return [problem for facts in replicable(live) for problem in _setting_problems(facts)]


def top_files(root: ET.Element, host: Host) -> dict[str, str]:
    """Every disk's top file by target, also of disks that are not replicated."""
    found = {facts.target: disk_path(facts, host) for facts in domain_xml.disks(root)}
    return {target: path for target, path in found.items() if path is not None}


def disk_path(facts: DiskFacts, host: Host) -> str | None:
    """A disk's top file or device; a pool's volume is looked up."""
    return host.volume_path(*facts.volume) if facts.volume else facts.path


def _machine_problems(root: ET.Element, name: str) -> list[MachineProblem]:
    found = []
    try:
        check_name("machine", name)
    except InvalidNameError as error:
        found.append(_problem("InvalidName", str(error), error.remedy))
    if root.find("devices/tpm/backend[@type='emulator']") is not None:
        what = "It has an emulated TPM, whose secrets are not on its disks."
        remedy = "Suspend what the guest sealed with it and remove the TPM."
        found.append(_problem("EmulatedTpm", what, remedy))
    return found


def _described(
    facts: DiskFacts, names: Mapping[str, str], host: Host, problems: list[MachineProblem]
) -> DiskDefinition | None:
    """The disk, or None with its problems added."""
    found = _setting_problems(facts)
    path = disk_path(facts, host)
    if path is None:
        found.append(_not_local(facts))
        problems += found
        return None
    try:
        images = list(chain(Path(path), facts.format))
    except UnreadableImageError as error:
        found.append(_problem("UnreadableImage", str(error), error.remedy))
        images = []
    found += _image_problems(facts, images)
    disk = None if found else _definition(facts, images, names.get(facts.target), host, found)
    problems += found
    return disk


def _definition(
    facts: DiskFacts,
    images: list[Image],
    name: str | None,
    host: Host,
    problems: list[MachineProblem],
) -> DiskDefinition | None:
    base = base_of(images, name)
    try:
        return DiskDefinition(
            name=DiskName(name or domain_xml.stem(str(images[0].path))),
            target=facts.target,
            format=DiskFormat(base.format),
            size=host.live_size(facts.target) or images[0].size,
            suffix="" if base.path.is_block_device() else base.path.suffix,
            pool=host.pools.get(str(base.path.parent), ""),
            cluster_size=base.cluster_size or 65536,
        )
    except (InvalidNameError, ValueError) as error:
        remedy = "Give the file a plain name, and at least one sector."
        problems.append(_problem("InvalidName", str(error), remedy))
        return None


def base_of(images: list[Image], name: str | None) -> Image:
    """
    The file a disk is known by: before Homeport puts anything on it, its top file.

    Later the lowest of that `name` in its chain, so that a user's linked clone stays one disk on
    another; the lowest of all if none has it.
    """
    if name is None:
        return images[0]
    named = [image for image in images if image.path.stem == name]
    return named[-1] if named else images[-1]


def _distinct(found: list[DiskDefinition]) -> tuple[DiskDefinition, ...]:
    """Of two disks whose files have one name in two folders, the second also has its target's."""
    taken: set[str] = set()
    result = []
    for disk in found:
        name = disk.name if disk.name not in taken else DiskName(f"{disk.name}-{disk.target}")
        taken.add(name)
        result.append(replace(disk, name=name))
    return tuple(result)


def _setting_problems(facts: DiskFacts) -> list[MachineProblem]:
    settings = (
        (
            facts.copy_on_read,
            "CopyOnRead",
            "has copy-on-read, which makes QEMU abort on Homeport's overlays",
            "Remove copy_on_read='on' from its <driver> and restart the machine.",
        ),
        (
            facts.cache == "unsafe",
            "UnsafeCache",
            "has cache='unsafe', so nothing it says is written is sure to be",
            "Choose another cache mode in its <driver> and restart the machine.",
        ),
        (
            facts.transient,
            "TransientDisk",
            "is transient: its writes are thrown away at power off",
            "Remove <transient/>, or leave the disk out by making it read-only.",
        ),
        (
            facts.encrypted,
            "EncryptedDisk",
            "is encrypted by QEMU, and what Homeport lays over it would not be",
            "Encrypt inside the guest or below the pool instead.",
        ),
        (
            facts.device == "lun",
            "PassedThrough",
            "is a SCSI device passed through, which cannot have overlays",
            "Attach it as device='disk'.",
        ),
    )
    return [
        _problem(code, f"Disk {facts.target} {what}.", remedy)
        for applies, code, what, remedy in settings
        if applies
    ]


def _image_problems(facts: DiskFacts, images: list[Image]) -> list[MachineProblem]:
    found = []
    for image in images:
        if image.format not in ("raw", "qcow2"):
            what = f"Disk {facts.target} uses {image.path} in format {image.format}."
            remedy = "Convert it to raw or qcow2 with 'qemu-img convert'."
            found.append(_problem("DiskFormat", what, remedy))
        if image.snapshots:
            what = f"Disk {facts.target} has {image.snapshots} internal snapshots in {image.path}."
            remedy = "Delete them with 'virsh snapshot-delete': a commit would lose them."
            found.append(_problem("InternalSnapshots", what, remedy))
        if image.encrypted and not facts.encrypted:
            what = f"Disk {facts.target} uses {image.path}, which is encrypted."
            remedy = "Encrypt inside the guest or below the pool instead."
            found.append(_problem("EncryptedDisk", what, remedy))
    return found


def _not_local(facts: DiskFacts) -> MachineProblem:
    return _problem(
        "NotLocal",
        f"Disk {facts.target} is neither a file nor a block device of this host ({facts.kind}).",
        "Move it into a pool of files or of logical volumes.",
    )


def _problem(code: str, message: str, remedy: str) -> MachineProblem:
    return MachineProblem(code=code, message=message, remedy=remedy)


def _variables(root: ET.Element, host: Host) -> bytes | None:
    path = uefi.path_of(root, host.variables)
    return None if path is None else uefi.read(path)
