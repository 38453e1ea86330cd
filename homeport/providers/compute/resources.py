"""
Pools and networks that are made on a host, and taken away again: what libvirt is asked for them.

Both outlive the host's restart. A pool is a folder of files; a network is a bridge of its own with
no way out and no addresses, so that nothing on it can be in the way of anything else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from homeport.errors import RefusedError
from homeport.providers.compute import domain_xml

FOLDER_MODE = 0o711
"""As libvirt builds the folder of a pool: QEMU's user passes through it, nobody lists it."""


class PoolTakenError(RefusedError):
    """A pool that is to be made, while another one has its name or its folder."""

    code = "PoolTaken"

    def __init__(self, name: str, path: Path, other: str) -> None:
        super().__init__(
            f"Pool {name} cannot be made in {path}: {other}.",
            cause="A pool's name and folder are its alone.",
            remedy="Choose another name, or remove that pool ('virsh pool-undefine').",
        )
        self.name = name


def make_folder(path: Path) -> None:
    """A pool's folder; one that is there stays as it is."""
    path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)


def check_pool_free(name: str, path: Path, pools: dict[str, str]) -> bool:
    """
    Whether a pool of that name and folder is there already; `pools` has all, name to folder.

    Raises:
        PoolTakenError: another one has the name or the folder.
    """
    for other, folder in pools.items():
        same = (other == name, folder == str(path))
        if all(same):
            return True
        if any(same):
            raise PoolTakenError(name, path, f"pool {other} is in {folder}")
    return False


def make_pool(link: Any, name: str, path: Path) -> None:
    """See `Compute`."""
    listed = {pool.name(): pool for pool in link.listAllStoragePools()}
    pools = {one: domain_xml.pool_path(pool.XMLDesc(0)) for one, pool in listed.items()}
    there = check_pool_free(name, path, pools)
    make_folder(path)
    pool = listed[name] if there else link.storagePoolDefineXML(_pool_xml(name, path), 0)
    pool.setAutostart(1)
    if not pool.isActive():
        pool.create(0)


def delete_pool(link: Any, name: str) -> None:
    """See `Compute`."""
    try:
        pool = link.storagePoolLookupByName(name)
        if pool.isActive():
            pool.destroy()
        if pool.isPersistent():
            pool.undefine()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
            raise


def make_network(link: Any, name: str) -> None:
    """See `Compute`."""
    try:
        network = link.networkLookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_NETWORK:
            raise
        network = link.networkDefineXML(_network_xml(name))
    if network.isPersistent():
        network.setAutostart(1)
    if not network.isActive():
        network.create()


def delete_network(link: Any, name: str) -> bool:
    """See `Compute`."""
    if any(name in _networks_of(domain) for domain in link.listAllDomains()):
        return False
    try:
        network = link.networkLookupByName(name)
        if network.isActive():
            network.destroy()
        if network.isPersistent():
            network.undefine()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_NETWORK:
            raise
    return True


def networks_in(*views: str) -> set[str | None]:
    """The networks that a machine's cards are on, in any of its definitions."""
    return {nic.network for text in views for nic in domain_xml.nics(domain_xml.parse(text))}


def _networks_of(domain: Any) -> set[str | None]:
    try:
        return networks_in(domain.XMLDesc(0), domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        return set()  # undefined since it was listed


def _pool_xml(name: str, path: Path) -> str:
    root = ET.Element("pool", {"type": "dir"})
    ET.SubElement(root, "name").text = name
    target = ET.SubElement(root, "target")
    ET.SubElement(target, "path").text = str(path)
    return ET.tostring(root, encoding="unicode")


def _network_xml(name: str) -> str:
    """Without <forward> and <ip> libvirt makes a bridge, and neither rules nor a dnsmasq."""
    root = ET.Element("network")
    ET.SubElement(root, "name").text = name
    ET.SubElement(root, "bridge", {"stp": "on", "delay": "0"})
    return ET.tostring(root, encoding="unicode")
