"""
The demo's stage: two sites with their agents, a server, a policy and a guest that keeps records.

Everything lies in the lab's folder and is gone after `close`. The server and the agents are the
installed program, started as a user would; the stage speaks to them through the API alone.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import libvirt

from homeport.client import Client
from homeport.lab import packages
from homeport.lab.commands import wait_until
from homeport.lab.files import remove_tree
from homeport.lab.guestagent import ask_records
from homeport.lab.guestimage import GuestConfig, GuestSpec
from homeport.lab.guests import add_guest, guest_logs, wait_for_guest
from homeport.lab.hosts import Lab, LabSettings, require_root
from homeport.lab.kvm import domain_type
from homeport.lab.records import Acks, GuestRecords, read_acks
from homeport.lab.serverprocess import ServerProcess
from homeport.lab.state import HostSpec
from homeport.model.policy import ReplicationPolicy
from homeport.model.requests import CacheRequest

EAST, WEST = "east", "west"
GUEST = "web"
POLICY = ReplicationPolicy(
    name="demo", interval=timedelta(seconds=3), rpo_target=timedelta(seconds=30)
)
PORT = 8740
LEASE = 6
"""Seconds of silence after which the demo's server holds a host for gone."""


@dataclass(kw_only=True)
class Stage:
    """Owner of the lab, the server's process and the watch of the guest's acknowledgements."""

    name: str = "demo"
    settings: LabSettings = field(default_factory=LabSettings)
    rate: int = 5
    image_format: str = "raw"
    spec: GuestSpec | None = None  # the guest's disks, where they are not the usual ones
    policy: ReplicationPolicy = POLICY
    stores: Path | None = None  # a folder made before, where the cache stores lie; else the lab's
    tell: Callable[[str], None] = print

    def __post_init__(self) -> None:
        self.lab = Lab(self.name, self.settings)
        self.server = self._server("")

    @property
    def folder(self) -> Path:
        """The lab's folder, which holds the server's and the stores' too."""
        return self.lab.folder.path

    @property
    def guest_spec(self) -> GuestSpec:
        """What the guest is like."""
        return self.spec or GuestSpec(image_format=self.image_format)

    def store(self, site: str) -> Path:
        """The folder that is a site's cache store."""
        return (self.stores or self.folder / "stores") / site

    def open(self) -> Client:
        """Bring everything up; what an earlier demo left is taken down first."""
        require_root("run the demo")
        guest = packages.guest_packages(self.guest_spec.firmware)
        packages.require({**packages.HOST_PACKAGES, **guest})
        self.close()
        report = self.lab.up([HostSpec(name=EAST), HostSpec(name=WEST)])
        self.server = self._server(str(report.gateway))
        self.server.start()
        client = Client(self.server.url)
        client.add_policy(self.policy)
        for site in (EAST, WEST):
            self._add_site(client, site)
        for site in (EAST, WEST):
            self.wait_alive(client, site)
            # libvirtd reads its hooks when it starts, and the agent has just put one in place.
            self.lab.kill_process(site, "libvirtd")
        for site in (EAST, WEST):
            wait_until(
                partial(self._libvirt_answers, site), awaited=f"libvirtd of {site}", limit=60
            )
        return client

    def _libvirt_answers(self, site: str) -> bool:
        try:
            self.machines(site)
        except libvirt.libvirtError:
            return False
        return True

    def close(self) -> None:
        """Stop what was started, by process id, and remove the folder."""
        self.server.stop()
        if self.lab.folder.state.exists():
            self.lab.down()
        remove_tree(self.folder)

    def _server(self, address: str) -> ServerProcess:
        return ServerProcess(
            folder=self.folder / "server",
            address=address,
            port=PORT,
            environment={"HOMEPORT_SERVER__LEASE": str(LEASE)},
        )

    def restart_server(self) -> None:
        """Kill the server and start it again, as after a crash."""
        self.server.kill()
        self.server.start()

    def _add_site(self, client: Client, site: str) -> None:
        self.store(site).parent.mkdir(parents=True, exist_ok=True)
        made = client.add_site(site, CacheRequest(url=self.store(site).as_uri()))
        environment = {
            "HOMEPORT_AGENT__SERVER": self.server.url,
            "HOMEPORT_AGENT__SITE": site,
            "HOMEPORT_AGENT__HOST": f"{site}-1",
            "HOMEPORT_AGENT__TOKEN": made.token,
            "HOMEPORT_AGENT__STATE_DIR": str(self.lab.host_folder(site).agent),
            "HOMEPORT_AGENT__GUESTFS_KERNEL": str(self.settings.cache / "kernel"),
        }
        self.lab.set_agent(site, [sys.executable, "-m", "homeport", "agent"], environment)

    def wait_alive(self, client: Client, site: str) -> None:
        """Wait until a site's host reports what it has."""

        def alive() -> bool:
            hosts = client.site(site).hosts
            return any(host.alive and host.inventory is not None for host in hosts)

        wait_until(alive, awaited=f"the agent of {site}", limit=90, pause=0.2)

    # -- the guest --

    def add_guest(self, name: str = GUEST) -> None:
        """Make the guest, or another of the same kind, in east and boot it."""
        add_guest(
            self.lab,
            EAST,
            GuestConfig(hostname=name, rate=self.rate),
            spec=self.guest_spec,
            accelerator=domain_type(self.settings.cache),
        )
        with self.domain(EAST, name) as found:
            found.domain.create()
            wait_for_guest(found.domain)

    def domain(self, site: str, name: str = GUEST) -> FoundDomain:
        """The guest's domain in a site, for a moment."""
        return FoundDomain(self.lab.libvirt_uri(site), name)

    def records(self, site: str, name: str = GUEST) -> GuestRecords:
        """What the guest's disks hold by its own account, where it runs now."""
        with self.domain(site, name) as found:
            return ask_records(found.domain)

    def acks(self, site: str, start: int = 0, name: str = GUEST) -> Acks:
        """What the guest acknowledged in a site, from a byte of the log on."""
        return read_acks(guest_logs(self.lab, site, name).acks, start=start)

    def ack_log(self, site: str) -> Path:
        """The file that the guest's acknowledgements in a site go to."""
        return guest_logs(self.lab, site, GUEST).acks

    def acks_end(self, site: str) -> int:
        """How long the log of acknowledgements is, to read on from there."""
        path = guest_logs(self.lab, site, GUEST).acks
        return path.stat().st_size if path.exists() else 0

    # -- losing a site --

    def lose(self, site: str) -> None:
        """The whole site is gone at once: agent, libvirtd, QEMU, and its cache store."""
        self.lab.kill(site)
        self.store(site).rename(self._lost(site))

    def bring_back(self, site: str) -> None:
        """The site has power again: its host boots, its store is there."""
        self._lost(site).rename(self.store(site))
        self.lab.start(site)

    def _lost(self, site: str) -> Path:
        return self.store(site).with_name(f"{site}.lost")

    def left(self, site: str) -> Sequence[str]:
        """Files in a site's pool and objects in its store."""
        images = self.lab.host_folder(site).images
        found = [path for path in sorted(images.rglob("*")) if path.is_file()]
        store = [path for path in sorted(self.store(site).rglob("*")) if path.is_file()]
        inside = [path for path in store if path.relative_to(self.store(site)).parts[0][0] != "."]
        return [str(path.relative_to(images)) for path in found] + [
            f"store: {path.relative_to(self.store(site))}" for path in inside
        ]

    def start_by_hand(self, site: str) -> str:
        """Start the guest in a site as `virsh start` would; why it was denied, or nothing."""
        with self.domain(site) as found:
            try:
                found.domain.create()
            except libvirt.libvirtError as error:
                return str(error)
        return ""

    def machines(self, site: str) -> Sequence[str]:
        """Names of the machines a site's libvirt has."""
        connection = libvirt.open(self.lab.libvirt_uri(site))
        try:
            return sorted(domain.name() for domain in connection.listAllDomains())
        finally:
            connection.close()


class FoundDomain:
    """A libvirt domain on a connection of its own, closed with the context."""

    def __init__(self, uri: str, name: str) -> None:
        self._uri, self._name = uri, name

    def __enter__(self) -> FoundDomain:
        self._connection = libvirt.open(self._uri)
        self.domain = self._connection.lookupByName(self._name)
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()


@dataclass(kw_only=True)
class AckWatch:
    """
    When the guest had acknowledged what: samples of the log, taken from outside the guest.

    So a point's time can be held against records: what was acknowledged before it must be in it.
    """

    path: Path
    every: float = 0.1
    samples: list[tuple[datetime, dict[str, int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopped.set()
        self._thread.join(5)

    def _run(self) -> None:
        start, last = 0, {"os": 0, "data": 0}
        while not self._stopped.wait(self.every):
            now = datetime.now(UTC)
            # The log is read before the time is kept as "known by then": never too early.
            acks = read_acks(self.path, start=start)
            if acks.entries:
                for ack in acks.entries:
                    last[ack.disk] = max(last[ack.disk], ack.number)
            self.samples.append((now, dict(last)))

    def known_at(self, moment: datetime) -> dict[str, int]:
        """The newest numbers that had been acknowledged at a moment, at least."""
        found = {"os": 0, "data": 0}
        for at, numbers in self.samples:
            if at > moment:
                break
            found = numbers
        return found


def monotonic() -> float:
    """Seconds that never go back, for the demo's own table."""
    return time.monotonic()
