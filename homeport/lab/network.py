"""The lab's network in the root namespace: a bridge, and one cable (veth pair) to each host."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from homeport.lab.commands import attempt, run
from homeport.lab.errors import NoFreeNetworkError
from homeport.lab.layout import RANGES, gateway

DEVICES = Path("/sys/class/net")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cable:
    """A veth pair: one end at the bridge, the other inside a host as `eth0`."""

    name: str
    """Of the outer end."""
    bridge: str
    address: IPv4Address
    prefix: int


def addresses_of(shown: str) -> set[IPv4Address]:
    """IPv4 addresses in the output of `ip -json addr`."""
    return {
        IPv4Address(entry["local"])
        for link in json.loads(shown or "[]")
        for entry in link.get("addr_info", [])
        if entry.get("family") == "inet"
    }


def first_free(taken: Iterable[IPv4Address], ranges: Sequence[IPv4Network]) -> IPv4Network:
    """
    The first range in which no address is taken.

    Raises:
        NoFreeNetworkError: there is none.
    """
    used = list(taken)
    for candidate in ranges:
        if not any(address in candidate for address in used):
            return candidate
    raise NoFreeNetworkError(tried=[str(each) for each in ranges])


def choose(wanted: IPv4Network | None) -> IPv4Network:
    """The range wanted, or the first default one; refused if this machine already uses it."""
    taken = addresses_of(run(["ip", "-json", "addr"]))
    return first_free(taken, RANGES if wanted is None else [wanted])


def exists(device: str) -> bool:
    """Whether the root namespace has a network device of that name."""
    return (DEVICES / device).exists()


def make_bridge(name: str, network: IPv4Network) -> None:
    """Make the lab's bridge with the server's address on it, unless it is there."""
    if not exists(name):
        run(["ip", "link", "add", name, "type", "bridge"])
    address = f"{gateway(network)}/{network.prefixlen}"
    run(["ip", "addr", "replace", address, "dev", name])
    run(["ip", "link", "set", name, "up"])


def remove(device: str) -> None:
    """Remove a device of the root namespace; both ends of a cable go together. Twice is once."""
    if exists(device):
        attempt(["ip", "link", "del", device])


def remove_all(prefix: str) -> None:
    """Remove every device of the root namespace whose name begins so."""
    for device in sorted(DEVICES.iterdir()):
        if device.name.startswith(prefix):
            remove(device.name)


def connect(cable: Cable, pid: int) -> None:
    """Run a cable to the host whose first process this is. Twice is once."""
    if not exists(cable.name):
        peer = ["peer", "name", "eth0", "netns", str(pid)]
        run(["ip", "link", "add", cable.name, "type", "veth", *peer])
    run(["ip", "link", "set", cable.name, "master", cable.bridge])
    enter = ["nsenter", "--net", "--target", str(pid), "ip"]
    run([*enter, "addr", "replace", f"{cable.address}/{cable.prefix}", "dev", "eth0"])
    run([*enter, "link", "set", "eth0", "up"])


def switch(device: str, *, up: bool) -> None:
    """Plug a cable in or pull it out, at the bridge's end. Twice is once."""
    run(["ip", "link", "set", device, "up" if up else "down"])
