"""
What a host's libvirt finds on its disk before it starts: settings, network, pool, capabilities.

Written straight into the folders libvirtd reads at start, so that there is nothing to define, and
nothing half-defined, afterwards. Called with the host down; everything may be written twice, and
definitions that others made on the host since are left alone.
"""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from homeport.lab.files import write_whole
from homeport.lab.layout import GUESTS_INSIDE, POOL_INSIDE, PRIVATE_FOLDERS, HostFolder

# Debian's own; what a host starts from.
PACKAGED = Path("/etc/libvirt")

# Root, and no drivers that look at the machine's own state: without user="root" libvirt probes QEMU
# for a minute on every definition where /dev/kvm is root's; "file" because no virtlogd runs here.
QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Furniture:
    """What differs from host to host."""

    host_uuid: uuid.UUID
    network_uuid: uuid.UUID
    pool_uuid: uuid.UUID
    guest_network: IPv4Network
    dhcp: bool


def libvirtd_conf(host_uuid: uuid.UUID) -> str:
    """Root alone may connect, and the host is told apart from its neighbours on this machine."""
    return (
        'auth_unix_rw = "none"\n'
        'unix_sock_rw_perms = "0700"\n'
        f'host_uuid = "{host_uuid}"\n'
        "max_clients = 200\n"
    )


def network_xml(furniture: Furniture) -> str:
    """The network `default`: a bridge, with addresses given to guests if `dhcp`, else bare."""
    hosts = list(furniture.guest_network.hosts())
    answers = (
        f"  <ip address='{hosts[0]}' netmask='{furniture.guest_network.netmask}'>\n"
        f"    <dhcp><range start='{hosts[9]}' end='{hosts[-1]}'/></dhcp>\n"
        "  </ip>\n"
    )
    return (
        "<network>\n"
        "  <name>default</name>\n"
        f"  <uuid>{furniture.network_uuid}</uuid>\n"
        "  <bridge name='virbr0' stp='off' delay='0'/>\n"
        f"{answers if furniture.dhcp else ''}"
        "</network>\n"
    )


def pool_xml(furniture: Furniture) -> str:
    """The storage pool `default`, a folder of the host."""
    return (
        "<pool type='dir'>\n"
        "  <name>default</name>\n"
        f"  <uuid>{furniture.pool_uuid}</uuid>\n"
        f"  <target><path>{POOL_INSIDE}</path></target>\n"
        "</pool>\n"
    )


def _define(folder: Path, name: str, xml: str, inside: str) -> None:
    write_whole(folder / f"{name}.xml", xml)
    link = folder / "autostart" / f"{name}.xml"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(f"/etc/libvirt/{inside}/{name}.xml")


def _make_folders(host: HostFolder) -> None:
    places = [host.path / own for own, _ in PRIVATE_FOLDERS]
    for place in (*places, host.images, host.guests, host.hooks, host.agent, host.config.parent):
        place.mkdir(parents=True, exist_ok=True)


def furnish(host: HostFolder, furniture: Furniture) -> None:
    """Write everything a new host needs; on a host that has run before, only what is missing."""
    _make_folders(host)
    etc = host.path / "etc/libvirt"
    if (PACKAGED / "nwfilter").is_dir() and not (etc / "nwfilter").exists():
        shutil.copytree(PACKAGED / "nwfilter", etc / "nwfilter")
    write_whole(etc / "qemu.conf", QEMU_CONF)
    write_whole(etc / "libvirtd.conf", libvirtd_conf(furniture.host_uuid))
    if not (etc / "qemu/networks").exists():
        _define(etc / "qemu/networks", "default", network_xml(furniture), "qemu/networks")
    if not (etc / "storage").exists():
        _define(etc / "storage", "default", pool_xml(furniture), "storage")


def forget_last_boot(host: HostFolder) -> None:
    """Empty what a real host keeps in memory only: /run, and who its processes were."""
    shutil.rmtree(host.path / "run/libvirt", ignore_errors=True)
    (host.path / "run/libvirt").mkdir(parents=True)
    host.first.unlink(missing_ok=True)
    host.services.unlink(missing_ok=True)


def _copy_new(source: Path, target: Path) -> int:
    """Copy the files `target` lacks, with their times, each whole or not at all; count them."""
    copied = 0
    target.mkdir(parents=True, exist_ok=True)
    for file in source.glob("*.xml"):
        if not (target / file.name).exists():
            partial = target / f".{file.name}.{os.getpid()}"
            shutil.copy2(file, partial)
            partial.replace(target / file.name)
            copied += 1
    return copied


def warm(host: HostFolder, cache: Path) -> bool:
    """
    Give a host what libvirt learnt about QEMU on earlier ones; say whether it has any of it.

    libvirt itself throws away what no longer fits (another QEMU, kernel or libvirt).
    """
    _copy_new(cache, host.capabilities)
    return any(host.capabilities.glob("*.xml"))


def keep_warm(host: HostFolder, cache: Path) -> int:
    """Keep for later hosts what libvirt has learnt on this one; count what was new."""
    return _copy_new(host.capabilities, cache)


__all__ = [
    "GUESTS_INSIDE",
    "POOL_INSIDE",
    "Furniture",
    "forget_last_boot",
    "furnish",
    "keep_warm",
    "libvirtd_conf",
    "network_xml",
    "pool_xml",
    "warm",
]
