"""
The agent's port to a hypervisor; `homeport.providers.compute` has it for libvirt and in memory.

Disks are named by their target (`vda`), the one name both libvirt and a ledger know. Every
call may be repeated; what is already so stays so. A call that cannot reach the hypervisor raises
`TransientError`; a machine that is not there raises `UnknownMachineError` where it must be there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from homeport.model.host import HostInventory, MachineSources, Note, Placement, Rotation
from homeport.model.machine import MachineDefinition, PowerState

Targets = Mapping[str, str]
"""The device each disk has in the definition: disk name to `vda`."""


class Compute(Protocol):
    """A hypervisor on this host. Paths are absolute; sizes are bytes."""

    def inventory(self) -> HostInventory:
        """All the host has at this moment."""

    def describe(
        self, machine: str, *, names: Mapping[str, str] | None = None
    ) -> MachineDefinition:
        """
        The machine's definition, with the disks that can be replicated.

        `names` gives the disks' names by target; without it a disk is named by its file, less the
        ending. Left out: cdroms, floppies, read-only and shareable disks. The definition's XML has
        our note removed, so that it is equal however often the machine has changed sides.

        Raises:
            UnknownMachineError, UnsupportedMachineError (copy-on-read, unsafe cache, internal
            snapshots, a saved state: each named, with its remedy).
        """

    def variables(self, definition: MachineDefinition, *, name: str) -> Path | None:
        """
        The file of the UEFI variables of a machine that is defined so under this name.

        Also where the definition leaves it to libvirt to choose; it is made by the first start.
        None when such a machine has no variables.
        """

    def state(self, machine: str) -> PowerState:
        """ABSENT when there is none of that name."""

    def sources(self, machine: str) -> MachineSources:
        """The top file of each disk by *target* (`vda`), running and persistent view."""

    def rotate(self, machine: str, overlays: Mapping[str, Path], *, quiesce: bool) -> Rotation:
        """
        Put prepared overlays under the machine, all at one instant; by target (`vda`).

        Each overlay exists, is empty and as large as its disk is now, and names the disk's top file
        and its format. Disks not named stay as they are: a disk added since is for the caller to
        notice. Running or off. With `quiesce` the guest's file systems are frozen around it if that
        can be done; the answer says what was reached and why not more. Overlays that are in place
        already are left so. Atomic: after an error no disk has moved, or `sources` says which.

        Raises:
            TransientError: a job or another tool holds a disk; nothing moved.
            RefusedError: an overlay is not as above, the machine has a saved state, or libvirt's
                view of the disks is behind QEMU's.
        """

    def thaw(self, machine: str) -> bool:
        """
        End a freeze that a rotation cut short by libvirtd's death may have left behind.

        For machines with an open intent to rotate with `quiesce`; True if the guest answered.
        """

    def set_sources(
        self,
        machine: str,
        paths: Mapping[str, Path],
        *,
        formats: Mapping[str, str] | None = None,
    ) -> None:
        """
        Correct the persistent definition's disk files, by target. Leaves a running machine.

        `formats` are the files' formats where the caller knows them; others are taken from the
        chains that the definition has now, whose files must then still be there.
        """

    def commit(
        self,
        machine: str,
        target: str,
        *,
        base: Path,
        top: Path,
        progress: Callable[[int, int], bool],
    ) -> bool:
        """
        Commit the layer `top` of a *running* machine's disk into `base`, the file below it.

        `progress(current, end)` is called about ten times a second and returns False to abort.
        True when committed: the layer above now names `base`, nothing is synced or removed yet.
        False when aborted: base plus layer are right, base alone is not. A commit that runs
        already, from before a crash, is joined. A raw base is inflated by the layer's zero extents,
        which land in it as written zeroes: the caller punches them afterwards by the layer's map.

        Raises:
            TransientError: another job holds the disk, or the job ended without having committed.
            RefusedError: the machine is off, or `base` and `top` are not neighbours below the
                active layer.
        """

    def pivot(self, machine: str, target: str, *, base: Path) -> None:
        """
        Commit everything above `base`, the active layer too, and go on writing to `base`.

        Running or off. Nothing is synced or removed yet.
        """

    def create(self, definition: MachineDefinition, placement: Placement) -> None:
        """
        Define the machine as placed, autostart off; one of that name and uuid is redefined.

        Placement's disks are keyed by target. The definition's UEFI variables are written where the
        placement has them, unless the machine runs. A definition that leaves the choice of the file
        to libvirt goes on doing so where that is the file libvirt would take.

        Raises:
            RefusedError: a disk or network has no place, or the name or uuid is another machine's.
        """

    def start(self, machine: str) -> None:
        """
        Start it; running stays running.

        Raises:
            RefusedError: a hook or a missing resource denies it, or a saved state would be resumed.
        """

    def stop(self, machine: str, *, timeout: float) -> bool:
        """
        Ask the guest to shut down, wait up to `timeout` seconds (0: do not ask), then power off.

        True if it went by itself; a machine that is off already did.
        """

    def delete(self, machine: str) -> None:
        """Power off and undefine with what is libvirt's own (nvram); disks stay. Absent is fine."""

    def note(self, machine: str) -> Note | None:
        """What Homeport wrote into the machine's metadata."""

    def set_note(self, machine: str, note: Note | None) -> None:
        """Write or remove it, running and persistent."""

    def set_autostart(self, machine: str, *, on: bool) -> None:
        """Whether libvirt starts it at the host's boot."""

    def ping_guest(self, machine: str, *, timeout: float) -> bool:
        """True once the guest agent answers within `timeout` seconds; False if it does not."""

    def screenshot(self, machine: str) -> bytes | None:
        """A PNG of its screen; None when it has none."""

    def make_pool(self, name: str, path: Path) -> None:
        """
        A pool of files in a folder, which is made where it is missing; started with the host.

        Raises:
            RefusedError: another pool has the name or the folder.
        """

    def delete_pool(self, name: str) -> None:
        """Let libvirt forget a pool; its folder and what lies in it stay. Absent is fine."""

    def make_network(self, name: str) -> None:
        """
        An isolated network, started with the host: its machines reach each other and nobody else.

        It hands out no addresses. A network of that name stays what it is, and is started.
        """

    def delete_network(self, name: str) -> bool:
        """
        Take a network away; absent is fine.

        False, and nothing changed, while any machine has a card on it, running or defined.
        """

    def install_hook(self) -> bool:
        """
        Put the hook in place that vetoes the start of a machine whose note forbids it.

        True if hooks run here: libvirt reads the list of hooks when its daemon starts.
        """
