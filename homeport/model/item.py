"""The replicated item: a machine under protection, which side runs it, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from homeport.model.ids import Digest, DiskName, HostName, ItemId, SiteName


class Side(StrEnum):
    """The two fixed identities of an item's sites."""

    PRIMARY = "primary"
    RECOVERY = "recovery"

    @property
    def other(self) -> Side:
        """The opposite side."""
        return Side.RECOVERY if self is Side.PRIMARY else Side.PRIMARY


class Role(StrEnum):
    """What a host's copy of an item is at this moment."""

    SOURCE = "source"  # runs the machine and ships its writes
    TARGET = "target"  # lands points
    RUNNING = "running"  # runs the machine after a failover; not replicating
    FENCED = "fenced"  # was source; may not run, kept untouched


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """Where one side of an item lives."""

    site: SiteName
    host: HostName
    machine: str  # the machine's name there
    pool: str  # where replica disks are made, when this side has none yet


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskState:
    """One disk's identity at a position: the digest that proves its history."""

    disk: DiskName
    state: Digest


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicatedItem:
    """A machine under protection; `active` is the side that owns it."""

    id: ItemId
    name: str
    primary: Seat
    recovery: Seat
    active: Side
    epoch: int
    policy: str

    def seat(self, side: Side) -> Seat:
        """The seat of a side."""
        return self.primary if side is Side.PRIMARY else self.recovery

    @property
    def running(self) -> Seat:
        """The seat that owns the machine now."""
        return self.seat(self.active)

    @property
    def standby(self) -> Seat:
        """The other one."""
        return self.seat(self.active.other)
