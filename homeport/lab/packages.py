"""
Which Debian packages the lab and its guest are made of, and which of them are missing.

`missing` is pure: it is told how to find a file. The lab asks before it changes anything, so that
a person gets one line to run instead of one failure after another.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from homeport.lab.errors import MissingPackagesError
from homeport.model.machine import Firmware

Present = Callable[[str], bool]
"""Whether a program (a bare name) or a file (an absolute path) is there."""

# One file or program that only this package brings, so that no package database is asked.
HOST_PACKAGES: Mapping[str, str] = MappingProxyType(
    {
        "iproute2": "ip",
        "util-linux": "unshare",
        "libvirt-daemon-system": "/etc/libvirt/libvirtd.conf",
        "libvirt-daemon": "libvirtd",
        "qemu-system-x86": "qemu-system-x86_64",
        "qemu-utils": "qemu-img",
        "dnsmasq-base": "dnsmasq",
        "iptables": "iptables",
    }
)

GUEST_PACKAGES: Mapping[str, str] = MappingProxyType(
    {
        "busybox-static": "busybox",
        "qemu-guest-agent": "qemu-ga",
        "e2fsprogs": "mkfs.ext4",
        "syslinux": "syslinux",
        "syslinux-common": "/usr/lib/syslinux/mbr/mbr.bin",
        "mtools": "mcopy",
        "cpio": "cpio",
        "qemu-utils": "qemu-img",
    }
)

UEFI_PACKAGES: Mapping[str, str] = MappingProxyType(
    {
        "ovmf": "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "syslinux-efi": "/usr/lib/SYSLINUX.EFI/efi64/syslinux.efi",
    }
)
"""What a guest that boots by UEFI needs beside these."""

# Debian keeps administrators' programs here, and a user's PATH may lack it.
_EXTRA_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"


def guest_packages(firmware: Firmware) -> Mapping[str, str]:
    """What a guest with this firmware is made of and boots by."""
    return {**GUEST_PACKAGES, **UEFI_PACKAGES} if firmware is Firmware.UEFI else GUEST_PACKAGES


def present_here(what: str) -> bool:
    """Whether this machine has the program or file."""
    if what.startswith("/"):
        return Path(what).exists()
    return shutil.which(what) is not None or shutil.which(what, path=_EXTRA_PATH) is not None


def missing(wanted: Mapping[str, str], present: Present = present_here) -> Sequence[str]:
    """Names of the packages whose witness file or program is absent, sorted."""
    return sorted(package for package, witness in wanted.items() if not present(witness))


def require(wanted: Mapping[str, str], present: Present = present_here) -> None:
    """
    Do nothing if all packages are there.

    Raises:
        MissingPackagesError: names every missing package and the one line that installs them.
    """
    absent = missing(wanted, present)
    if absent:
        raise MissingPackagesError(packages=absent)
