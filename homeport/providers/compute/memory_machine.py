"""
A machine in memory: its definition, its real disk files, and a guest that reads and writes them.

`memory.MemoryCompute` is the hypervisor around it and guards it: nothing here takes a lock.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from homeport.dataplane.qcow2_chain import ChainReader
from homeport.dataplane.qcow2_header import rewrite_backing
from homeport.model.host import DiskPlace, MachineFacts, Note, Rotation
from homeport.model.machine import PowerState
from homeport.model.manifest import Consistency
from homeport.providers.compute import describing, domain_xml, files, notes
from homeport.providers.compute.failures import (
    DiskBusyError,
    HypervisorRefusedError,
    NotRunningError,
    UnknownDiskError,
)
from homeport.providers.compute.images import Image, UnreadableImageError, chain, same_file


@dataclass(kw_only=True, slots=True)
class MemoryMachine:
    """One machine; tests set what a guest or a person would do to it."""

    persistent: str  # domain XML
    live: str | None = None  # while it runs
    state: PowerState = PowerState.OFF
    autostart: bool = False
    saved: bool = False  # it has a saved state
    guest_agent: bool = False  # answers, and can freeze
    frozen: bool = False
    obeys: bool = True  # shuts down when asked
    shut_down: bool = False  # it went off by itself
    busy: set[str] = field(default_factory=set)  # targets another tool's job holds

    @property
    def name(self) -> str:
        """Its name."""
        return domain_xml.text_of(domain_xml.parse(self.persistent), "name")

    @property
    def view(self) -> str:
        """Its XML as it is now."""
        return self.persistent if self.live is None else self.live

    @property
    def uuid(self) -> str:
        """Its uuid."""
        return domain_xml.text_of(domain_xml.parse(self.persistent), "uuid")

    def chain(self, target: str) -> list[Image]:
        """The files of a disk as they are now, top first."""
        for facts in domain_xml.disks(domain_xml.parse(self.view)):
            if facts.target == target and facts.path:
                return list(chain(Path(facts.path), facts.format))
        raise UnknownDiskError(self.name, target, "the machine has no such disk")

    def write(self, target: str, *writes: tuple[int, bytes]) -> None:
        """The guest writes each (offset, data), in order, and syncs."""
        with ExitStack() as opened:
            commands = []
            for offset, data in writes:
                file = opened.enter_context(tempfile.NamedTemporaryFile())
                file.write(data)
                file.flush()
                commands.append(f"write -q -s {file.name} {offset} {len(data)}")
            self._guest_io(target, commands)

    def zero(self, target: str, offset: int, length: int) -> None:
        """The guest discards a range, which then reads as zeroes."""
        self._guest_io(target, [f"write -q -z -u {offset} {length}"])

    def read(self, target: str, offset: int, length: int) -> bytes:
        """What the guest reads."""
        images = self.chain(target)
        base: Literal["raw", "qcow2"] = "raw" if images[-1].format == "raw" else "qcow2"
        with ChainReader([image.path for image in images], base_format=base) as reader:
            return reader.read(offset, length)

    def resize(self, target: str, size: int) -> None:
        """A user makes the disk larger."""
        top = self.chain(target)[0]
        _run(["qemu-img", "resize", "-q", "-f", top.format, str(top.path), str(size)])

    def point(self, paths: Mapping[str, Path], kind: str) -> None:
        """Let disks use other files, in both views."""
        self.persistent = _pointed(self.persistent, paths, kind)
        self.live = None if self.live is None else _pointed(self.live, paths, kind)

    def annotate(self, note: Note | None) -> None:
        """Write or remove Homeport's note, in both views."""
        self.persistent = _noted(self.persistent, note)
        self.live = None if self.live is None else _noted(self.live, note)

    def check_files(self) -> None:
        """Raise HypervisorRefusedError if a disk's chain cannot be opened."""
        for facts in domain_xml.disks(domain_xml.parse(self.persistent)):
            try:
                list(chain(Path(facts.path), facts.format) if facts.path else ())
            except UnreadableImageError as error:
                raise HypervisorRefusedError("start the machine", str(error)) from error

    def check_idle(self, target: str, doing: str) -> None:
        """Raise DiskBusyError while another tool's job holds the disk."""
        if target in self.busy:
            raise DiskBusyError(doing, f"disk {target} already in active block job")

    def rotation(self, *, quiesce: bool) -> Rotation:
        """What a rotation reaches now."""
        if not quiesce:
            return Rotation(consistency=Consistency.CRASH)
        reason = self._why_not_consistent()
        consistency = Consistency.CRASH if reason else Consistency.APP
        return Rotation(consistency=consistency, reason=reason)

    def facts(self) -> MachineFacts:
        """The machine as a host lists it."""
        root = domain_xml.parse(self.persistent)
        disks = [facts.path for facts in describing.replicable(root) if facts.path]
        return MachineFacts(
            name=self.name,
            uuid=self.uuid,
            state=self.state,
            memory=domain_xml.memory(root),
            vcpus=domain_xml.vcpus(root),
            autostart=self.autostart,
            disks=tuple(domain_xml.stem(path) for path in disks),
        )

    def _why_not_consistent(self) -> str:
        if self.live is None:
            off = "the machine is off, and it is not known that the guest shut itself down"
            return "" if self.shut_down else off
        if self.guest_agent and not self.frozen and self.state is PowerState.RUNNING:
            return ""
        return "the guest could not be frozen: no guest agent answers"

    def _guest_io(self, target: str, commands: list[str]) -> None:
        if self.state is not PowerState.RUNNING:
            raise NotRunningError(self.name, "write")
        top = self.chain(target)[0]
        arguments = [part for command in commands for part in ("-c", command)]
        _run(["qemu-io", "-f", top.format, *arguments, "-c", "flush", str(top.path)])


def commit_between(images: list[Image], top: Path) -> None:
    """Commit one closed layer that has another above it, which then names the file below."""
    at = next(place for place, image in enumerate(images) if same_file(image.path, top))
    above, layer, below = images[at - 1 : at + 2]
    files.flatten(layer.path, below.path)
    rewrite_backing(above.path, str(below.path), below.format)


def _pointed(xml: str, paths: Mapping[str, Path], kind: str) -> str:
    root = domain_xml.parse(xml)
    for target, path in paths.items():
        place = DiskPlace(path=str(path), format=kind)
        domain_xml.point_disk(domain_xml.disk_element(root, target), place)
    return domain_xml.print_xml(root)


def _noted(xml: str, note: Note | None) -> str:
    root = domain_xml.parse(xml)
    notes.write_note(root, note)
    return domain_xml.print_xml(root)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or "failed" in done.stdout:
        raise files.ImageToolError(command[0], done.stderr.strip() or done.stdout.strip())
