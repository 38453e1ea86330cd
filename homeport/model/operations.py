"""
What a server may ask of an agent once, with what, and what comes back: the contract of both.

Kinds are names on the wire; arguments and results are the dataclasses here. Every operation looks
before it acts: done twice, or resumed after a crash, it has the effect of once. An operation whose
`epoch` is below the one in the host's ledger is refused (`StaleEpoch`), so that a late order of a
server thought dead does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from homeport.model.ids import DiskName, ItemId, VaultId
from homeport.model.item import DiskState
from homeport.model.machine import MachineDefinition, PowerState
from homeport.model.machine_orders import (
    CreateMachine,
    DeletedMachine,
    DeleteMachine,
    MachineName,
    MachineShape,
)
from homeport.model.messages import LedgerEntry, StoreAddress, UnsentReport
from homeport.model.policy import ReplicationPolicy
from homeport.model.position import Position
from homeport.model.unsent import UNSENT_OPERATIONS

Problem = dict[str, str]
"""An error as `HomeportError.as_dict` gives it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckSource:
    """`check-source`: can this machine be protected? All problems at once; changes nothing."""

    machine: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFacts:
    """What `check-source` found."""

    problems: tuple[Problem, ...]
    definition: MachineDefinition | None = None
    state: PowerState = PowerState.ABSENT


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareTarget:
    """
    `prepare-target`: check that the machine could live here, and make the item's folder and ledger.

    With `only_check` nothing is made. `networks` maps the definition's networks to this host's.
    """

    item: ItemId
    name: str
    vault: VaultId
    epoch: int
    definition: MachineDefinition
    pool: str
    networks: dict[str, str | None] = field(default_factory=dict)
    only_check: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetFacts:
    """What `prepare-target` found and made."""

    problems: tuple[Problem, ...]
    folder: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """`arm`: begin tracking: ledger, autostart off, note, first rotation. The seed then follows."""

    item: ItemId
    name: str
    vault: VaultId
    epoch: int
    machine: str
    cache: StoreAddress
    policy: ReplicationPolicy
    unmanaged: bool = False  # its disks are so from here on, at both sides


@dataclass(frozen=True, kw_only=True, slots=True)
class At:
    """An answer that is a position; `note` says what could not be looked at on the way."""

    position: Position | None
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalCapture:
    """`final-capture`: shut the machine down, take and ship a last point marked final."""

    item: ItemId
    epoch: int
    timeout: float = 60.0  # seconds the guest is given to shut down


@dataclass(frozen=True, kw_only=True, slots=True)
class Fence:
    """`fence`: power the machine off and forbid its start; `epoch` is the new owner's."""

    item: ItemId
    epoch: int
    lock: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FenceFacts:
    """What the fenced side held: the loss receipt is completed from it."""

    was: PowerState
    captured: Position | None  # newest point taken here
    unsent: int  # bytes of data written here and never landed there


@dataclass(frozen=True, kw_only=True, slots=True)
class Unfence:
    """`unfence`: be source again under a new epoch (undo), and start the machine."""

    item: ItemId
    epoch: int
    start: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class LandAll:
    """`land-all`: land what the cache store holds, up to `until`; answers the newest point."""

    item: ItemId
    epoch: int
    until: Position | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Promote:
    """
    `promote`: boot a point as the machine, under a new epoch. Again with another point: change it.

    `guest_timeout` is how long the guest agent is waited for; 0 does not wait.
    """

    item: ItemId
    epoch: int
    position: Position
    machine: str
    networks: dict[str, str | None] = field(default_factory=dict)
    guest_timeout: float = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PromoteFacts:
    """When the machine ran, when its guest answered, and how deep its chain is."""

    started_at: datetime
    answered_at: datetime | None
    depth: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Demote:
    """`demote`: undo a promote: the new machine goes, its writes are set aside, land again."""

    item: ItemId
    epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Accept:
    """`accept`: commit the failover: no change of point and no undo after this."""

    item: ItemId
    epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AskFacts:
    """
    `facts`: what this side holds of the item, for review and planning; changes nothing.

    With `name` and `definition`, those of the replica that may be made here, the answer says what
    stands in the way of it.
    """

    item: ItemId
    networks: tuple[str, ...] = ()  # networks that must exist here
    memory: int = 0  # bytes the machine needs here
    pool: str = ""  # where disks would be made, if this side has none of the item
    new_pool: bool = False  # `pool` is not there and would be made
    name: str = ""
    definition: MachineDefinition | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskFacts:
    """One disk of one side. `allocated` and sizes are bytes."""

    disk: DiskName
    exists: bool
    readable: bool
    untouched: bool  # nobody but Homeport has written to what must not change
    size: int
    allocated: int
    path: str
    unsent: int = 0  # bytes above the newest landed point
    reason: str = ""  # why not readable, or what touched it


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldPoint:
    """A position this side can prove by its states; `gap` is the bytes since the one before."""

    position: Position
    states: tuple[DiskState, ...]
    changed: dict[str, int] = field(default_factory=dict)  # bytes by disk


@dataclass(frozen=True, kw_only=True, slots=True)
class SideFacts:
    """
    What one side holds.

    `held` are positions in order, contiguous in change maps from the second on; `stands_at` is the
    one the machine was booted from (running side) or the newest in its chain (old side).
    """

    item: ItemId
    machine_state: PowerState
    disks: tuple[DiskFacts, ...]
    held: tuple[HeldPoint, ...]
    stands_at: Position | None
    written: dict[str, int] = field(default_factory=dict)  # bytes by disk since `stands_at`
    definition: MachineDefinition | None = None
    pool: str = ""
    pool_writable: bool = True
    pool_available: int = 0
    missing_networks: tuple[str, ...] = ()
    memory_free: int = 0
    lock: str | None = None
    problems: tuple[Problem, ...] = ()
    digest_rate: float = 0.0  # bytes a second this host digests, measured; 0 not known
    tracked: bool = True  # False: this side has no ledger of the item
    disks_now: tuple[DiskName, ...] | None = None  # the machine's own, as libvirt has them now
    makes: tuple[str, ...] = ()  # what this agent makes where it is missing: "pool", "network"
    taken: dict[str, str] = field(default_factory=dict)  # paths in a replica's way, to their disks
    stranger: str = ""  # a machine here that has the item's name and is not the item's


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareReplica:
    """
    `prepare-replica`: turn the old side's disks into replicas of the running side.

    Switches the machine off, locks it, finishes open commits, sets aside what is above `common`,
    frees the original names (unmanaged disks are used in place; the machine gets a copy of its OS
    disk). `ways` gives each disk's resync. With `keep_machine` false the machine
    and what belongs to it is deleted (the recovery site's, after a failback).
    """

    item: ItemId
    name: str
    vault: VaultId
    epoch: int
    common: Position | None
    ways: dict[str, str]
    definition: MachineDefinition
    pool: str  # another than the old disks': they are left, and replicas begin anew
    lock: str
    keep_machine: bool = True
    new_pool: bool = False  # `pool` is not there: make it first
    new_networks: tuple[str, ...] = ()  # not there: make them first, isolated


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaFacts:
    """What was set aside, renamed, made and deleted, in words and as images."""

    unsent: tuple[UnsentReport, ...]
    actions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reverse:
    """`reverse`: the running side becomes source, with a resync as its first point."""

    item: ItemId
    epoch: int
    common: Position | None
    ways: dict[str, str]
    cache: StoreAddress
    policy: ReplicationPolicy


@dataclass(frozen=True, kw_only=True, slots=True)
class TestBoot:
    """`test-boot`: boot a point as `<vm>-test`; replication goes on. Network None: isolated."""

    item: ItemId
    position: Position
    machine: str
    network: str | None = None
    guest_timeout: float = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TestCleanup:
    """`test-cleanup`: everything of the test is gone afterwards."""

    item: ItemId
    machine: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """
    `release`: take away everything Homeport made here for the item.

    On the side that owns the machine it is flattened into its base under its original name and
    stays. `owner` says whether this side is that.
    """

    item: ItemId
    epoch: int
    owner: bool
    keep_unsent: bool = False
    keep_machine: bool = False  # not the owner: leave the machine and its disks to the user


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerFacts:
    """What the ledger says was made, and what of it is still there."""

    made: int
    left: tuple[LedgerEntry, ...]
    entries: tuple[LedgerEntry, ...] = ()  # all that was made, what went with its `gone_at`
    kept: tuple[str, ...] = ()  # what is the user's own and stays, in words


@dataclass(frozen=True, kw_only=True, slots=True)
class Nothing:
    """An operation that has nothing to say beyond that it is done."""


OPERATIONS: dict[str, tuple[type[Any], type[Any]]] = {
    "check-source": (CheckSource, SourceFacts),
    "prepare-target": (PrepareTarget, TargetFacts),
    "arm": (Arm, At),
    "final-capture": (FinalCapture, At),
    "fence": (Fence, FenceFacts),
    "unfence": (Unfence, Nothing),
    "land-all": (LandAll, At),
    "promote": (Promote, PromoteFacts),
    "demote": (Demote, ReplicaFacts),
    "accept": (Accept, Nothing),
    "facts": (AskFacts, SideFacts),
    "prepare-replica": (PrepareReplica, ReplicaFacts),
    "reverse": (Reverse, At),
    "test-boot": (TestBoot, PromoteFacts),
    "test-cleanup": (TestCleanup, Nothing),
    "release": (Release, LedgerFacts),
    "create-machine": (CreateMachine, Nothing),
    "start-machine": (MachineName, Nothing),
    "stop-machine": (MachineName, Nothing),
    "delete-machine": (DeleteMachine, DeletedMachine),
    "show-machine": (MachineName, MachineShape),
    **UNSENT_OPERATIONS,
}
"""Kind to the types of its arguments and of its result."""
