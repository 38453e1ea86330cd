"""Definitions and disk files of machines for tests: no guest boots in them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from homeport.dataplane.qcow2_writer import create_overlay
from homeport.units import MiB

UUID = "24f91d71-8296-49a4-bd7e-a41a0ddb7d3a"
SIZE = 16 * MiB
NIC = (
    "<interface type='{kind}'><mac address='52:54:00:11:22:33'/>{source}"
    "<model type='e1000e'/></interface>"
)


def disk_xml(
    target: str,
    path: Path | None,
    *,
    format: str = "raw",  # noqa: A002
    device: str = "disk",
    driver: str = "",
    extra: str = "",
) -> str:
    """One `<disk>`; a file under /dev is a block device."""
    kind, attribute = ("block", "dev") if str(path).startswith("/dev/") else ("file", "file")
    bus = "sata" if device == "cdrom" else "virtio"
    source = "" if path is None else f"<source {attribute}='{path}'/>"
    return (
        f"<disk type='{kind}' device='{device}'><driver name='qemu' type='{format}' {driver}/>"
        f"{source}<target dev='{target}' bus='{bus}'/>{extra}</disk>"
    )


def machine_xml(
    *disks: str,
    name: str = "web",
    uuid: str = UUID,
    devices: str = "",
    os: str = "<type arch='x86_64' machine='q35'>hvm</type>",
    extra: str = "",
    firmware: str = "",
) -> str:
    """A machine of 64 MiB that stays in its firmware, which libvirt chooses if it is "efi"."""
    chosen = f" firmware='{firmware}'" if firmware else ""
    return (
        f"<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid>"
        f"<memory unit='KiB'>65536</memory><vcpu>1</vcpu>{extra}<os{chosen}>{os}</os>"
        f"<devices>{''.join(disks)}{devices}</devices></domain>"
    )


def raw_file(path: Path, size: int = SIZE) -> Path:
    """An empty raw disk."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def qcow2_file(path: Path, size: int = SIZE) -> Path:
    """A qcow2 disk as a user makes it."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), str(size)], check=True)
    return path


def overlay(path: Path, below: Path, kind: str = "qcow2", size: int = SIZE) -> Path:
    """An empty overlay of ours."""
    create_overlay(path, size=size, backing=str(below), backing_format=kind)
    return path
