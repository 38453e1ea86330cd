"""
Booting a point where it lies: QEMU on throw-away overlays, so that nothing in the folder changes.

The machine gets what its definition says: memory, CPUs, firmware with a copy of its variables,
disks in order, network cards with their addresses. Its network is closed unless asked otherwise: a
second copy of a machine that other machines know must not speak to them by accident.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from homeport.dataplane.points import disk_size, run_tool
from homeport.errors import RefusedError, TransientError
from homeport.model.machine import Firmware, MachineDefinition
from homeport.rescue.finding import FoundDisk, FoundPoint
from homeport.rescue.taking import chain_node
from homeport.units import MiB

QEMU = "qemu-system-x86_64"
FIRMWARE_FOLDERS = (Path("/usr/share/OVMF"), Path("/usr/share/edk2/ovmf"), Path("/usr/share/qemu"))
SMALL_VARIABLES = 128 * 1024
"""Length of the variables that belong to a 2 MiB firmware; larger ones belong to a 4 MiB one."""
CODE_NAMES = {True: ("OVMF_CODE.fd",), False: ("OVMF_CODE_4M.fd", "OVMF_CODE.fd")}
BUSES = {"virtio": "virtio-blk-pci", "scsi": "scsi-hd", "sata": "ide-hd", "ide": "ide-hd"}
CARDS = {"virtio": "virtio-net-pci"}


class NoFirmwareError(RefusedError):
    """The machine starts by UEFI, and this host has no firmware for it."""

    code = "NoFirmware"
    default_cause = "The machine is started by UEFI; its firmware is a file of the host's."
    default_remedy = "Install it (Debian: apt-get install ovmf)."


class MachineEndedError(TransientError):
    """QEMU ended with an error."""

    code = "RescueMachineEnded"
    default_cause = "Its own words are above."
    default_remedy = "Correct what it says; the point is as it was."


@dataclass(frozen=True, kw_only=True, slots=True)
class BootOptions:
    """How the machine is run. `accel` is QEMU's name for it; `scratch` holds what it writes."""

    accel: str = "tcg"
    serial_log: Path | None = None
    headless: bool = False
    online: bool = False
    scratch: Path | None = None


def boot(point: FoundPoint, options: BootOptions) -> None:
    """
    Run the machine of a point to its end; what it has written is thrown away then.

    Raises:
        NoFirmwareError: nothing was started.
        MachineEndedError: QEMU could not be started, or has failed.
    """
    with tempfile.TemporaryDirectory(prefix="homeport-rescue-", dir=options.scratch) as folder:
        argv = command_line(point, options, Path(folder))
        for disk in point.disks:
            _overlay(disk, Path(folder))
        _run(argv)


def _run(argv: Sequence[str]) -> None:
    try:
        status = subprocess.run(argv, check=False).returncode
    except OSError as error:
        raise MachineEndedError(f"{QEMU} cannot be started: {error}", cause=str(error)) from error
    if status > 0:
        raise MachineEndedError(f"{QEMU} ended with status {status}.")


def _overlay(disk: FoundDisk, folder: Path) -> None:
    """An empty qcow2 that names nothing below itself: QEMU is told what it stands on."""
    size = disk_size(disk.files[0], disk.base_format if len(disk.files) == 1 else "qcow2")
    path = _overlay_path(disk, folder)
    run_tool(["qemu-img", "create", "-q", "-f", "qcow2", str(path), str(size)])


def _overlay_path(disk: FoundDisk, folder: Path) -> Path:
    return folder / f"{disk.disk.name}.qcow2"


def command_line(point: FoundPoint, options: BootOptions, folder: Path) -> list[str]:
    """How QEMU is started for a point, its overlays in `folder`."""
    machine = point.machine
    domain = ET.fromstring(machine.domain_xml)  # noqa: S314 - from a manifest, digest checked
    kind = domain.find("./os/type")
    board = "q35" if kind is not None and "q35" in kind.get("machine", "") else "pc"
    argv = [QEMU, "-name", f"rescue-{machine.name}", "-nodefaults", "-vga", "std"]
    argv += ["-machine", f"{board},accel={options.accel}", "-cpu", "max"]
    argv += ["-m", str(max(1, machine.memory // MiB)), "-smp", str(machine.vcpus)]
    argv += [*_firmware(machine, folder), *_disks(point, domain, folder)]
    argv += [*_cards(machine, online=options.online), *_console(options)]
    return argv


def _firmware(machine: MachineDefinition, folder: Path) -> Iterator[str]:
    if machine.firmware is not Firmware.UEFI:
        return
    variables = machine.nvram or b""
    code = _code(len(variables))
    yield from ("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}")
    if variables:
        copy = folder / "nvram.fd"
        copy.write_bytes(variables)
        kind = "qcow2" if variables.startswith(b"QFI\xfb") else "raw"
        yield from ("-drive", f"if=pflash,unit=1,format={kind},file={copy}")


def _code(length: int) -> Path:
    """The firmware that goes with variables of this length."""
    names = CODE_NAMES[length == SMALL_VARIABLES]
    for name in names:
        for folder in FIRMWARE_FOLDERS:
            if (folder / name).exists():
                return folder / name
    raise NoFirmwareError(f"None of {', '.join(names)} is on this host.")


def _disks(point: FoundPoint, domain: ET.Element, folder: Path) -> Iterator[str]:
    buses = {
        target.get("dev"): target.get("bus", "virtio")
        for target in domain.findall("./devices/disk/target")
    }
    used = {buses.get(disk.disk.target, "virtio") for disk in point.disks}
    if "scsi" in used:
        yield from ("-device", "virtio-scsi-pci,id=scsi0")
    if "sata" in used:
        yield from ("-device", "ahci,id=sata0")
    for index, disk in enumerate(point.disks):
        yield from _disk(index, disk, buses.get(disk.disk.target, "virtio"), folder)


def _disk(index: int, disk: FoundDisk, bus: str, folder: Path) -> Iterator[str]:
    node: dict[str, object] = {
        "driver": "qcow2",
        "node-name": f"disk{index}",
        "discard": "unmap",
        "file": {"driver": "file", "filename": str(_overlay_path(disk, folder))},
        "backing": chain_node(disk),
    }
    place = f",bus=sata0.{index}" if bus == "sata" else ",bus=scsi0.0" if bus == "scsi" else ""
    device = BUSES.get(bus, BUSES["virtio"])
    yield from ("-blockdev", json.dumps(node))
    yield from ("-device", f"{device},drive=disk{index},bootindex={index + 1}{place}")


def _cards(machine: MachineDefinition, *, online: bool) -> Iterator[str]:
    closed = "off" if online else "on"
    for index, nic in enumerate(machine.nics):
        card = CARDS.get(nic.model, nic.model)
        yield from ("-netdev", f"user,id=net{index},restrict={closed}")
        yield from ("-device", f"{card},netdev=net{index},mac={nic.mac}")


def _console(options: BootOptions) -> Iterator[str]:
    log = options.serial_log
    yield from ("-serial", f"file:{log}" if log else "mon:stdio")
    if log:
        yield from ("-monitor", "none")
    if options.headless or not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        yield from ("-display", "none")
