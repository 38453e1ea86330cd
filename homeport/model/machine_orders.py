"""
Machines of the user's own, as an agent is asked to make, drive and show them.

The operations are agents' like any other: `homeport.model.operations` lists all.
"""

from __future__ import annotations

from dataclasses import dataclass

from homeport.model.ids import DiskName
from homeport.model.machine import MachineDefinition, PowerState


@dataclass(frozen=True, kw_only=True, slots=True)
class NewDisk:
    """A disk for a new machine: empty, or a copy of `image`."""

    name: DiskName
    size: int
    format: str = "raw"
    image: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateMachine:
    """`create-machine`: a machine of the user's own, made on request, not part of any item."""

    name: str
    memory: int
    vcpus: int
    disks: tuple[NewDisk, ...]
    pool: str
    network: str | None = None
    start: bool = True
    logs: str | None = None  # folder for the serial console's log and the guest's acknowledgements


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineName:
    """`start-machine`, `stop-machine`, `show-machine`: one machine by name."""

    name: str
    timeout: float = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineShape:
    """A machine as shown to people."""

    definition: MachineDefinition
    state: PowerState


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteMachine:
    """`delete-machine`: power it off and undefine it; its disks stay unless `disks` is set."""

    name: str
    disks: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class DeletedMachine:
    """
    The files of a machine that was deleted: which went, and which stay, with the reason if asked.

    `kept` is None where the agent does not tell, which then keeps all.
    """

    removed: tuple[str, ...] = ()
    kept: dict[str, str] | None = None
