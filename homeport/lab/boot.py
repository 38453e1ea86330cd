"""
Booting one host of a lab and ending it: the steps that `homeport.lab.hosts` puts in order.

A host is known by its first process (process 1 inside). It is found again, whatever was recorded,
by its command line, which names its configuration: so a maker killed between making and recording
leaves nothing that could not be found.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import libvirt

from homeport.lab import inside, network
from homeport.lab.commands import clean_environment, run, wait_until
from homeport.lab.errors import NoSuchProcessError
from homeport.lab.files import read_json, write_json
from homeport.lab.furnish import Furniture, forget_last_boot, furnish, keep_warm, warm
from homeport.lab.layout import (
    PRIVATE_FOLDERS,
    HostFolder,
    LabFolder,
    gateway,
    guest_network,
    stable_uuid,
)
from homeport.lab.processes import (
    ProcessId,
    Seen,
    alive,
    everything,
    parent_of,
    send,
    sharing_namespace_of,
)
from homeport.lab.state import HostState, LabState

# A cold start probes QEMU's capabilities: 4 to 8 s on an idle machine, more on a busy one.
READY_LIMIT = 60.0
GONE_LIMIT = 20.0

_NAMESPACES = ("--mount", "--net", "--uts", "--pid")
_LIBVIRTD = ("libvirtd", "--pid-file", "/run/libvirt/libvirtd.pid")


def _environment(lab: LabFolder, host: HostState, state: LabState) -> dict[str, str]:
    own = {
        "HOMEPORT_LAB": str(lab.path),
        "HOMEPORT_HOST": host.spec.name,
        "HOMEPORT_GATEWAY": str(gateway(state.network)),
    }
    return {**clean_environment(), **own, **host.spec.environment}


def write_config(lab: LabFolder, host: HostState, state: LabState) -> None:
    """Tell the host's first process, now or at its start, what to run."""
    folder = lab.host(host.spec.name)
    environment = _environment(lab, host, state)
    commands = {"libvirtd": _LIBVIRTD, **({"agent": host.spec.agent} if host.spec.agent else {})}
    config = inside.Config(
        hostname=host.spec.name,
        binds=tuple((folder.path / own, Path(system)) for own, system in PRIVATE_FOLDERS),
        first=folder.first,
        services_file=folder.services,
        services=tuple(
            inside.Service(
                name=name,
                argv=argv,
                environment=environment,
                log=folder.log(name),
                wanted=True,
            )
            for name, argv in commands.items()
        ),
    )
    write_json(folder.config, config.dump())


def _furniture(lab: LabFolder, host: HostState, state: LabState) -> Furniture:
    name = host.spec.name
    return Furniture(
        host_uuid=stable_uuid(lab.path, name),
        network_uuid=stable_uuid(lab.path, name, "network", "default"),
        pool_uuid=stable_uuid(lab.path, name, "pool", "default"),
        guest_network=guest_network(host.index),
        dhcp=state.dhcp,
    )


def start(lab: LabFolder, host: HostState, state: LabState, cache: Path) -> ProcessId:
    """Start the host's first process, unless one runs already, and return who it is."""
    folder = lab.host(host.spec.name)
    for orphan in first_processes(folder):
        return orphan
    furnish(folder, _furniture(lab, host, state))
    forget_last_boot(folder)
    warm(folder, cache / "capabilities")
    write_config(lab, host, state)
    log = folder.log("first")
    _unshare(folder, log)
    wait_until(lambda: _announced(folder) is not None, awaited="a host", limit=10.0, log=log)
    found = _announced(folder)
    assert found is not None
    return found


def _unshare(folder: HostFolder, log: Path) -> None:
    """Spawn the first process in namespaces and a session of its own; it outlives its maker."""
    unshare = ["unshare", *_NAMESPACES, "--fork", "--kill-child", "--propagation", "private"]
    program = [sys.executable, "-m", inside.__name__, str(folder.config)]
    appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    os.posix_spawnp(
        unshare[0],
        [*unshare, *program],
        clean_environment(),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), appending, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def _announced(folder: HostFolder) -> ProcessId | None:
    raw = read_json(folder.first)
    if raw is None:
        return None
    found = ProcessId(**raw)
    return found if alive(found) else None


def finish(lab: LabFolder, host: HostState, state: LabState, cache: Path) -> None:
    """Run the host's cable and wait until its libvirt answers, capabilities and all."""
    folder = lab.host(host.spec.name)
    assert host.first is not None, "the caller has just started it"
    cable = network.Cable(
        name=host.veth,
        bridge=state.bridge,
        address=host.address,
        prefix=state.network.prefixlen,
    )
    network.connect(cable, host.first.pid)
    apply_cut(host)
    log = folder.log("libvirtd")
    awaited = f"libvirt of host {host.spec.name}"
    wait_until(lambda: _listens(folder.socket), awaited=awaited, limit=READY_LIMIT, log=log)
    connection = libvirt.open(folder.uri)
    try:
        connection.getCapabilities()
    finally:
        connection.close()
    keep_warm(folder, cache / "capabilities")


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def first_processes(folder: HostFolder) -> Iterator[ProcessId]:
    """First processes of this host that run now: one, or none."""
    wanted = ("-m", inside.__name__, str(folder.config))
    for seen in everything():
        if seen.argv[1:] == wanted and seen.inner_pid == 1:
            yield seen.identity


def halt(folder: HostFolder, first: ProcessId | None) -> None:
    """Kill the host's first process, and with it all that runs there; return when it is gone."""
    doomed = {*first_processes(folder), *([first] if first else [])}
    everyone = [seen.identity for each in doomed for seen in sharing_namespace_of(each)]
    parents = {parent_of(each) for each in doomed}
    for each in doomed:
        send(each, signal.SIGKILL)
    gone = f"the end of host {folder.path.name}"
    wait_until(lambda: not any(map(alive, everyone)), awaited=gone, limit=GONE_LIMIT)
    for parent in parents:
        _reap(parent)


def _reap(parent: int | None) -> None:
    """Reap the `unshare` that made a host, if this very process had started it."""
    if parent is None or parent <= 1:
        return
    try:
        os.waitpid(parent, 0)
    except ChildProcessError:
        return


def entering(first: ProcessId) -> list[str]:
    """The command that runs the one after it inside the host."""
    return ["nsenter", *_NAMESPACES, "--target", str(first.pid), "--"]


def apply_cut(host: HostState) -> None:
    """Bring the host's cable and its view of the cut folders in line with `host.cut`."""
    assert host.first is not None, "the caller has seen it alive"
    network.switch(host.veth, up=not host.cut)
    if host.spec.cut_folders:
        command = [sys.executable, "-m", "homeport.lab.mounts", "cut" if host.cut else "heal"]
        run([*entering(host.first), *command, *host.spec.cut_folders])


def services(folder: HostFolder) -> Mapping[str, int]:
    """The programs kept running on the host and their ids inside."""
    return read_json(folder.services) or {}


def tell(lab: LabFolder, host: HostState, state: LabState) -> None:
    """Have the host's first process, if it runs, do what the host's state says now."""
    write_config(lab, host, state)
    if host.first is not None:
        send(host.first, signal.SIGHUP)


def want(folder: HostFolder, first: ProcessId, service: str, *, wanted: bool) -> None:
    """Say whether a service is to be started when it does not run; `qemu` is no service."""
    raw = read_json(folder.config)
    for each in raw["services"]:
        if each["name"] == service:
            each["wanted"] = wanted
    write_json(folder.config, raw)
    if wanted:
        send(first, signal.SIGHUP)


def is_guest(seen: Seen, domain: str | None) -> bool:
    """Whether a process is the QEMU of this libvirt domain, or of any."""
    if not seen.program.startswith("qemu-system") or "-name" not in seen.argv:
        return False
    named = seen.argv[seen.argv.index("-name") + 1].split(",")
    return domain is None or f"guest={domain}" in named


def kill_process(
    folder: HostFolder, first: ProcessId, process: str, *, domain: str | None = None
) -> int:
    """
    Kill -9 what `process` names on the host, and count it.

    Raises:
        NoSuchProcessError: nothing of the kind runs there.
    """
    inner = services(folder).get(process)
    doomed = [
        seen.identity
        for seen in sharing_namespace_of(first)
        if (is_guest(seen, domain) if process == "qemu" else seen.inner_pid == inner)
    ]
    killed = sum(send(each, signal.SIGKILL) for each in doomed)
    if not killed:
        raise NoSuchProcessError(host=folder.path.name, process=process)
    return killed
