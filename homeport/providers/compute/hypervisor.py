"""
The compute port on libvirt: see `homeport.agent.ports.Compute` for what each call promises.

The agent calls it, from several threads. What libvirt says of a disk is compared after every change
and its persistent definition corrected, because the two can fall apart when libvirtd dies in a
call. Nothing is kept in memory: the truth is libvirt's, QEMU's, and the files'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt

from homeport.model.host import (
    HostInventory,
    MachineProblem,
    MachineSources,
    Note,
    Placement,
    Rotation,
    UnknownMachineError,
)
from homeport.model.machine import MachineDefinition, PowerState
from homeport.providers.compute import (
    describing,
    domain_xml,
    files,
    guest,
    hook,
    inventory,
    jobs,
    notes,
    resources,
    snapshots,
    uefi,
)
from homeport.providers.compute.connection import Connection
from homeport.providers.compute.failures import (
    SavedStateError,
    StaleDefinitionError,
    StartVetoedError,
    UnknownDiskError,
    ViewBehindError,
)
from homeport.providers.compute.images import chain, same_file
from homeport.providers.compute.open_files import true_top, written_files

# With passwords: a definition without them would open a machine's console to all.
_PERSISTENT = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
_UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)


class LibvirtCompute:
    """
    A hypervisor reached through libvirtd on this host.

    `pause` is slept with while a job or a guest is waited for. `hooks` is libvirt's folder of
    hooks, `run` the one with its QEMUs' pid files, `variables_folder` the one where it makes UEFI
    variables whose file no definition names.
    """

    def __init__(
        self,
        uri: str = "qemu:///system",
        *,
        pause: Callable[[float], None],
        hooks: Path = Path("/etc/libvirt/hooks"),
        run: Path = Path("/run/libvirt/qemu"),
        variables_folder: Path = uefi.FOLDER,
    ) -> None:
        self._connection = Connection(uri)
        self._pause = pause
        self._hooks = hooks
        self._run = run
        self._variables = variables_folder

    def close(self) -> None:
        """Let go of libvirtd; the next call opens again."""
        self._connection.close()

    def inventory(self) -> HostInventory:
        """See `Compute`."""
        with self._connection.session("list what the host has") as link:
            return inventory.read_inventory(link)

    def describe(
        self, machine: str, *, names: Mapping[str, str] | None = None
    ) -> MachineDefinition:
        """See `Compute`."""
        with self._connection.session("describe the machine", machine) as link:
            domain = link.lookupByName(machine)
            problems = _problems(domain)
            host = replace(inventory.host_of(link), variables=self._variables)
            if domain.isActive():
                live = domain_xml.parse(domain.XMLDesc(0))
                problems += describing.running_problems(live)
                host = replace(host, live_size=lambda target: _live_size(domain, live, target))
            return describing.machine_definition(
                domain.XMLDesc(_PERSISTENT), names=names, host=host, problems=problems
            )

    def variables(self, definition: MachineDefinition, *, name: str) -> Path | None:
        """See `Compute`."""
        return uefi.path_of(domain_xml.parse(definition.domain_xml), self._variables, name=name)

    def state(self, machine: str) -> PowerState:
        """See `Compute`."""
        try:
            with self._connection.machine(machine, "look at the machine") as domain:
                return inventory.power_state(domain)
        except UnknownMachineError:
            return PowerState.ABSENT

    def sources(self, machine: str) -> MachineSources:
        """See `Compute`. `live` is what QEMU writes to, even where libvirt's view is behind."""
        with self._connection.session("look at the machine's disks", machine) as link:
            domain = link.lookupByName(machine)
            host = inventory.host_of(link)
            live = self._really_written(machine, _believed(domain, host))
            return MachineSources(live=live, persistent=_persistent(domain, host))

    def rotate(self, machine: str, overlays: Mapping[str, Path], *, quiesce: bool) -> Rotation:
        """See `Compute`."""
        with self._connection.session("put overlays under the disks", machine) as link:
            domain = link.lookupByName(machine)
            believed, current = self._current(domain, inventory.host_of(link))
            done = snapshots.in_place(current, overlays, machine)
            if not done:
                self._check_view(machine, believed, current)
                request = snapshots.checked_request(domain, current, overlays)
                rotation = snapshots.take(domain, request, quiesce=quiesce)
            self._settle(machine, overlays)
            return snapshots.IN_PLACE if done else rotation

    def thaw(self, machine: str) -> bool:
        """See `Compute`."""
        with self._connection.machine(machine, "thaw the guest") as domain:
            return guest.thaw(domain)

    def set_sources(
        self,
        machine: str,
        paths: Mapping[str, Path],
        *,
        formats: Mapping[str, str] | None = None,
    ) -> None:
        """See `Compute`."""
        with self._connection.session("correct the machine's definition", machine) as link:
            domain = link.lookupByName(machine)
            text = domain.XMLDesc(_PERSISTENT)
            host = inventory.host_of(link)
            corrected = files.with_sources(
                machine, text, domain.XMLDesc(0), paths, host, formats=formats or {}
            )
            if corrected is not None:
                link.defineXML(corrected)

    def commit(
        self,
        machine: str,
        target: str,
        *,
        base: Path,
        top: Path,
        progress: Callable[[int, int], bool],
    ) -> bool:
        """See `Compute`."""
        with self._connection.machine(machine, f"commit a layer of {target}") as domain:
            _check_disk(domain, target)
            return jobs.commit_layer(
                domain, target, base=base, top=top, progress=progress, pause=self._pause
            )

    def pivot(self, machine: str, target: str, *, base: Path) -> None:
        """See `Compute`."""
        with self._connection.machine(machine, f"bring {target} back to its base") as domain:
            _check_disk(domain, target)
            if domain.isActive():
                jobs.pivot_to(domain, target, base=base, pause=self._pause)
            else:
                self._pivot_files(machine, target, base)
        self._settle(machine, {target: base})

    def create(self, definition: MachineDefinition, placement: Placement) -> None:
        """See `Compute`."""
        text = files.fitted(definition, placement, variables=self._variables)
        with self._connection.session(f"define machine {placement.name}", placement.name) as link:
            running, own = self._redefined(link, placement)
            if definition.nvram is not None and placement.nvram_path and not running:
                uefi.lay(Path(placement.nvram_path), definition.nvram, own=own)
            link.defineXML(text).setAutostart(0)

    def start(self, machine: str) -> None:
        """See `Compute`."""
        try:
            with self._connection.machine(machine, "start the machine") as domain:
                if domain.isActive():
                    return
                if domain.hasManagedSaveImage():
                    raise SavedStateError(machine)
                domain.create()
        except StartVetoedError as error:
            note = self.note(machine)
            if note is None or note.may_start:
                raise
            raise StartVetoedError(machine, note.reason or "it is fenced") from error

    def stop(self, machine: str, *, timeout: float) -> bool:
        """See `Compute`."""
        with self._connection.machine(machine, "shut the machine down") as domain:
            return guest.shut_down(domain, timeout=timeout, pause=self._pause)

    def delete(self, machine: str) -> None:
        """See `Compute`."""
        try:
            with self._connection.machine(machine, "undefine the machine") as domain:
                persistent = domain.isPersistent()
                guest.power_off(domain)
                if persistent:
                    domain.undefineFlags(_UNDEFINE)
        except UnknownMachineError:
            return

    def note(self, machine: str) -> Note | None:
        """See `Compute`."""
        with self._connection.machine(machine, "read the machine's note") as domain:
            return notes.read_note(domain_xml.parse(domain.XMLDesc(_PERSISTENT)))

    def set_note(self, machine: str, note: Note | None) -> None:
        """See `Compute`."""
        with self._connection.machine(machine, "write the machine's note") as domain:
            if note is None and notes.read_note(domain_xml.parse(domain.XMLDesc(0))) is None:
                return
            flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG if domain.isPersistent() else 0
            if domain.isActive():
                flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
            text = None if note is None else notes.note_text(note)
            kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
            domain.setMetadata(kind, text, notes.PREFIX, notes.NAMESPACE, flags)

    def set_autostart(self, machine: str, *, on: bool) -> None:
        """See `Compute`."""
        with self._connection.machine(machine, "set the machine's autostart") as domain:
            domain.setAutostart(int(on))

    def ping_guest(self, machine: str, *, timeout: float) -> bool:
        """See `Compute`."""
        with self._connection.machine(machine, "ask the guest for a sign of life") as domain:
            return guest.ping(domain, timeout=timeout, pause=self._pause)

    def screenshot(self, machine: str) -> bytes | None:
        """See `Compute`."""
        with self._connection.session("take a screenshot", machine) as link:
            return guest.screenshot(link, link.lookupByName(machine))

    def make_pool(self, name: str, path: Path) -> None:
        """See `Compute`."""
        with self._connection.session(f"make pool {name}") as link:
            resources.make_pool(link, name, path)

    def delete_pool(self, name: str) -> None:
        """See `Compute`."""
        with self._connection.session(f"remove pool {name}") as link:
            resources.delete_pool(link, name)

    def make_network(self, name: str) -> None:
        """See `Compute`."""
        with self._connection.session(f"make network {name}") as link:
            resources.make_network(link, name)

    def delete_network(self, name: str) -> bool:
        """See `Compute`."""
        with self._connection.session(f"remove network {name}") as link:
            return resources.delete_network(link, name)

    def install_hook(self) -> bool:
        """See `Compute`. It is tried with a machine of nothing, which must not start."""
        with self._connection.session("try the hook") as link:
            folders = link.getLibVersion() >= hook.FOLDERS_SINCE
            if hook.install(self._hooks, folders=folders) is None:
                return False
            return _hooks_run(link)

    def _current(
        self, domain: Any, host: describing.Host
    ) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Each disk's top file as libvirt has it, and as it really is."""
        if not domain.isActive():
            persistent = _persistent(domain, host)
            return persistent, persistent
        believed = _believed(domain, host)
        return believed, self._really_written(domain.name(), believed)

    def _really_written(self, machine: str, believed: Mapping[str, str]) -> dict[str, str]:
        try:
            pid = int((self._run / f"{machine}.pid").read_text())
        except (OSError, ValueError):
            return dict(believed)
        written = written_files(pid)
        return {target: true_top(path, written) for target, path in believed.items()}

    def _check_view(
        self, machine: str, believed: Mapping[str, str], current: Mapping[str, str]
    ) -> None:
        for target, path in believed.items():
            if not same_file(path, current[target]):
                raise ViewBehindError(machine, target, current[target])

    def _settle(self, machine: str, wanted: Mapping[str, Path]) -> None:
        """Compare both views with what was asked for and correct the persistent one."""
        found = self.sources(machine)
        for target, path in wanted.items():
            if found.live and not same_file(found.live.get(target), path):
                raise StaleDefinitionError(machine, f"{target} is {found.live[target]}")
        late = {t: p for t, p in wanted.items() if not same_file(found.persistent.get(t), p)}
        if late:
            self.set_sources(machine, late)

    def _pivot_files(self, machine: str, target: str, base: Path) -> None:
        """The same for a machine that is off; qemu-img refuses if somebody has its files open."""
        top = Path(self.sources(machine).persistent[target])
        if same_file(top, base):
            return
        if not any(same_file(image.path, base) for image in chain(top, "qcow2")):
            raise UnknownDiskError(machine, target, f"{base} is not in its chain")
        files.flatten(top, base)
        self.set_sources(machine, {target: base})

    def _redefined(self, link: Any, placement: Placement) -> tuple[bool, Path | None]:
        """Whether it is there and runs, and its variables; refused if it has a saved state."""
        try:
            domain = link.lookupByName(placement.name)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
            return False, None
        if domain.hasManagedSaveImage():
            raise SavedStateError(placement.name)
        own = uefi.path_in(domain.XMLDesc(_PERSISTENT), self._variables)
        return bool(domain.isActive()), own


def _problems(domain: Any) -> list[MachineProblem]:
    """What only libvirt knows of a machine."""
    found = []
    if not domain.isPersistent():
        found.append(
            MachineProblem(
                code="TransientMachine",
                message="It is not defined, only running.",
                remedy="Define it with 'virsh define' from its dumped XML.",
            )
        )
    if domain.isPersistent() and domain.hasManagedSaveImage():
        found.append(SavedStateError(domain.name()).problem)
    return found


def _believed(domain: Any, host: describing.Host) -> dict[str, str]:
    if not domain.isActive():
        return {}
    return describing.top_files(domain_xml.parse(domain.XMLDesc(0)), host)


def _persistent(domain: Any, host: describing.Host) -> dict[str, str]:
    return describing.top_files(domain_xml.parse(domain.XMLDesc(_PERSISTENT)), host)


def _live_size(domain: Any, live: Any, target: str) -> int | None:
    if all(facts.target != target for facts in domain_xml.disks(live)):
        return None  # defined, and attached at the next start only
    return int(domain.blockInfo(target)[0])


def _check_disk(domain: Any, target: str) -> None:
    root = domain_xml.parse(domain.XMLDesc(0))
    if all(facts.target != target for facts in domain_xml.disks(root)):
        raise UnknownDiskError(domain.name(), target, "the machine has no such disk")


def _hooks_run(link: Any) -> bool:
    flags = libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY
    try:
        probe = link.createXML(hook.probe_xml(), flags)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_HOOK_SCRIPT_FAILED:
            raise
        return True
    probe.destroy()
    return False
