"""The definition of a machine made from nothing: plain virtio devices, in libvirt's words."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from homeport.model.ids import DiskName
from homeport.model.machine import (
    DiskDefinition,
    DiskFormat,
    Firmware,
    MachineDefinition,
    NicDefinition,
)
from homeport.model.machine_orders import CreateMachine

SPACE = uuid.UUID("0f6a2c0e-90b8-5b0b-9a67-6d616368696e")
"""Namespace of the ids of machines made here: the same name on the same disks, the same id."""


def describe_new(
    order: CreateMachine, paths: Mapping[DiskName, str], *, kvm: bool
) -> MachineDefinition:
    """The machine that is asked for, its disks in order from `vda` on."""
    identity = uuid.uuid5(SPACE, "|".join([order.name, *paths.values()]))
    mac = "52:54:00:" + ":".join(f"{byte:02x}" for byte in identity.bytes[-3:])
    disks = tuple(
        DiskDefinition(
            name=disk.name,
            target=f"vd{chr(ord('a') + index)}",
            format=DiskFormat(disk.format),
            size=disk.size,
            suffix=f".{disk.format}",
            pool=order.pool,
        )
        for index, disk in enumerate(order.disks)
    )
    nics = (NicDefinition(mac=mac, network=order.network),) if order.network else ()
    return MachineDefinition(
        name=order.name,
        uuid=str(identity),
        memory=order.memory,
        vcpus=order.vcpus,
        firmware=Firmware.BIOS,
        disks=disks,
        nics=nics,
        domain_xml=_xml(order, disks, nics, paths, identity=str(identity), kvm=kvm),
    )


def _add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _xml(
    order: CreateMachine,
    disks: tuple[DiskDefinition, ...],
    nics: tuple[NicDefinition, ...],
    paths: Mapping[DiskName, str],
    *,
    identity: str,
    kvm: bool,
) -> str:
    domain = ET.Element("domain", {"type": "kvm" if kvm else "qemu"})
    _add(domain, "name", order.name)
    _add(domain, "uuid", identity)
    _add(domain, "memory", str(order.memory // 1024), unit="KiB")
    _add(domain, "vcpu", str(order.vcpus))
    system = _add(domain, "os")
    _add(system, "type", "hvm", arch="x86_64", machine="pc")
    _add(system, "boot", dev="hd")
    features = _add(domain, "features")
    _add(features, "acpi")
    devices = _add(domain, "devices")
    for disk in disks:
        element = _add(devices, "disk", type="file", device="disk")
        _add(element, "driver", name="qemu", type=disk.format.value, cache="none", discard="unmap")
        _add(element, "source", file=paths[disk.name])
        _add(element, "target", dev=disk.target, bus="virtio")
    for nic in nics:
        element = _add(devices, "interface", type="network")
        _add(element, "mac", address=nic.mac)
        _add(element, "source", network=nic.network or "")
        _add(element, "model", type=nic.model)
    channel = _add(devices, "channel", type="unix")
    _add(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    _add_console(devices, order)
    video = _add(devices, "video")
    _add(video, "model", type="vga")
    return ET.tostring(domain, encoding="unicode")


def _add_console(devices: ET.Element, order: CreateMachine) -> None:
    """A serial console, logged where that was asked for."""
    serial = _add(devices, "serial", type="pty")
    if order.logs:
        _add(serial, "log", file=str(Path(order.logs) / f"{order.name}.serial.log"), append="on")
    _add(serial, "target", port="0")
