"""
A lab: sites on this machine, each a host to all intents, that can be cut off or killed whole.

Every host has namespaces of its own (mount, network, pids, host name) with its own libvirtd, bridge
network and pool, and is joined by a cable to a bridge where the server answers on `.1`. Callers are
the `lab` command, the demo and the tests. Changes are made under the lab's lock, one at a time;
`down` also clears what a half-made or half-removed lab left.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from subprocess import CompletedProcess

from homeport.lab import boot, network, packages, state
from homeport.lab.commands import attempt
from homeport.lab.errors import HostDownError, NeedsRootError, NoSuchHostError, NoSuchLabError
from homeport.lab.files import locked, remove_tree
from homeport.lab.layout import (
    HostFolder,
    LabFolder,
    bridge_name,
    check_name,
    gateway,
    host_address,
    veth_name,
    veth_prefix,
)
from homeport.lab.processes import ProcessId, alive
from homeport.lab.state import HostSpec, HostState, LabState

DEFAULT_FOLDER = Path("/var/lib/homeport/lab")
DEFAULT_CACHE = Path("/var/lib/homeport/cache")

_RANGES_LOCK = Path("/run/lock/homeport-lab")


@dataclass(frozen=True, kw_only=True, slots=True)
class LabSettings:
    """How labs are made on this machine."""

    folder: Path = DEFAULT_FOLDER
    """Holds a folder for each lab."""
    cache: Path = DEFAULT_CACHE
    """Outlives labs: guest images, and what libvirt learnt about QEMU."""
    network: IPv4Network | None = None
    """Range that joins hosts and server; None for the first free of 169.254.213.0/24 and after."""
    dhcp: bool = True
    """Whether a host's network `default` gives addresses to its guests."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostReport:
    """A host as people and programs are shown it."""

    name: str
    running: bool
    cut: bool
    address: IPv4Address
    uri: str
    services: Mapping[str, int] = field(default_factory=dict)
    """Programs kept running on it and their ids inside; empty while it is down."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabReport:
    """A lab as people and programs are shown it."""

    name: str
    folder: Path
    network: IPv4Network
    gateway: IPv4Address
    bridge: str
    hosts: tuple[HostReport, ...]


def require_root(action: str) -> None:
    """
    Do nothing for root.

    Raises:
        NeedsRootError: the process is somebody else's.
    """
    if os.geteuid() != 0:
        raise NeedsRootError(action=action)


class Lab:
    """
    One lab, by name. Making the object changes nothing; there may be several for one lab.

    Every operation that changes something may be repeated: what is so already stays so.
    """

    def __init__(self, name: str, settings: LabSettings | None = None) -> None:
        self.settings = settings or LabSettings()
        self.name = check_name(name)
        self.folder = LabFolder(path=self.settings.folder.absolute() / name)

    def up(self, specs: Sequence[HostSpec]) -> LabReport:
        """
        Bring the lab up with these hosts, beside those it has; they answer when this returns.

        Raises:
            NeedsRootError, MissingPackagesError, BadNameError, PathTooLongError,
            NoFreeNetworkError: nothing was changed.
            TooSlowError, CommandFailedError: the lab is half up; `up` again, or `down`.
        """
        require_root("bring a lab up")
        packages.require(packages.HOST_PACKAGES)
        for spec in specs:
            self.folder.host(spec.name)
        # Other users' labs hold secrets of their agents: the folder is root's alone.
        self.folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self.folder.lock):
            self._join_network(specs)
            for spec in specs:
                self._boot(spec.name)
        return self.report()

    def _join_network(self, specs: Sequence[HostSpec]) -> None:
        # Labs that come up at the same moment must not choose the same range.
        with locked(_RANGES_LOCK):
            lab = self._planned(specs)
            state.write(self.folder.state, lab)
            network.make_bridge(lab.bridge, lab.network)

    def down(self, *, keep_folders: bool = False) -> None:
        """Stop everything, remove the network and (unless kept) all folders of the lab."""
        require_root("take a lab down")
        if not self.folder.path.exists():
            return
        with locked(self.folder.lock):
            self._halt_all()
            network.remove_all(veth_prefix(self.folder.path))
            network.remove(bridge_name(self.folder.path))
            if keep_folders:
                self._forget_processes()
            else:
                remove_tree(self.folder.path)

    def _forget_processes(self) -> None:
        lab = self._state()
        if lab is not None:
            hosts = {name: replace(host, first=None) for name, host in lab.hosts.items()}
            state.write(self.folder.state, replace(lab, hosts=hosts))

    def kill(self, host: str) -> None:
        """Lose the whole host at once, as by a power cut, with its guests' unsynced writes."""
        require_root("kill a host")
        with self._locked():
            known = self._host(host)
            boot.halt(self.folder.host(host), known.first)
            network.remove(known.veth)
            self._remember(replace(known, first=None))

    def start(self, host: str) -> None:
        """Boot a host again after `kill`, with its disks and definitions. A cut one stays cut."""
        require_root("start a host")
        with self._locked():
            self._host(host)
            network.make_bridge(self._known().bridge, self._known().network)
            self._boot(host)

    def cut(self, host: str) -> None:
        """Pull the host's cable and make its `cut_folders` unreachable from inside."""
        self._connect(host, connected=False)

    def heal(self, host: str) -> None:
        """Undo `cut`."""
        self._connect(host, connected=True)

    def kill_process(
        self, host: str, process: str, *, domain: str | None = None, again: bool = True
    ) -> int:
        """
        Kill -9 a host's `agent`, `libvirtd` or `qemu` (all guests, or that of `domain`).

        A service starts again by itself half a second later, unless `again` is False: then it
        stays down until `start_process`. Returns how many processes were killed.

        Raises:
            NoSuchProcessError: none of the kind runs there.
        """
        require_root("kill a process of a host")
        folder, first = self._running(host)
        if not again:
            boot.want(folder, first, process, wanted=False)
        return boot.kill_process(folder, first, process, domain=domain)

    def start_process(self, host: str, process: str) -> None:
        """Let a service run that `kill_process(again=False)` took down."""
        require_root("start a process of a host")
        folder, first = self._running(host)
        boot.want(folder, first, process, wanted=True)

    def set_agent(
        self, host: str, argv: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        """
        Choose the command run inside as `agent` from now on; it starts at once if it can.

        A running agent is not touched: kill it to have the new command in its place.
        """
        with self._locked():
            known = self._host(host)
            spec = replace(known.spec, agent=tuple(argv), environment=dict(environment or {}))
            changed = replace(known, spec=spec)
            self._remember(changed)
            boot.tell(self.folder, changed, self._known())

    def run(
        self, host: str, argv: Sequence[str | Path], *, limit: float = 60.0, given: bytes = b""
    ) -> CompletedProcess[bytes]:
        """Run a command inside the host's namespaces to its end; its status is the caller's."""
        _, first = self._running(host)
        return attempt([*boot.entering(first), *argv], limit=limit, given=given)

    def libvirt_uri(self, host: str) -> str:
        """The URI that reaches this host's libvirt from outside the lab."""
        return self.host_folder(host).uri

    def host_folder(self, host: str) -> HostFolder:
        """Where the host's files are, seen from outside."""
        return self.folder.host(self._host(host).spec.name)

    def report(self) -> LabReport:
        """What there is and what of it runs, now."""
        lab = self._known()
        return LabReport(
            name=self.name,
            folder=self.folder.path,
            network=lab.network,
            gateway=gateway(lab.network),
            bridge=lab.bridge,
            hosts=tuple(self._report_host(host) for host in lab.hosts.values()),
        )

    def _report_host(self, host: HostState) -> HostReport:
        folder = self.folder.host(host.spec.name)
        running = alive(host.first)
        return HostReport(
            name=host.spec.name,
            running=running,
            cut=host.cut,
            address=host.address,
            uri=folder.uri,
            services=boot.services(folder) if running else {},
        )

    def _planned(self, specs: Sequence[HostSpec]) -> LabState:
        lab = self._state() or LabState(
            network=network.choose(self.settings.network),
            bridge=bridge_name(self.folder.path),
            dhcp=self.settings.dhcp,
            hosts={},
        )
        for spec in specs:
            known = lab.hosts.get(spec.name)
            index = known.index if known else len(lab.hosts)
            fresh = HostState(
                spec=spec,
                index=index,
                address=host_address(lab.network, index),
                veth=veth_name(self.folder.path, index),
            )
            lab = lab.with_host(replace(known, spec=spec) if known else fresh)
        return lab

    def _boot(self, name: str) -> None:
        """Make the host run, whatever part of it already does."""
        host = self._host(name)
        lab = self._known()
        if not alive(host.first):
            network.remove(host.veth)
            host = replace(host, first=boot.start(self.folder, host, lab, self.settings.cache))
            self._remember(host)
        boot.tell(self.folder, host, lab)
        boot.finish(self.folder, host, lab, self.settings.cache)

    def _connect(self, name: str, *, connected: bool) -> None:
        require_root("cut a host off or heal it")
        with self._locked():
            known = self._host(name)
            self._remember(replace(known, cut=not connected))
            if alive(known.first):
                boot.apply_cut(replace(known, cut=not connected))

    def _halt_all(self) -> None:
        for folder in sorted(self.folder.path.iterdir()):
            if (folder / "host").is_dir():
                boot.halt(HostFolder(path=folder), None)

    def _running(self, name: str) -> tuple[HostFolder, ProcessId]:
        host = self._host(name)
        if host.first is None or not alive(host.first):
            raise HostDownError(lab=self.name, host=name)
        return self.folder.host(name), host.first

    def _state(self) -> LabState | None:
        return state.read(self.folder.state)

    def _known(self) -> LabState:
        lab = self._state()
        if lab is None:
            raise NoSuchLabError(lab=self.name, folder=self.settings.folder)
        return lab

    def _host(self, name: str) -> HostState:
        hosts = self._known().hosts
        if name not in hosts:
            raise NoSuchHostError(lab=self.name, host=name, known=sorted(hosts))
        return hosts[name]

    def _remember(self, host: HostState) -> None:
        state.write(self.folder.state, self._known().with_host(host))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of a lab that exists."""
        self._known()
        with locked(self.folder.lock):
            yield


def list_labs(settings: LabSettings | None = None) -> list[LabReport]:
    """All labs of this machine, by name, whole or half."""
    folder = (settings or LabSettings()).folder
    found = sorted(path.parent for path in folder.glob("*/state.json"))
    return [Lab(path.name, settings).report() for path in found]


__all__ = ["HostReport", "HostSpec", "Lab", "LabReport", "LabSettings", "list_labs"]
