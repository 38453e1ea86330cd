"""
What people and programs are shown: the shapes of the API's answers, one value each.

The portal, the command line and scripts read the same reports. They are made from the vault's rows
by `homeport.interfaces.reports`; each field says when it is set.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from homeport.model.estimate import AsrEstimate, Estimate
from homeport.model.host import HostInventory
from homeport.model.machine import MachineDefinition, PowerState
from homeport.model.messages import Progress, UnsentReport
from homeport.model.operations import Problem
from homeport.model.position import Position
from homeport.model.rehearsal import Rehearsal


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthReport:
    """A server: `state` is "ok", or says what is wrong."""

    version: str
    vault: str
    state: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheReport:
    """A cache store. Only the names of its options are shown: their values may be secrets."""

    name: str
    url: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class HostReport:
    """A host as its agent was last heard. Not `alive`: what is said of it may be old."""

    name: str
    alive: bool
    last_seen: datetime | None = None
    agent_version: str = ""
    inventory: HostInventory | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MappingReport:
    """A network of one site and what stands for it in the other."""

    source_site: str
    network: str
    target_site: str
    to: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldReport:
    """What a capacity reservation holds back on a host, and what no member draws. Bytes."""

    host: str
    memory: int
    vcpus: int
    memory_left: int
    vcpus_left: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceReport:
    """
    A resource group, availability set or capacity reservation: `kind` says which.

    `stand` says where its members run or stand by. `lock` is set on a locked group only.
    """

    site: str
    kind: str
    name: str
    members: tuple[str, ...] = ()
    stand: tuple[str, ...] = ()
    lock: str | None = None
    lock_name: str | None = None
    holds: tuple[HoldReport, ...] = ()
    made_by_homeport: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageAccountReport:
    """A libvirt pool of one host, as its agent last told. Bytes."""

    name: str
    host: str
    path: str
    capacity: int
    available: int
    writable: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteReport:
    """A site. Without a cache store nothing can be replicated from it."""

    name: str
    cache: CacheReport | None = None
    hosts: tuple[HostReport, ...] = ()
    network_mappings: tuple[MappingReport, ...] = ()
    resource_groups: tuple[ResourceReport, ...] = ()
    availability_sets: tuple[ResourceReport, ...] = ()
    capacity_reservations: tuple[ResourceReport, ...] = ()
    storage_accounts: tuple[StorageAccountReport, ...] = ()
    networks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class NewSiteReport:
    """A site just made, with the token its agents sign in with: shown this once."""

    site: SiteReport
    token: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenReport:
    """A fresh token for a site's agents; shown this once, and earlier ones have ended."""

    token: str


@dataclass(frozen=True, kw_only=True, slots=True)
class VmReport:
    """
    A machine on a host. `item` names the item it belongs to, on either side.

    `definition` is set where one machine is asked for by name and its host answers.
    """

    site: str
    host: str
    name: str
    state: PowerState
    memory: int
    vcpus: int
    disks: tuple[str, ...] = ()
    item: str | None = None
    definition: MachineDefinition | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeletedVm:
    """
    A machine that was deleted: its files that went, and those that stay, with why if asked to go.

    `kept` is None where the host's agent is too old to tell: then all stay.
    """

    site: str
    name: str
    removed: tuple[str, ...] = ()
    kept: dict[str, str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskReport:
    """A line of a job. `waits_for` says what it waits for, while it does."""

    index: int
    name: str
    state: str
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: Progress | None = None
    waits_for: str = ""
    error: Problem | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobReport:
    """Durable work. `result` is set when it has succeeded, `error` when not."""

    id: str
    kind: str
    item: str | None
    item_name: str
    state: str
    attempt: int
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    cancel_asked: bool = False
    request: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: Problem | None = None
    tasks: tuple[TaskReport, ...] = ()
    notes: tuple[str, ...] = ()  # what to know of it: a failback not rehearsed, the time expected
    cancellable: bool = False
    safety: str = ""  # until when it can be cancelled, why not any more, or how to begin it again

    @property
    def ended(self) -> bool:
        """Nothing more will happen to it."""
        return self.ended_at is not None

    @property
    def succeeded(self) -> bool:
        """It ended, and did what was asked."""
        return self.state == "Succeeded"


@dataclass(frozen=True, kw_only=True, slots=True)
class SeatReport:
    """One side of an item; `role` and `phase` are its agent's own words, empty if never heard."""

    site: str
    host: str
    machine: str
    pool: str
    alive: bool
    role: str = ""
    phase: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PointView:
    """
    A recovery point. `latest` and `latest_app` mark what a failover of that choice would take.

    `depth` counts the layers below it: deep ones boot slower at first. `changed` in bytes.
    """

    position: Position
    taken_at: datetime
    landed_at: datetime
    consistency: str
    changed: int
    depth: int
    label: str = ""
    latest: bool = False
    latest_app: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Downtime:
    """
    How long a failover interrupted the machine, in seconds.

    From `began_at`, when the old machine began to be shut down or was fenced: until the new one
    ran, and until its guest answered (None when it did not, or nobody asked it). `measured` says
    by which clocks.
    """

    began_at: datetime
    started: float
    answered: float | None
    measured: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LossReceipt:
    """
    What a failover is known to have lost.

    `missing_seconds` is the time from the point to the failover: nothing written before the point
    is missing. `missing_bytes` is None while it is not known: the old side has not been heard
    since. `left_out` are bytes in landed points newer than the one chosen; change the point to get
    them, until the commit. Completed by the reprotect, from what the old side then shows.
    """

    point: Position
    point_at: datetime | None
    failed_over_at: datetime
    planned: bool
    captured: Position | None  # newest point known to have been taken on the old side
    missing_bytes: int | None
    missing_seconds: float | None
    left_out: int
    known: str  # in words, what may be concluded
    assumption: str  # how the old side is known not to run
    completed_at: datetime | None = None
    unsent: tuple[UnsentReport, ...] = ()
    downtime: Downtime | None = None  # None where the old machine was lost before the failover


@dataclass(frozen=True, kw_only=True, slots=True)
class ResyncRecord:
    """
    A resync that has ended: what it was to be, and what it came to. Bytes and seconds.

    `moved` is None where the running side did not tell; `estimated` was made before it began. Of
    `actual`, `preparing` went by before the resync itself. `changed` are the bytes of data that
    its point came to, None where that was not told; `moved` is what they were stored as.
    """

    direction: str
    way: str
    planned: int
    moved: int | None
    estimated: float
    low: float
    high: float
    actual: float
    ended_at: datetime
    preparing: float = 0.0
    changed: int | None = None

    @property
    def error(self) -> float:
        """How far the estimate was off, as a part of what it took: -0.2 is a fifth too low."""
        return (self.estimated - self.actual) / self.actual if self.actual > 0 else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingDecision:
    """What the policy's commit timer will do, "commit" or "undo", if nobody decides before."""

    what: str
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemView:
    """
    An item for people. `unprotected` means: losing the running side loses more than allowed.

    `current_rpo` is in seconds: what a loss at this moment would cost; None with no point. Then
    `problem` says what is wrong, and `unprotected_reason` why.
    """

    id: str
    name: str
    state: str
    unprotected: bool
    unprotected_reason: str
    direction: str
    active: str
    running: SeatReport
    standby: SeatReport
    epoch: int
    policy: str
    rpo_target: float
    current_rpo: float | None
    rpo_met: bool
    newest_point: PointView | None
    points: int
    progress: Progress | None
    backlog: int
    bytes_moved: int
    disks: tuple[str, ...]
    unsent: tuple[UnsentReport, ...]
    problem: Problem | None
    protected_at: datetime | None
    job: str | None  # the job at work
    allowed: tuple[str, ...]  # operations the state allows
    receipt: LossReceipt | None
    last_resync: dict[str, Any] | None
    test: dict[str, Any] | None
    facts: dict[str, Any] = field(default_factory=dict)
    resyncs: tuple[ResyncRecord, ...] = ()  # oldest first; the last ten
    rehearsal: Rehearsal | None = None  # whether a failover in this direction was tested
    decision: PendingDecision | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerLine:
    """One thing Homeport made, why, and where. `gone_at` is set once it is gone."""

    item: str
    site: str
    host: str
    kind: str
    name: str
    reason: str
    made_at: datetime
    gone_at: datetime | None = None
    pending_removal: bool = False  # its host does not answer; removed when it is back


@dataclass(frozen=True, kw_only=True, slots=True)
class EstimateReport:
    """How long a reprotect takes: ours from measured rates, and ASR's formula for comparison."""

    way: str
    reason: str
    reads: int
    sends: int
    ours: Estimate
    asr: AsrEstimate
    basis: str  # what the estimate rests on
    resyncs: tuple[ResyncRecord, ...] = ()  # what earlier ones took, oldest first
