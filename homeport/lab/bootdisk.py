"""
The guest's OS disk as bytes: partition table, and where its two partitions lie. Pure.

    0        1 MiB            boot_end                    size
    | MBR    | FAT: syslinux, | ext4, label `root`        |
    |        | kernel, initrd |                           |
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from homeport.units import MiB

SECTOR = 512
BOOT_START = 1 * MiB

# MBR partition types: FAT16 by LBA, Linux.
_FAT16_LBA, _LINUX = 0x0E, 0x83
_ACTIVE = 0x80
# "Beyond what cylinders, heads and sectors can say": the firmware uses the sector numbers.
_NO_CHS = b"\xfe\xff\xff"
_CODE_BYTES = 440


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskPlan:
    """Sizes of the OS disk and its partitions, in bytes; all multiples of 1 MiB."""

    size: int
    boot_size: int

    def __post_init__(self) -> None:
        if self.size % MiB or self.boot_size % MiB:
            raise ValueError("sizes of disk and partitions are multiples of 1 MiB")
        if self.root_size < 16 * MiB:
            raise ValueError(f"{self.size} bytes leave no room for a root file system")

    @property
    def root_start(self) -> int:
        """Where the root file system begins."""
        return BOOT_START + self.boot_size

    @property
    def root_size(self) -> int:
        """How long the root file system is."""
        return self.size - self.root_start


def _entry(start: int, size: int, kind: int, *, active: bool) -> bytes:
    flag = _ACTIVE if active else 0
    sectors = (start // SECTOR, size // SECTOR)
    return struct.pack("<B3sB3sII", flag, _NO_CHS, kind, _NO_CHS, *sectors)


def master_boot_record(plan: DiskPlan, code: bytes, *, signature: int) -> bytes:
    """
    The disk's first sector: boot code, disk signature, two partitions.

    Raises:
        ValueError: the code does not fit before the signature.
    """
    if len(code) > _CODE_BYTES:
        raise ValueError(f"boot code of {len(code)} bytes does not fit into {_CODE_BYTES}")
    boot = _entry(BOOT_START, plan.boot_size, _FAT16_LBA, active=True)
    root = _entry(plan.root_start, plan.root_size, _LINUX, active=False)
    head = code.ljust(_CODE_BYTES, b"\0") + struct.pack("<IH", signature, 0)
    return head + boot + root + bytes(32) + b"\x55\xaa"
