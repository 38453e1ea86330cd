"""
An item's ledger: what one host holds of it, as pure values.

The ledger is the truth about chains: the topmost file is `active` here, whatever the hypervisor
says. It lies beside the item's layers, so that the files alone suffice to boot a point. Paths are
relative to the item's folder. Only the item's own worker changes it, one saved value after another.

    base ◄ layers[0] ◄ layers[1] ◄ ... ◄ active          the machine, or the next landing, is on top
                   └◄ beyond[0] ◄ beyond[1]              points newer than the one booted
                   └◄ set_aside                          writes the other side never had
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from homeport.model.ids import Digest, DiskName, ItemId, VaultId
from homeport.model.item import Role
from homeport.model.machine import DiskDefinition, MachineDefinition
from homeport.model.manifest import Consistency
from homeport.model.messages import LedgerEntry, StoreAddress
from homeport.model.policy import ReplicationPolicy
from homeport.model.position import Position

LEDGER_FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """What a file looked like when we last had it: another value means somebody wrote to it."""

    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One immutable file of a chain: reading through it gives the disk at `position`."""

    path: str
    position: Position
    state: Digest | None = None  # known once shipped or landed
    changed: int = 0  # bytes of data it holds
    stamp: Stamp | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Unsent:
    """Writes set aside: an image on the point they were made after."""

    path: str  # the top image; opens by itself while its layers below stay
    position: Position | None
    size: int
    set_aside_at: datetime
    below: tuple[str, ...] = ()  # further layers of the same writes, oldest first
    base: str = ""  # of a whole disk that a full copy replaces; `path` too, where it has no layers

    @property
    def names(self) -> tuple[str, ...]:
        """All its files, from the lowest up."""
        base = (self.base,) if self.base not in ("", self.path) else ()
        return (*base, *self.below, self.path)


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskChain:
    """
    One disk's files on this host. `base_at` None: the base proves no point (or is not whole).

    With `proven` false the whole chain proves none: what lies there is compared, and the next point
    that lands begins a history.
    """

    disk: DiskDefinition
    base: str
    base_at: Position | None = None
    base_state: Digest | None = None
    base_stamp: Stamp | None = None
    whole: bool = True  # False while a seed is landing into the base
    proven: bool = True
    layers: tuple[Layer, ...] = ()
    beyond: tuple[Layer, ...] = ()
    active: str | None = None
    set_aside: tuple[Unsent, ...] = ()

    @property
    def name(self) -> DiskName:
        """The disk's name, which never changes."""
        return self.disk.name

    @property
    def stands_at(self) -> Position | None:
        """The newest point the chain below `active` holds."""
        if not self.proven:
            return None
        return self.layers[-1].position if self.layers else self.base_at

    @property
    def state(self) -> Digest | None:
        """The state digest at `stands_at`."""
        if not self.proven:
            return None
        return self.layers[-1].state if self.layers else self.base_state

    @property
    def top(self) -> str:
        """The newest immutable file."""
        return self.layers[-1].path if self.layers else self.base

    @property
    def names(self) -> tuple[str, ...]:
        """The files of the chain in their order from the base up, `active` last, `beyond` aside."""
        active = (self.active,) if self.active else ()
        return (self.base, *(layer.path for layer in self.layers), *active)

    @property
    def all_names(self) -> tuple[str, ...]:
        """Every file of the disk, what lies beyond and what is set aside too."""
        aside = [name for unsent in self.set_aside for name in unsent.names]
        return (*self.names, *(layer.path for layer in self.beyond), *aside)

    def file_at(self, position: Position) -> str:
        """The file through which the disk at `position` is read; KeyError when not held."""
        for layer in (*self.layers, *self.beyond):
            if layer.position == position:
                return layer.path
        if self.base_at == position:
            return self.base
        raise KeyError(str(position))

    def chain_at(self, position: Position) -> tuple[str, ...]:
        """Files from the one of `position` down to the base; KeyError when not held."""
        if self.base_at == position:
            return (self.base,)
        below: list[str] = [self.base]
        for layer in (*self.layers, *self.beyond):
            below.append(layer.path)
            if layer.position == position:
                return tuple(reversed(below))
        raise KeyError(str(position))


@dataclass(frozen=True, kw_only=True, slots=True)
class Captured:
    """A point taken here and not yet known to be landed there."""

    position: Position
    previous: Position | None
    taken_at: datetime
    consistency: Consistency
    reason: str = ""
    shipped: bool = False
    final: bool = False
    ways: dict[str, str] = field(default_factory=dict)  # per disk: "layer", or a resync's way


@dataclass(frozen=True, kw_only=True, slots=True)
class PointRecord:
    """A point that can be booted here. Its manifest lies in `points/<position.key>`."""

    position: Position
    taken_at: datetime
    landed_at: datetime
    consistency: Consistency
    changed: int
    label: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PastPoint:
    """What is remembered of a position after its layer was merged: identity and size of change."""

    position: Position
    states: dict[str, Digest]
    changed: dict[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class RotateIntent:
    """A rotation under way: by disk, the overlay that goes on top."""

    position: Position
    overlays: dict[str, str]
    previous: Position | None
    ways: dict[str, str]
    final: bool = False
    quiesce: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CommitIntent:
    """
    Two neighbours becoming one. Down: until closed, the lower file `into` equals no point.

    With `up` the layer takes in the one below it instead, which can be removed then.
    """

    disk: DiskName
    layer: str
    into: str
    up: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningTest:
    """A point booted as a test machine: its overlays, by disk."""

    machine: str
    position: Position
    overlays: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadReplica:
    """A temporary replica: an empty overlay through which a point of a disk is read."""

    disk: DiskName
    path: str
    position: Position


@dataclass(frozen=True, kw_only=True, slots=True)
class Noticed:
    """Something changed from outside that was put right: what, why, and what to do, in words."""

    problem: dict[str, str]
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemLedger:
    """Everything one host holds of one item."""

    vault: VaultId
    item: ItemId
    name: str
    machine: str
    role: Role
    epoch: int
    definition: MachineDefinition
    disks: tuple[DiskChain, ...]
    original: bool  # the machine and its disks were the user's before Homeport came
    policy: ReplicationPolicy
    cache: StoreAddress | None = None
    networks: dict[str, str | None] = field(default_factory=dict)
    captured: tuple[Captured, ...] = ()
    acknowledged: Position | None = None
    points: tuple[PointRecord, ...] = ()
    past: tuple[PastPoint, ...] = ()
    booted: Position | None = None
    committed: bool = False
    ended: bool = False  # a final point was taken: nothing more is captured until unfenced
    resyncing: bool = False  # from reverse or prepare-replica to the first point of the direction
    rotating: RotateIntent | None = None
    committing: CommitIntent | None = None
    test: RunningTest | None = None
    reading: tuple[ReadReplica, ...] = ()  # what lies below them is not altered meanwhile
    lock: str = ""
    confirmed: bool = False  # the server has said once that this side owns the machine
    fencing: bool = False  # its machine is to be off and marked, and may not be yet
    guarded: bool = False  # a machine is meant to be defined here; False before it is deleted
    immutable: tuple[str, ...] = ()  # files that may carry the flag: see agent/immutable.py
    noticed: Noticed | None = None  # the last of its kind
    variables: str = ""  # where the user's own machine has its UEFI variables
    autostart: bool = False  # what the user had it at before; given back at release
    made: tuple[LedgerEntry, ...] = ()
    bytes_moved: int = 0
    format: int = LEDGER_FORMAT

    def chain(self, disk: str) -> DiskChain:
        """The chain of that disk; KeyError if there is none."""
        for chain in self.disks:
            if chain.name == disk:
                return chain
        raise KeyError(disk)

    def with_chain(self, chain: DiskChain) -> ItemLedger:
        """The ledger with one disk's chain replaced."""
        return replace(
            self,
            disks=tuple(chain if chain.name == old.name else old for old in self.disks),
        )

    @property
    def stands_at(self) -> Position | None:
        """The newest point all disks hold below their active layers; disks to be seeded aside."""
        return next((chain.stands_at for chain in self.disks if chain.whole), None)

    @property
    def states(self) -> dict[DiskName, Digest]:
        """State digests at `stands_at`, of the disks that have one."""
        return {chain.name: chain.state for chain in self.disks if chain.state is not None}

    @property
    def newest_captured(self) -> Position | None:
        """The newest point taken here, landed or not."""
        return self.captured[-1].position if self.captured else self.acknowledged
