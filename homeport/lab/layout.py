"""
Where everything of a lab lies and what it is called: pure functions of its name and settings.

    <folder>/<lab>/state.json, lock
    <folder>/<lab>/<host>/{run,lib,etc,log,cache}/libvirt   the host's own, bound over the system's
    <folder>/<lab>/<host>/agent                             free for the agent's state
    <folder>/<lab>/<host>/host                              what its first process reads and writes
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from homeport.lab.errors import BadNameError, PathTooLongError

# sun_path has 108 bytes, the last one a zero.
LONGEST_SOCKET = 107

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_NAMESPACE = uuid.UUID("5f0f7a34-6d3c-4c57-9a53-0d2f4f4e0a11")

# Link-local ranges a lab takes when none is given, in this order; 169.254.169.0/24 is not among
# them, for clouds answer there.
RANGES = tuple(IPv4Network(f"169.254.{third}.0/24") for third in range(213, 250))

PRIVATE_FOLDERS = (
    ("run/libvirt", "/run/libvirt"),
    ("lib/libvirt", "/var/lib/libvirt"),
    ("etc/libvirt", "/etc/libvirt"),
    ("log/libvirt", "/var/log/libvirt"),
    ("cache/libvirt", "/var/cache/libvirt"),
)
"""The host's folders and the system's folders they stand in for, inside."""

POOL_INSIDE = Path("/var/lib/libvirt/images")
"""Target of the storage pool `default`, as the host itself sees it."""

GUESTS_INSIDE = Path("/var/lib/libvirt/guests")
"""Serial logs and acknowledgements of guests, as the host itself sees it."""


def check_name(name: str) -> str:
    """
    Return `name` unchanged.

    Raises:
        BadNameError: it is not 1 to 32 small letters, digits and '-', beginning with a letter.
    """
    if _NAME.fullmatch(name) is None:
        raise BadNameError(name=name)
    return name


def check_socket(path: Path) -> Path:
    """
    Return `path` unchanged.

    Raises:
        PathTooLongError: no unix socket can have this path.
    """
    if len(bytes(path)) > LONGEST_SOCKET:
        raise PathTooLongError(path=path)
    return path


@dataclass(frozen=True, kw_only=True, slots=True)
class HostFolder:
    """The folder of one host, seen from the root namespace."""

    path: Path

    @property
    def socket(self) -> Path:
        """The host's libvirt socket; connects from outside too."""
        return self.path / "run/libvirt/libvirt-sock"

    @property
    def uri(self) -> str:
        """The libvirt URI that reaches this host from the root namespace."""
        return f"qemu+unix:///system?socket={self.socket}"

    @property
    def images(self) -> Path:
        """`POOL_INSIDE`, from outside."""
        return self.path / "lib/libvirt/images"

    @property
    def guests(self) -> Path:
        """`GUESTS_INSIDE`, from outside."""
        return self.path / "lib/libvirt/guests"

    @property
    def hooks(self) -> Path:
        """/etc/libvirt/hooks of this host, from outside."""
        return self.path / "etc/libvirt/hooks"

    @property
    def capabilities(self) -> Path:
        """What libvirt keeps about QEMU, so that it need not be probed again."""
        return self.path / "cache/libvirt/qemu/capabilities"

    @property
    def agent(self) -> Path:
        """Free for the agent; survives a kill of the host."""
        return self.path / "agent"

    @property
    def config(self) -> Path:
        """What the host's first process is to run; owned by the lab."""
        return self.path / "host/config.json"

    @property
    def first(self) -> Path:
        """Who the host's first process is; written by itself."""
        return self.path / "host/first.json"

    @property
    def services(self) -> Path:
        """The inner ids of what runs; written by the host's first process."""
        return self.path / "host/services.json"

    def log(self, name: str) -> Path:
        """Where a service's output, or that of the first process (`first`), is kept."""
        return self.path / f"host/{name}.log"


@dataclass(frozen=True, kw_only=True, slots=True)
class LabFolder:
    """The folder of one lab."""

    path: Path

    @property
    def state(self) -> Path:
        """What the lab consists of; written before anything is made."""
        return self.path / "state.json"

    @property
    def lock(self) -> Path:
        """Held by whoever changes the lab."""
        return self.path / "lock"

    def host(self, name: str) -> HostFolder:
        """
        The folder of one host.

        Raises:
            BadNameError, PathTooLongError: the name, or the path of its libvirt socket, is no good.
        """
        folder = HostFolder(path=self.path / check_name(name))
        check_socket(folder.socket)
        return folder


def _tag(lab: Path) -> str:
    return hashlib.sha256(bytes(lab)).hexdigest()[:6]


def bridge_name(lab: Path) -> str:
    """The lab's bridge in the root namespace; the same for the same folder, 9 bytes of 15."""
    return f"hpb{_tag(lab)}"


def veth_prefix(lab: Path) -> str:
    """What the names of all the lab's cables begin with."""
    return f"hpv{_tag(lab)}-"


def veth_name(lab: Path, index: int) -> str:
    """The outer end of a host's cable, at most 13 bytes of 15."""
    return f"{veth_prefix(lab)}{index}"


def host_address(network: IPv4Network, index: int) -> IPv4Address:
    """The address of the host with this index; .1 is the server's."""
    return network.network_address + 2 + index


def gateway(network: IPv4Network) -> IPv4Address:
    """The server's address in the lab."""
    return network.network_address + 1


def guest_network(index: int) -> IPv4Network:
    """The range of a host's own libvirt network `default`; hosts do not share one."""
    return IPv4Network(f"192.168.{122 + index % 100}.0/24")


def stable_uuid(lab: Path, *parts: str) -> uuid.UUID:
    """An id that is the same whenever the same part of the same lab is made again."""
    return uuid.uuid5(_NAMESPACE, "/".join((str(lab), *parts)))
