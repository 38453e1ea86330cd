"""
What a host has, asked of libvirt in few calls: pools, networks, machines, memory.

Pools of files are measured by the file system itself: libvirt's own figures are those of the
last refresh, and a refresh opens every image of the pool.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import libvirt

from homeport.model.host import HostInventory, MachineFacts, Network, Pool
from homeport.model.machine import PowerState
from homeport.providers.compute import domain_xml
from homeport.providers.compute.describing import Host, disk_path, replicable

_STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_RUNNING: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_SHUTDOWN: PowerState.RUNNING,  # going down, still there
    libvirt.VIR_DOMAIN_PAUSED: PowerState.PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: PowerState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTOFF: PowerState.OFF,
    libvirt.VIR_DOMAIN_CRASHED: PowerState.CRASHED,
}
_GONE = (
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_NO_NETWORK,
    libvirt.VIR_ERR_NO_STORAGE_POOL,
)
_FOLDERS = ("dir", "fs", "netfs")
_KIB = 1024


T = TypeVar("T")


def read_inventory(link: Any) -> HostInventory:
    """All of it, from one connection."""
    _, _, cpus, *_ = link.getInfo()
    memory = link.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
    host = host_of(link)
    return HostInventory(
        memory=memory["total"] * _KIB,
        memory_free=sum(memory.get(part, 0) for part in ("free", "buffers", "cached")) * _KIB,
        cpus=cpus,
        kvm="<domain type='kvm'" in link.getCapabilities(),
        hypervisor=f"QEMU {_version(link.getVersion())}, libvirt {_version(link.getLibVersion())}",
        pools=_those_there(_pool, link.listAllStoragePools()),
        networks=_those_there(_network, link.listAllNetworks()),
        machines=_those_there(lambda domain: _machine(domain, host), link.listAllDomains()),
    )


def _those_there(read: Callable[[Any], T], listed: list[Any]) -> tuple[T, ...]:
    """Each as read; what was removed since it was listed is left out."""
    found = []
    for thing in listed:
        try:
            found.append(read(thing))
        except libvirt.libvirtError as error:
            if error.get_error_code() not in _GONE:
                raise
    return tuple(found)


def power_state(domain: Any) -> PowerState:
    """What libvirt says; off because QEMU died is CRASHED."""
    state, reason = domain.state()
    if state == libvirt.VIR_DOMAIN_SHUTOFF and reason == libvirt.VIR_DOMAIN_SHUTOFF_CRASHED:
        return PowerState.CRASHED
    return _STATES[state]


def host_of(link: Any) -> Host:
    """What describing a machine needs to know of pools."""

    def volume_path(pool: str, volume: str) -> str | None:
        try:
            found = link.storagePoolLookupByName(pool).storageVolLookupByName(volume)
            return str(found.path())
        except libvirt.libvirtError:
            return None  # named as a problem: the disk is not to be found

    return Host(
        pools={_pool_path(pool): pool.name() for pool in link.listAllStoragePools()},
        volume_path=volume_path,
    )


def _pool(pool: Any) -> Pool:
    path, active = _pool_path(pool), bool(pool.isActive())
    kind = domain_xml.pool_kind(pool.XMLDesc(0))
    if path and Path(path).is_dir():
        capacity, available, writable = measured(Path(path))
    else:
        _, capacity, _, available = pool.info()
        writable = active and kind not in _FOLDERS  # one that is not there cannot be written to
    return Pool(
        name=pool.name(),
        path=path,
        capacity=capacity,
        available=available if active else 0,
        writable=writable and active,
        kind=kind,
    )


def measured(folder: Path) -> tuple[int, int, bool]:
    """Capacity, room available and whether it may be written, of the file system under a folder."""
    room = os.statvfs(folder)
    writable = os.access(folder, os.W_OK) and not room.f_flag & os.ST_RDONLY
    return room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize, writable


def _pool_path(pool: Any) -> str:
    return domain_xml.pool_path(pool.XMLDesc(0))


def _network(network: Any) -> Network:
    try:
        bridge = network.bridgeName()
    except libvirt.libvirtError:
        bridge = None  # one that hands out devices of the host instead
    return Network(name=network.name(), active=bool(network.isActive()), bridge=bridge)


def _machine(domain: Any, host: Host) -> MachineFacts:
    root = domain_xml.parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    paths = [disk_path(facts, host) for facts in replicable(root)]
    return MachineFacts(
        name=domain.name(),
        uuid=domain.UUIDString(),
        state=power_state(domain),
        memory=domain_xml.memory(root),
        vcpus=domain_xml.vcpus(root),
        autostart=bool(domain.isPersistent() and domain.autostart()),
        persistent=bool(domain.isPersistent()),
        disks=tuple(domain_xml.stem(path) for path in paths if path),
    )


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
