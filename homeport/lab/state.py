"""
What a lab consists of, as kept in its folder's `state.json`.

Written before a thing is made and after it is gone, so that a lab that came up half, or whose
maker was killed, can be taken down by whoever comes next. The lab's lock guards it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from homeport.lab.files import read_json, write_json
from homeport.lab.processes import ProcessId

FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class HostSpec:
    """A host somebody wants."""

    name: str
    agent: tuple[str, ...] = ()
    """One more command to run inside, started again when it ends; empty for none."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Given to the agent beside the lab's own variables."""
    cut_folders: tuple[Path, ...] = ()
    """Folders that cannot be reached from inside while the host is cut off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostState:
    """A host of a lab."""

    spec: HostSpec
    index: int
    address: IPv4Address
    veth: str
    first: ProcessId | None = None
    """The host's first process; None while it is not meant to run. Its death is the host's."""
    cut: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class LabState:
    """A lab: its network and its hosts by name."""

    network: IPv4Network
    bridge: str
    dhcp: bool
    hosts: Mapping[str, HostState]

    def with_host(self, host: HostState) -> LabState:
        """The same lab with this host added or put in the place of its namesake."""
        return replace(self, hosts={**self.hosts, host.spec.name: host})


def _dump_host(host: HostState) -> dict[str, Any]:
    first = host.first and {"pid": host.first.pid, "started": host.first.started}
    return {
        "name": host.spec.name,
        "agent": list(host.spec.agent),
        "environment": dict(host.spec.environment),
        "cut_folders": [str(folder) for folder in host.spec.cut_folders],
        "index": host.index,
        "address": str(host.address),
        "veth": host.veth,
        "first": first,
        "cut": host.cut,
    }


def _load_host(raw: dict[str, Any]) -> HostState:
    spec = HostSpec(
        name=raw["name"],
        agent=tuple(raw["agent"]),
        environment=raw["environment"],
        cut_folders=tuple(Path(folder) for folder in raw["cut_folders"]),
    )
    return HostState(
        spec=spec,
        index=raw["index"],
        address=IPv4Address(raw["address"]),
        veth=raw["veth"],
        first=raw["first"] and ProcessId(**raw["first"]),
        cut=raw["cut"],
    )


def dump(state: LabState) -> dict[str, Any]:
    """The state as JSON values."""
    return {
        "format": FORMAT,
        "network": str(state.network),
        "bridge": state.bridge,
        "dhcp": state.dhcp,
        "hosts": [_dump_host(host) for host in state.hosts.values()],
    }


def load(raw: dict[str, Any]) -> LabState:
    """The state `dump` gave these values for."""
    hosts = [_load_host(host) for host in raw["hosts"]]
    return LabState(
        network=IPv4Network(raw["network"]),
        bridge=raw["bridge"],
        dhcp=raw["dhcp"],
        hosts={host.spec.name: host for host in hosts},
    )


def read(path: Path) -> LabState | None:
    """The state kept at `path`; None if there is none."""
    raw = read_json(path)
    return None if raw is None else load(raw)


def write(path: Path, state: LabState) -> None:
    """Keep the state at `path`, atomically and durably."""
    write_json(path, dump(state))
