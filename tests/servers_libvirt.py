"""
A libvirtd of the tests' own, in mount and network namespaces of its own.

`libvirt_host` starts one a session. Its socket, hooks and pid files lie in a folder that is seen
from outside too, so tests reach it by `?socket=`, kill it and start it again. The capability cache
is kept between sessions: probing QEMU takes 8 s, reading the cache 40 ms.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
import pytest

from homeport.providers.compute import hook
from homeport.providers.compute.hypervisor import LibvirtCompute

CACHE = Path(tempfile.gettempdir()) / "homeport-tests-libvirt-cache"
PRIVATE = {
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "etc": "/etc/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}
QEMU_CONF = """
user = "root"
group = "root"
security_driver = "none"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""

# Keeps the namespaces, starts libvirtd when told by a signal, and reaps what is orphaned in there:
# libvirt waits for a QEMU it has ended until nothing is left of it, and not every machine's first
# process is quick to reap.
KEEPER = """
import ctypes, json, os, pathlib, signal, subprocess, sys
folder, binds = sys.argv[1], json.loads(sys.argv[2])
libc = ctypes.CDLL(None)
libc.prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
for inner, outer in binds.items():
    os.makedirs(outer, exist_ok=True)
    subprocess.run(["mount", "--bind", inner, outer], check=True)
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
libvirtd = ["libvirtd", "-d", "--pid-file", folder + "/libvirtd.pid"]
signal.signal(signal.SIGUSR1, lambda *_: subprocess.Popen(libvirtd))
def die_with_it():
    libc.prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
subprocess.Popen(["sleep", "infinity"], preexec_fn=die_with_it)  # os.wait wants a child
pathlib.Path(folder, "keeper.new").write_text(str(os.getpid()))
os.rename(folder + "/keeper.new", folder + "/keeper.pid")
while True:
    os.wait()
"""


@dataclass
class LibvirtHost:
    """One host: its folder, the process that keeps its namespaces, and its daemon."""

    folder: Path
    keeper: subprocess.Popen[bytes]

    @property
    def uri(self) -> str:
        return f"qemu:///system?socket={self.folder}/run/libvirt-sock"

    @property
    def hooks(self) -> Path:
        return self.folder / "etc/hooks"

    @property
    def run(self) -> Path:
        return self.folder / "run/qemu"

    @property
    def variables(self) -> Path:
        return self.folder / "lib/qemu/nvram"

    def compute(self) -> LibvirtCompute:
        return LibvirtCompute(
            self.uri,
            pause=time.sleep,
            hooks=self.hooks,
            run=self.run,
            variables_folder=self.variables,
        )

    def start_daemon(self) -> None:
        """Start libvirtd and wait until it answers."""
        os.kill(int((self.folder / "keeper.pid").read_text()), signal.SIGUSR1)
        wait_until(self._answers)

    def kill_daemon(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End libvirtd alone; QEMUs live on."""
        pid = self.daemon_pid()
        os.kill(pid, how)
        wait_until(lambda: not Path(f"/proc/{pid}/exe").exists())

    def daemon_pid(self) -> int:
        return int((self.folder / "libvirtd.pid").read_text())

    def qemu_pid(self, machine: str) -> int:
        return int((self.run / f"{machine}.pid").read_text())

    def open(self) -> Any:
        return libvirt.open(self.uri)

    def qmp(self, machine: str, command: str, **arguments: Any) -> Any:
        """One QMP command to a running machine."""
        link = self.open()
        try:
            text = json.dumps({"execute": command, "arguments": arguments})
            domain = link.lookupByName(machine)
            answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, text, 0))
            assert "error" not in answer, answer
            return answer["return"]
        finally:
            link.close()

    def guest_io(self, machine: str, target: str, command: str) -> str:
        """What a guest would do to its disk, by qemu-io through the device's own backend."""
        link = self.open()
        try:
            domain = link.lookupByName(machine)
            number = "ab".index(target[-1])
            device = f"/machine/peripheral/virtio-disk{number}/virtio-backend"
            line = f'qemu-io -d {device} "{command}"'
            return str(libvirt_qemu.qemuMonitorCommand(domain, line, 1))
        finally:
            link.close()

    def clear(self) -> None:
        """Remove every machine."""
        compute = self.compute()
        link = self.open()
        for domain in link.listAllDomains():
            if domain.isActive():  # libvirt takes 1.6 s to end one, the kernel none
                _kill(self.qemu_pid(domain.name()))
            compute.delete(domain.name())
        link.close()
        compute.close()

    def close(self) -> None:
        """End everything of it and keep the capability cache."""
        for path in [*self.run.glob("*.pid"), self.folder / "libvirtd.pid"]:
            with contextlib.suppress(OSError, ValueError):
                _kill(int(path.read_text()))
        self.keeper.kill()
        self.keeper.wait()
        if not CACHE.exists():
            kept = Path(f"{CACHE}-{self.folder.name}")
            shutil.copytree(self.folder / "cache", kept, copy_function=shutil.copy2)
            with contextlib.suppress(OSError):  # another session's was first
                kept.rename(CACHE)
            shutil.rmtree(kept, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            link = self.open()
            link.getCapabilities()
            link.close()
        except libvirt.libvirtError:
            return False
        return True


def start_host() -> LibvirtHost:
    """A host with an answering libvirtd."""
    folder = Path(tempfile.mkdtemp(prefix="hpv-"))  # short: sockets' paths have 108 bytes
    for name in PRIVATE:
        (folder / name).mkdir()
    shutil.copytree("/etc/libvirt", folder / "etc", dirs_exist_ok=True)
    shutil.rmtree(folder / "etc/qemu", ignore_errors=True)
    shutil.rmtree(folder / "etc/hooks", ignore_errors=True)
    (folder / "etc/qemu.conf").write_text(QEMU_CONF)
    if CACHE.exists():
        shutil.copytree(CACHE, folder / "cache", dirs_exist_ok=True, copy_function=shutil.copy2)
    binds = {str(folder / name): outer for name, outer in PRIVATE.items()}
    apart = ["unshare", "--mount", "--net", "--propagation", "private", "--fork", "--kill-child"]
    keeper = subprocess.Popen(
        [*apart, sys.executable, "-c", KEEPER, str(folder), json.dumps(binds)]
    )
    host = LibvirtHost(folder=folder, keeper=keeper)
    try:
        wait_until((folder / "keeper.pid").exists)
        hook.install(host.hooks, folders=True)  # before the daemon looks for hooks
        host.start_daemon()
    except BaseException:
        host.close()
        raise
    return host


def wait_until(holds: Any, *, patience: float = 60) -> None:
    """Wait for a real peer; fails the test when it does not come."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture(scope="session")
def libvirt_host() -> Iterator[LibvirtHost]:
    """The session's libvirtd; tests leave no machine behind."""
    host = start_host()
    yield host
    host.close()
