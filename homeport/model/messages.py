"""
What agent and server say to each other: one module, so that both read the same words.

Both sides ignore fields they do not know and give a default to those that are missing, so an agent
one version older or newer than the server works. `protocol` counts changes of meaning.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from homeport.errors import RefusedError
from homeport.model.host import HostInventory
from homeport.model.ids import HostName, ItemId, OperationId, SiteName, VaultId
from homeport.model.item import Role
from homeport.model.manifest import Consistency
from homeport.model.policy import ReplicationPolicy
from homeport.model.position import Position

PROTOCOL = 2
OLDEST_PROTOCOL = 1
NEWEST_PROTOCOL = 3
"""One version to either side is understood; what a newer one adds is ignored."""


class ProtocolError(RefusedError):
    """Agent and server are more than one version apart."""

    code = "ProtocolMismatch"

    def __init__(self, found: int) -> None:
        super().__init__(
            f"The other side speaks protocol {found}; this one understands "
            f"{OLDEST_PROTOCOL} to {NEWEST_PROTOCOL}.",
            cause="Agent and server are more than one version apart.",
            remedy="Upgrade the older one. Replication goes on meanwhile, and nothing is resynced.",
        )
        self.found = found


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreAddress:
    """A cache store: its URL and what is needed to open it."""

    name: str
    url: str
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """
    What should be so on one host for one item, until told otherwise.

    `cache` is the store in the source's site. A host whose ledger has a higher epoch keeps to it.
    """

    item: ItemId
    name: str
    vault: VaultId
    role: Role
    epoch: int
    policy: ReplicationPolicy
    cache: StoreAddress
    replicate: bool = True


class OperationState(StrEnum):
    """Where an operation stands, as both sides see it."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a piece of work is; `total` 0 means not known. Units: bytes unless `unit` says."""

    done: int = 0
    total: int = 0
    unit: str = "bytes"
    rate: float = 0.0  # units a second
    note: str = ""

    @property
    def percent(self) -> float | None:
        """0 to 100, or None while the total is not known."""
        return min(100.0, 100.0 * self.done / self.total) if self.total else None

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None while that is not known."""
        return (self.total - self.done) / self.rate if self.rate > 0 and self.total else None


@dataclass(frozen=True, kw_only=True, slots=True)
class OperationOrder:
    """Something to do once. Doing it twice has the effect of once; `id` is the proof."""

    id: OperationId
    kind: str
    item: ItemId | None
    args: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class OperationReport:
    """How an operation stands. A result or error is repeated until the server has taken it."""

    id: OperationId
    state: OperationState
    progress: Progress | None = None
    result: dict[str, Any] | None = None
    error: dict[str, str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PointReport:
    """A recovery point that can be booted on the reporting host. `depth` counts layers below it."""

    position: Position
    taken_at: datetime
    landed_at: datetime
    consistency: Consistency
    changed: int  # bytes
    depth: int
    label: str = ""  # "before failover", "held"


@dataclass(frozen=True, kw_only=True, slots=True)
class UnsentReport:
    """Writes set aside: what one side had and the other has not."""

    disk: str
    path: str
    position: Position
    size: int  # bytes of data
    set_aside_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """One thing Homeport made, and why. `kind`: file, folder, machine, object, note, hook."""

    kind: str
    name: str
    reason: str
    made_at: datetime
    gone_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemReport:
    """One host's view of one item."""

    item: ItemId
    role: Role
    epoch: int
    phase: str  # "seeding", "replicating", "resyncing", "running", "fenced", "waiting"
    captured: Position | None = None  # newest point this side took
    landed: Position | None = None  # newest point the target has
    points: tuple[PointReport, ...] = ()
    unsent: tuple[UnsentReport, ...] = ()
    progress: Progress | None = None
    problem: dict[str, str] | None = None
    backlog: int = 0  # bytes captured and not yet landed
    bytes_moved: int = 0  # stored bytes shipped or landed since the direction began
    ledger: tuple[LedgerEntry, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncRequest:
    """The agent's long poll: what it knows already, so that only news is answered."""

    site: SiteName
    host: HostName
    agent_version: str
    protocol: int = 1
    revision: int = -1  # of the assignments it has
    operations: tuple[OperationId, ...] = ()  # those it has in its journal and not yet reported
    wait: float = 20.0  # seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncAnswer:
    """News for an agent. `assignments` is None when the revision it has is current."""

    vault: VaultId
    revision: int
    protocol: int = 1
    assignments: tuple[Assignment, ...] | None = None
    operations: tuple[OperationOrder, ...] = ()
    cancelled: tuple[OperationId, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentReport:
    """What an agent tells: any of it may be absent when there is nothing new."""

    site: SiteName
    host: HostName
    agent_version: str
    protocol: int = 1
    inventory: HostInventory | None = None
    items: tuple[ItemReport, ...] | None = None
    operations: tuple[OperationReport, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportAnswer:
    """Operations to stop at a safe place, and those whose end the server has recorded."""

    cancelled: tuple[OperationId, ...] = ()
    recorded: tuple[OperationId, ...] = ()


def check_protocol(found: int) -> None:
    """Raise ProtocolError unless the other side's protocol is at most one version away."""
    if not OLDEST_PROTOCOL <= found <= NEWEST_PROTOCOL:
        raise ProtocolError(found)
