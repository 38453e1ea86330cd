"""The libvirt definition of a lab's guest: what its disks, ports and NIC look like. Pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from homeport.lab.guestimage import GuestImage
from homeport.lab.layout import GUESTS_INSIDE
from homeport.model.machine import Firmware
from homeport.units import KiB, MiB

ACK_PORT = "org.homeport.ack"
AGENT_PORT = "org.qemu.guest_agent.0"


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestDisk:
    """One disk of a guest, by the path its host knows."""

    path: Path
    target: str
    image_format: str = "raw"


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestDomain:
    """A guest as libvirt is told of it. Paths are the host's own."""

    name: str
    disks: Sequence[GuestDisk]
    mac: str
    network: str = "default"
    accelerator: str = "qemu"
    """libvirt's domain type: `qemu` (TCG) or `kvm`."""
    memory: int = 256 * MiB
    vcpus: int = 1
    firmware: Firmware = Firmware.BIOS
    folder: Path = GUESTS_INSIDE
    """Where the serial log and the acknowledgements are kept."""

    @property
    def serial_log(self) -> Path:
        """What the guest wrote to its console, over all its boots."""
        return self.folder / f"{self.name}.serial"

    @property
    def ack_log(self) -> Path:
        """What the guest acknowledged, over all its boots."""
        return self.folder / f"{self.name}.ack"


def mac_for(name: str) -> str:
    """A MAC address in QEMU's range that is the same for the same name."""
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in sha256(name.encode()).digest()[:3])


def disks_of(image: GuestImage, folder: Path) -> tuple[GuestDisk, GuestDisk]:
    """A guest's disks as the host knows them: the image's files, in the host's own `folder`."""
    files = (image.os_disk, image.data_disk)
    first, second = (
        GuestDisk(path=folder / file.name, target=target, image_format=image.image_format)
        for file, target in zip(files, ("vda", "vdb"), strict=True)
    )
    return first, second


def _add(parent: ET.Element, tag: str, text: str = "", **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text or None
    return element


def _add_disk(devices: ET.Element, disk: GuestDisk) -> None:
    element = _add(devices, "disk", type="file", device="disk")
    _add(
        element,
        "driver",
        name="qemu",
        type=disk.image_format,
        cache="none",
        io="threads",
        discard="unmap",
    )
    _add(element, "source", file=str(disk.path))
    _add(element, "target", dev=disk.target, bus="virtio")


def _add_port(devices: ET.Element, name: str, kind: str, file: Path | None) -> None:
    channel = _add(devices, "channel", type=kind)
    if file is not None:
        _add(channel, "source", path=str(file), append="on")
    _add(channel, "target", type="virtio", name=name)


def _add_devices(devices: ET.Element, guest: GuestDomain) -> None:
    for disk in guest.disks:
        _add_disk(devices, disk)
    nic = _add(devices, "interface", type="network")
    _add(nic, "mac", address=guest.mac)
    _add(nic, "source", network=guest.network)
    _add(nic, "model", type="virtio")
    serial = _add(devices, "serial", type="file")
    _add(serial, "source", path=str(guest.serial_log), append="on")
    _add_port(devices, AGENT_PORT, "unix", None)
    _add_port(devices, ACK_PORT, "file", guest.ack_log)
    # Without a video device there is nothing to take a screenshot of.
    _add(_add(devices, "video"), "model", type="vga", vram="16384")
    _add(devices, "memballoon", model="none")


def _add_firmware(root: ET.Element, firmware: Firmware) -> None:
    """As `virt-install --boot uefi` has it: libvirt chooses the firmware's files by itself."""
    if firmware is Firmware.BIOS:
        _add(_add(root, "os"), "type", "hvm", arch="x86_64", machine="pc")
        return
    system = _add(root, "os", firmware="efi")
    _add(system, "type", "hvm", arch="x86_64", machine="q35")
    # Unsigned as it is, the guest's boot loader is denied by a firmware that checks.
    _add(_add(system, "firmware"), "feature", enabled="no", name="secure-boot")


def guest_domain_xml(guest: GuestDomain) -> str:
    """The definition, for `defineXML`; autostart stays off, as libvirt's default has it."""
    root = ET.Element("domain", type=guest.accelerator)
    _add(root, "name", guest.name)
    _add(root, "memory", str(guest.memory // KiB), unit="KiB")
    _add(root, "vcpu", str(guest.vcpus))
    _add_firmware(root, guest.firmware)
    _add(_add(root, "features"), "acpi")
    _add(root, "on_poweroff", "destroy")
    _add(root, "on_reboot", "restart")
    _add(root, "on_crash", "destroy")
    _add_devices(_add(root, "devices"), guest)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode")
