"""
The compute port in memory: machines without a hypervisor, on real disk files.

For the tests of everything that uses the port, and held to the same contract as libvirt's. A
machine is its domain XML, as libvirt would have it, and its disks are real chains on which
rotation, commit and pivot do what QEMU does; `write` and `read` are its guest. Machines outlive the
object: another one made over the same `MemoryMachine`s finds them running, as after an agent's
crash.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from homeport.model.host import (
    HostInventory,
    MachineSources,
    Network,
    Note,
    Placement,
    Pool,
    Rotation,
    UnknownMachineError,
)
from homeport.model.machine import MachineDefinition, PowerState
from homeport.providers.compute import (
    describing,
    domain_xml,
    files,
    guest,
    jobs,
    notes,
    resources,
    snapshots,
    uefi,
)
from homeport.providers.compute.failures import (
    HypervisorRefusedError,
    HypervisorUnreachableError,
    NotRunningError,
    SavedStateError,
    StartVetoedError,
    UnknownDiskError,
)
from homeport.providers.compute.images import same_file
from homeport.providers.compute.inventory import measured
from homeport.providers.compute.memory_machine import MemoryMachine, commit_between
from homeport.units import GiB

_BLACK_PIXEL = b"P6 1 1 255\n\0\0\0"


class MemoryCompute:
    """
    A host of `MemoryMachine`s. One call at a time: `_lock` guards everything.

    With `hooks` false a note does not keep a machine from starting; with `reachable` false every
    call fails as if libvirtd were down.
    """

    def __init__(
        self,
        *,
        pools: Mapping[str, Path] | None = None,
        networks: Iterable[str] = ("default",),
        machines: Iterable[MemoryMachine] = (),
        memory: int = 16 * GiB,
        hooks: bool = True,
        variables_folder: Path = uefi.FOLDER,
    ) -> None:
        self._lock = threading.RLock()
        self._pools = dict(pools or {})
        self._networks = list(networks)
        self._machines = {machine.name: machine for machine in machines}
        self._memory = memory
        self._hooks = hooks
        self._variables = variables_folder
        self.reachable = True

    @property
    def machines(self) -> dict[str, MemoryMachine]:
        """The machines by name: to be looked at and set by tests, and given to another host."""
        return self._machines

    @property
    def pools(self) -> dict[str, Path]:
        """The pools' folders by name: to be looked at and changed by tests."""
        return self._pools

    def define(self, xml: str) -> MemoryMachine:
        """What a user does with `virsh define`."""
        machine = MemoryMachine(persistent=xml)
        self._machines[machine.name] = machine
        return machine

    def write(self, machine: str, target: str, *writes: tuple[int, bytes]) -> None:
        """The guest writes each (offset, data), in order, and syncs."""
        with self._lock:
            self._of(machine).write(target, *writes)

    def zero(self, machine: str, target: str, offset: int, length: int) -> None:
        """The guest discards a range, which then reads as zeroes."""
        with self._lock:
            self._of(machine).zero(target, offset, length)

    def read(self, machine: str, target: str, offset: int, length: int) -> bytes:
        """What the guest reads."""
        with self._lock:
            return self._of(machine).read(target, offset, length)

    def resize(self, machine: str, target: str, size: int) -> None:
        """What a user does with `virsh blockresize`."""
        with self._lock:
            self._of(machine).resize(target, size)

    def inventory(self) -> HostInventory:
        """See `Compute`."""
        with self._lock:
            self._check_reachable()
            running = [one for one in self._machines.values() if one.live is not None]
            used = sum(domain_xml.memory(domain_xml.parse(one.view)) for one in running)
            return HostInventory(
                memory=self._memory,
                memory_free=self._memory - used,
                cpus=4,
                kvm=False,
                hypervisor="in memory",
                pools=tuple(_pool(name, path) for name, path in self._pools.items()),
                networks=tuple(Network(name=name, active=True) for name in self._networks),
                machines=tuple(machine.facts() for machine in self._machines.values()),
            )

    def describe(
        self, machine: str, *, names: Mapping[str, str] | None = None
    ) -> MachineDefinition:
        """See `Compute`."""
        with self._lock:
            found = self._of(machine)
            problems = [SavedStateError(machine).problem] if found.saved else []
            if found.live is not None:
                problems += describing.running_problems(domain_xml.parse(found.live))
            return describing.machine_definition(
                found.persistent, names=names, host=self._host(), problems=problems
            )

    def variables(self, definition: MachineDefinition, *, name: str) -> Path | None:
        """See `Compute`."""
        return uefi.path_of(domain_xml.parse(definition.domain_xml), self._variables, name=name)

    def state(self, machine: str) -> PowerState:
        """See `Compute`."""
        with self._lock:
            self._check_reachable()
            found = self._machines.get(machine)
            return PowerState.ABSENT if found is None else found.state

    def sources(self, machine: str) -> MachineSources:
        """See `Compute`."""
        with self._lock:
            found = self._of(machine)
            return MachineSources(
                live={} if found.live is None else self._top_files(found.live),
                persistent=self._top_files(found.persistent),
            )

    def rotate(self, machine: str, overlays: Mapping[str, Path], *, quiesce: bool) -> Rotation:
        """See `Compute`."""
        with self._lock:
            found = self._of(machine)
            current = self._top_files(found.view)
            if snapshots.in_place(current, overlays, machine):
                found.point(overlays, "qcow2")
                return snapshots.IN_PLACE
            snapshots.check_targets(machine, current, overlays)
            if found.saved:
                raise SavedStateError(machine)
            root = domain_xml.parse(found.view)
            sizes = {target: found.chain(target)[0].size for target in overlays}
            snapshots.check_overlays(root, current, overlays, sizes)
            for target in overlays:
                found.check_idle(target, "put overlays under the disks")
            found.point(overlays, "qcow2")
            return found.rotation(quiesce=quiesce)

    def thaw(self, machine: str) -> bool:
        """See `Compute`."""
        with self._lock:
            found = self._of(machine)
            answers = found.guest_agent and found.state is PowerState.RUNNING
            found.frozen = found.frozen and not answers
            return answers

    def set_sources(
        self,
        machine: str,
        paths: Mapping[str, Path],
        *,
        formats: Mapping[str, str] | None = None,
    ) -> None:
        """See `Compute`."""
        with self._lock:
            found = self._of(machine)
            corrected = files.with_sources(
                machine, found.persistent, found.view, paths, self._host(), formats=formats or {}
            )
            found.persistent = corrected or found.persistent

    def commit(
        self,
        machine: str,
        target: str,
        *,
        base: Path,
        top: Path,
        progress: Callable[[int, int], bool],
    ) -> bool:
        """See `Compute`. `progress` is called before and after the work."""
        with self._lock:
            found = self._of(machine)
            if found.live is None:
                raise NotRunningError(machine, "commit a layer")
            images = found.chain(target)
            found.check_idle(target, "commit a layer")
            if jobs.is_committed([image.path for image in images], base, top):
                return True
            jobs.neighbours(machine, target, [(str(i.path), "") for i in images], base, top)
            if not progress(0, images[0].size):
                return False
            commit_between(images, top)
            progress(images[0].size, images[0].size)
            return True

    def pivot(self, machine: str, target: str, *, base: Path) -> None:
        """See `Compute`."""
        with self._lock:
            found = self._of(machine)
            images = found.chain(target)
            found.check_idle(target, "bring a disk back to its base")
            at = [image for image in images if same_file(image.path, base)]
            if not at:
                raise UnknownDiskError(machine, target, f"{base} is not in its chain")
            if at[0] is not images[0]:
                files.flatten(images[0].path, base)
            found.point({target: base}, at[0].format)

    def create(self, definition: MachineDefinition, placement: Placement) -> None:
        """See `Compute`."""
        text = files.fitted(definition, placement, variables=self._variables)
        with self._lock:
            self._check_reachable()
            found = self._redefined(placement)
            if definition.nvram is not None and placement.nvram_path and found.live is None:
                own = uefi.path_in(found.persistent, self._variables)
                uefi.lay(Path(placement.nvram_path), definition.nvram, own=own)
            found.persistent, found.autostart = text, False
            self._machines[placement.name] = found

    def start(self, machine: str) -> None:
        """See `Compute`."""
        with self._lock:
            found = self._of(machine)
            if found.live is not None:
                return
            if found.saved:
                raise SavedStateError(machine)
            note = notes.read_note(domain_xml.parse(found.persistent))
            if self._hooks and note is not None and not note.may_start:
                raise StartVetoedError(machine, note.reason or "it is fenced")
            found.check_files()
            found.live, found.state = found.persistent, PowerState.RUNNING

    def stop(self, machine: str, *, timeout: float) -> bool:
        """See `Compute`."""
        with self._lock:
            found = self._of(machine)
            if found.live is None:
                return True
            asked = timeout > 0 and found.state is PowerState.RUNNING and found.obeys
            found.live, found.state, found.shut_down = None, PowerState.OFF, asked
            return asked

    def delete(self, machine: str) -> None:
        """See `Compute`."""
        with self._lock:
            self._check_reachable()
            found = self._machines.pop(machine, None)
            if found is None:
                return
            path = uefi.path_in(found.persistent, self._variables)
            if path is not None:
                path.unlink(missing_ok=True)

    def note(self, machine: str) -> Note | None:
        """See `Compute`."""
        with self._lock:
            return notes.read_note(domain_xml.parse(self._of(machine).persistent))

    def set_note(self, machine: str, note: Note | None) -> None:
        """See `Compute`."""
        with self._lock:
            found = self._of(machine)
            found.annotate(note)

    def set_autostart(self, machine: str, *, on: bool) -> None:
        """See `Compute`."""
        with self._lock:
            self._of(machine).autostart = on

    def ping_guest(self, machine: str, *, timeout: float) -> bool:
        """See `Compute`."""
        del timeout  # it answers at once or never
        with self._lock:
            found = self._of(machine)
            return found.guest_agent and found.state is PowerState.RUNNING

    def screenshot(self, machine: str) -> bytes | None:
        """See `Compute`."""
        with self._lock:
            found = self._of(machine)
            if found.live is None or domain_xml.parse(found.live).find("devices/video") is None:
                return None
            return guest.png_of(_BLACK_PIXEL)

    def make_pool(self, name: str, path: Path) -> None:
        """See `Compute`."""
        with self._lock:
            self._check_reachable()
            resources.check_pool_free(name, path, {n: str(at) for n, at in self._pools.items()})
            resources.make_folder(path)
            self._pools[name] = path

    def delete_pool(self, name: str) -> None:
        """See `Compute`."""
        with self._lock:
            self._check_reachable()
            self._pools.pop(name, None)

    def make_network(self, name: str) -> None:
        """See `Compute`."""
        with self._lock:
            self._check_reachable()
            if name not in self._networks:
                self._networks.append(name)

    def delete_network(self, name: str) -> bool:
        """See `Compute`."""
        with self._lock:
            self._check_reachable()
            machines = self._machines.values()
            if any(name in resources.networks_in(one.persistent, one.view) for one in machines):
                return False
            self._networks = [network for network in self._networks if network != name]
            return True

    def install_hook(self) -> bool:
        """See `Compute`."""
        self._check_reachable()
        return self._hooks

    def _of(self, machine: str) -> MemoryMachine:
        self._check_reachable()
        if machine not in self._machines:
            raise UnknownMachineError(machine)
        return self._machines[machine]

    def _check_reachable(self) -> None:
        if not self.reachable:
            raise HypervisorUnreachableError("work on this host", "it is cut off")

    def _host(self) -> describing.Host:
        pools = {str(path): name for name, path in self._pools.items()}
        return describing.Host(pools=pools, variables=self._variables)

    def _top_files(self, xml: str) -> dict[str, str]:
        return describing.top_files(domain_xml.parse(xml), self._host())

    def _redefined(self, placement: Placement) -> MemoryMachine:
        """The machine of that name and uuid, a new one if there is neither."""
        for machine in self._machines.values():
            same = (machine.name == placement.name, machine.uuid == placement.uuid)
            if all(same):
                if machine.saved:
                    raise SavedStateError(placement.name)
                return machine
            if any(same):
                reason = f"machine {machine.name} has uuid {machine.uuid}"
                raise HypervisorRefusedError(f"define machine {placement.name}", reason)
        return MemoryMachine(persistent="")


def _pool(name: str, path: Path) -> Pool:
    capacity, available, writable = measured(path) if path.is_dir() else (0, 0, False)
    return Pool(
        name=name, path=str(path), capacity=capacity, available=available, writable=writable
    )
