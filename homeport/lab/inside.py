"""
The first process of a lab's host: makes the namespaces a host, then keeps its services running.

Run by `unshare` as process 1 (`python -m homeport.lab.inside CONFIG`). It does what systemd does
on a real host: own folders, /proc, /sys, a host name; starts libvirtd and the agent, starts
them again when they end, reaps orphans. SIGHUP makes it read its configuration again, SIGTERM ends
the host in order. When it dies, the kernel kills all that runs on the host.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from homeport.lab import mounts
from homeport.lab.files import read_json, write_json
from homeport.lab.processes import stat_fields

# As systemd's own default would be impatient: long enough to see in a test that it was down.
RESTART_AFTER = 0.5

_PATIENCE_AT_END = 3.0
_WAKERS = {signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM}


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """A program the host keeps running."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    wanted: bool
    """Whether it is to be started when it does not run; one that runs is left alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """What the lab tells a host's first process."""

    hostname: str
    binds: tuple[tuple[Path, Path], ...]
    first: Path
    services_file: Path
    services: tuple[Service, ...]

    def dump(self) -> dict[str, object]:
        """The configuration as JSON values."""
        return {
            "hostname": self.hostname,
            "binds": [[str(source), str(target)] for source, target in self.binds],
            "first": str(self.first),
            "services_file": str(self.services_file),
            "services": [
                {
                    "name": service.name,
                    "argv": list(service.argv),
                    "environment": dict(service.environment),
                    "log": str(service.log),
                    "wanted": service.wanted,
                }
                for service in self.services
            ],
        }


def load(path: Path) -> Config:
    """The configuration kept at `path`."""
    raw = read_json(path)
    services = tuple(
        Service(
            name=each["name"],
            argv=tuple(each["argv"]),
            environment=each["environment"],
            log=Path(each["log"]),
            wanted=each["wanted"],
        )
        for each in raw["services"]
    )
    return Config(
        hostname=raw["hostname"],
        binds=tuple((Path(source), Path(target)) for source, target in raw["binds"]),
        first=Path(raw["first"]),
        services_file=Path(raw["services_file"]),
        services=services,
    )


def announce(path: Path) -> None:
    """Write who this process is, by its id outside: /proc is still the outer one."""
    text = Path("/proc/self/stat").read_text()
    _, started = stat_fields(text)
    write_json(path, {"pid": int(text.split()[0]), "started": started})


def enter(config: Config) -> None:
    """Turn fresh namespaces into a host. Every mount is private to it."""
    for source, target in config.binds:
        target.mkdir(parents=True, exist_ok=True)
        mounts.bind(source, target)
    hardened = mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
    mounts.mount("proc", "/proc", "proc", flags=hardened)
    # The outer /sys shows the outer namespace's network devices, which libvirt would look at.
    mounts.mount("sysfs", "/sys", "sysfs", flags=hardened)
    socket.sethostname(config.hostname)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def spawn(service: Service) -> int:
    """Start a service in a session of its own, its output appended to its log."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    to_log = (os.POSIX_SPAWN_OPEN, 1, str(service.log), flags, 0o600)
    return os.posix_spawnp(
        service.argv[0],
        service.argv,
        dict(service.environment),
        file_actions=[to_log, (os.POSIX_SPAWN_DUP2, 1, 2)],
        setsid=True,
        setsigmask=[],
    )


def collect_dead() -> set[int]:
    """Reap every dead child, orphans of others included, and return their ids."""
    dead: set[int] = set()
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return dead
        if pid == 0:
            return dead
        dead.add(pid)


@dataclass(kw_only=True)
class Supervisor:
    """Keeps the wanted services running. Sole owner of its fields; one thread only."""

    config_path: Path
    reported: dict[str, int] | None = None
    start: Callable[[Service], int] = spawn
    clock: Callable[[], float] = time.monotonic
    running: dict[str, int] = field(default_factory=dict)
    rest_until: dict[str, float] = field(default_factory=dict)

    def bury(self, dead: set[int]) -> None:
        """Note which services are among the dead, and let them rest before they start again."""
        for name, pid in list(self.running.items()):
            if pid in dead:
                del self.running[name]
                self.rest_until[name] = self.clock() + RESTART_AFTER

    def reconcile(self) -> None:
        """Start what is wanted and not there, and say what runs."""
        config = load(self.config_path)
        for service in config.services:
            self._settle(service)
        if self.running != self.reported:
            write_json(config.services_file, self.running)
            self.reported = dict(self.running)

    def _settle(self, service: Service) -> None:
        rested = self.clock() >= self.rest_until.get(service.name, 0.0)
        if service.name not in self.running and service.wanted and rested:
            self._start(service)

    def _start(self, service: Service) -> None:
        try:
            self.running[service.name] = self.start(service)
        except OSError as fault:
            # The host must outlive a service whose program is missing.
            print(f"{service.name} cannot be started: {fault}", file=sys.stderr, flush=True)
            self.rest_until[service.name] = self.clock() + RESTART_AFTER

    def run(self) -> None:
        """Serve until SIGTERM."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _WAKERS)
        woken = None
        while woken is None or woken.si_signo != signal.SIGTERM:
            self.bury(collect_dead())
            self.reconcile()
            woken = signal.sigtimedwait(_WAKERS, RESTART_AFTER / 2)


def end_everything() -> None:
    """Ask all processes of the host to end; those that do not are killed when this one exits."""
    try:
        os.kill(-1, signal.SIGTERM)
        limit = time.monotonic() + _PATIENCE_AT_END
        while time.monotonic() < limit:
            collect_dead()
            os.kill(-1, 0)
            time.sleep(0.02)
    except ProcessLookupError:
        return


def main(arguments: list[str]) -> int:
    """Be process 1 of a host."""
    path = Path(arguments[0])
    config = load(path)
    announce(config.first)
    enter(config)
    Supervisor(config_path=path).run()
    end_everything()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
