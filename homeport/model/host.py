"""What a host says it has: pools, networks, machines, memory. libvirt is the truth there."""

from __future__ import annotations

from dataclasses import dataclass, field
from shlex import quote

from homeport.errors import NotFoundError, RefusedError
from homeport.model.machine import MachineDefinition, PowerState
from homeport.model.manifest import Consistency

NOTE_NAMESPACE = "https://homeport.dev/ns/1"
"""The XML namespace of our note in a domain's metadata."""


def foreign_lock_remedy(machine: str) -> str:
    """What to do about a lock that is not ours: how to look at it, and how it is taken away."""
    look = f"virsh metadata {quote(machine)} --uri {NOTE_NAMESPACE} --config"
    return (
        f"Find out whose it is ({look}) and have it lifted; it is never lifted by Homeport. One "
        f"that is left over goes with: {look} --remove"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """A libvirt storage pool, which is also a storage account. Sizes in bytes."""

    name: str
    path: str
    capacity: int
    available: int
    writable: bool
    kind: str = "dir"


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A libvirt network a card can be attached to."""

    name: str
    active: bool
    bridge: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineFacts:
    """A machine as listed: its definition is asked for by name."""

    name: str
    uuid: str
    state: PowerState
    memory: int
    vcpus: int
    autostart: bool
    persistent: bool = True  # False: it runs, and is gone when it is off
    disks: tuple[str, ...] = ()  # names, in order


@dataclass(frozen=True, kw_only=True, slots=True)
class HostInventory:
    """All a host has at one moment, as its agent reports it."""

    memory: int  # bytes
    memory_free: int
    cpus: int
    kvm: bool
    hypervisor: str  # "QEMU 7.2.22, libvirt 9.0.0"
    pools: tuple[Pool, ...] = ()
    networks: tuple[Network, ...] = ()
    machines: tuple[MachineFacts, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskPlace:
    """Where one disk lies for the hypervisor: the file it must open, and its format."""

    path: str
    format: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """
    How a machine's definition is fitted to a host.

    `disks` has every disk, by target; `networks` maps each network the definition's cards name to
    one of this host, None meaning not attached (the card stays, its link down). A card on a bridge
    names it `bridge:br0`, on both sides of the map. `name` and `uuid` are those it gets here.
    """

    name: str
    uuid: str
    disks: dict[str, DiskPlace]
    networks: dict[str, str | None] = field(default_factory=dict)
    nvram_path: str | None = None
    note: Note | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """
    What Homeport keeps in a domain's own metadata, where hooks read it.

    A machine with `may_start` false is refused by the hook, with `reason`; one with `confirm` is,
    until the agent has put the item's mark after the host's boot. `lock` is the name of the
    read-only lock while there is one.
    """

    item: str
    epoch: int
    role: str  # "source", "target", "fenced", "test"
    may_start: bool
    reason: str = ""
    lock: str | None = None
    confirm: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineSources:
    """Each disk's file, by target: as QEMU has it now (empty when off), as the next start would."""

    live: dict[str, str]
    persistent: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotation:
    """What a rotation reached; `reason` says why not application-consistent although asked."""

    consistency: Consistency
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineProblem:
    """One thing about a machine that keeps it from being replicated, and what to do about it."""

    code: str
    message: str
    remedy: str


class UnknownMachineError(NotFoundError):
    """A machine that the hypervisor does not have."""

    code = "UnknownMachine"

    def __init__(self, machine: str) -> None:
        super().__init__(
            f"There is no machine {machine} on this host.",
            cause="It was undefined or renamed, or it runs on another host.",
            remedy="Look at the host's list of machines; define it again or correct the name.",
        )
        self.machine = machine


class UnsupportedMachineError(RefusedError):
    """A machine as it stands cannot be replicated; `problems` has every reason at once."""

    code = "UnsupportedMachine"

    def __init__(self, machine: str, problems: tuple[MachineProblem, ...]) -> None:
        super().__init__(
            f"Machine {machine} cannot be replicated as it stands: "
            + " ".join(problem.message for problem in problems),
            cause=", ".join(problem.code for problem in problems),
            remedy=" ".join(dict.fromkeys(problem.remedy for problem in problems)),
        )
        self.machine = machine
        self.problems = problems


__all__ = [
    "NOTE_NAMESPACE",
    "DiskPlace",
    "HostInventory",
    "MachineDefinition",
    "MachineFacts",
    "MachineProblem",
    "MachineSources",
    "Network",
    "Note",
    "Placement",
    "Pool",
    "Rotation",
    "UnknownMachineError",
    "UnsupportedMachineError",
    "foreign_lock_remedy",
]
