"""
A virtual machine as a point carries it: enough to build it again from files alone.

The domain's own XML is carried whole, because users' machines have devices we know nothing of; the
parsed facts beside it are what Homeport decides by. Every recovery point's manifest holds one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from homeport.model.codec import Packed
from homeport.model.ids import DiskName, check_name


class DiskFormat(StrEnum):
    """How a disk's base file is laid out."""

    RAW = "raw"
    QCOW2 = "qcow2"


class Firmware(StrEnum):
    """What starts the machine."""

    BIOS = "bios"
    UEFI = "uefi"


class PowerState(StrEnum):
    """What a hypervisor says of a machine."""

    ABSENT = "absent"
    OFF = "off"
    RUNNING = "running"
    PAUSED = "paused"
    CRASHED = "crashed"


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskDefinition:
    """
    One replicated disk.

    `name` is the base file's name without its ending and never changes while the item lives;
    `target` is the device as the guest's bus counts it (`vda`).
    """

    name: DiskName
    target: str
    format: DiskFormat
    size: int  # virtual bytes
    suffix: str = ""  # the base file's ending, with its dot: ".raw", ".qcow2", ".img"
    pool: str = ""  # the pool or storage account it lies in, where libvirt knows one
    managed: bool = True  # else a file in a storage account that a person chose: it stays there
    cluster_size: int = 65536  # of a qcow2 base, so that a replica is made alike

    def __post_init__(self) -> None:
        check_name("disk", self.name)
        if self.size <= 0:
            raise ValueError(f"disk {self.name} has no size")


@dataclass(frozen=True, kw_only=True, slots=True)
class NicDefinition:
    """One network card; the MAC never changes, the network is mapped between sites."""

    mac: str
    network: str | None  # a network's name; "bridge:br0", "direct:eth0"; None: not attached
    model: str = "virtio"


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineDefinition:
    """
    A machine's shape. `domain_xml` is the inactive definition with its metadata of ours removed;
    its disk sources are those of the side it was read on, and are re-pointed before use.
    """

    name: str
    uuid: str
    memory: int  # bytes
    vcpus: int
    firmware: Firmware
    disks: tuple[DiskDefinition, ...]  # in the order the definition lists them
    nics: tuple[NicDefinition, ...]
    domain_xml: str
    nvram: Packed | None = None  # the UEFI variables, copied with the point, not of its instant

    def __post_init__(self) -> None:
        check_name("machine", self.name)

    def unmanaged(self) -> MachineDefinition:
        """The same machine, all its disks unmanaged."""
        return replace(self, disks=tuple(replace(disk, managed=False) for disk in self.disks))

    def disk(self, name: str) -> DiskDefinition:
        """The disk of that name; KeyError if there is none."""
        for disk in self.disks:
            if disk.name == name:
                return disk
        raise KeyError(name)
