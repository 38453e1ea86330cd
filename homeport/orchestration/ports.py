"""
What a job program is written against: the run it belongs to, and the vault it may change.

A program is replayed from its start after a crash: everything it learns must come out of `step`,
`operation` or `wait`, whose results are recorded, and it must be a pure function of those results.
A step is one of three things: a transaction on the vault, a wait that reads the vault, a
conditional put to a witness. Results are plain JSON, failures too, so that a replay sees what the
first run saw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from homeport.model.ids import HostName, ItemId, JobId, SiteName, VaultId
from homeport.model.item import ReplicatedItem
from homeport.model.messages import ItemReport, OperationState, Progress, StoreAddress
from homeport.model.operations import Problem
from homeport.model.policy import ReplicationPolicy
from homeport.model.protection import Event, State
from homeport.model.resources import Resource, ResourceKind, Surroundings

Json = Any
"""Plain JSON: dict, list, str, int, float, bool or None."""


class JobKind(StrEnum):
    """What a job does; the text is its friendly name."""

    ENABLE = "Enable replication"
    FAILOVER = "Failover"
    PLANNED_FAILOVER = "Planned failover"
    UNDO = "Undo failover"
    COMMIT = "Commit"
    REPROTECT = "Reprotect"
    TEST_FAILOVER = "Test failover"
    TEST_CLEANUP = "Test failover cleanup"
    DISABLE = "Disable replication"
    EXPORT_UNSENT = "Export unsent writes"


class JobState(StrEnum):
    """Where a job or one of its tasks stands."""

    WAITING = "Not started"
    RUNNING = "In progress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    SKIPPED = "Skipped"


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A line of a job. `waits_for` says what it waits for while it does."""

    index: int
    name: str
    state: JobState = JobState.WAITING
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: Progress | None = None
    waits_for: str = ""
    error: Problem | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What users see of durable work. `request` is what was asked, `result` what came of it."""

    id: JobId
    kind: JobKind
    item: ItemId | None
    item_name: str
    request: dict[str, Json]
    state: JobState
    attempt: int
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    cancel_asked: bool = False
    result: dict[str, Json] | None = None
    error: Problem | None = None
    tasks: tuple[Task, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemRow:
    """An item with everything the vault knows of it beside the agents' reports."""

    item: ReplicatedItem
    state: State
    protected_at: datetime | None = None
    facts: dict[str, Json] = field(default_factory=dict)  # receipt, networks, rates, enable_took...


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How an operation ended: DONE with a result, FAILED with an error, or LOST with its host."""

    state: OperationState
    result: dict[str, Json] | None = None
    error: Problem | None = None

    @property
    def done(self) -> bool:
        """True when there is a result."""
        return self.state is OperationState.DONE


class ResourceRows(Protocol):
    """Resource groups, availability sets and capacity reservations of sites, and their members."""

    def around(self, site: SiteName) -> Surroundings:
        """The site as placing a machine sees it: hosts, what stands where, resources."""

    def claim(self, site: SiteName) -> None:
        """Let no other transaction place machines in the site until this one has ended."""

    def put(self, site: SiteName, resource: Resource) -> None:
        """Make a resource, or replace what it carries; its members stay."""

    def remove(self, site: SiteName, kind: ResourceKind, name: str) -> None:
        """Forget a resource with its memberships; NotFoundError when there is none."""

    def join(self, site: SiteName, machine: str, kind: ResourceKind, name: str) -> None:
        """A machine belongs to that resource, and to no other of its kind."""

    def leave(self, site: SiteName, machine: str, *kinds: ResourceKind) -> None:
        """A machine belongs to none of the kinds."""


class Vault(Protocol):
    """
    The vault's rows inside one transaction. Reads see the transaction's own writes.

    Every `move` is one guarded statement: False means that somebody else moved first.
    """

    @property
    def resources(self) -> ResourceRows:
        """Groups, sets and reservations of the sites."""

    def vault_id(self) -> VaultId:
        """This vault's identity, fixed when it was made."""

    def now(self) -> datetime:
        """The moment of this transaction."""

    def item(self, item: ItemId) -> ItemRow:
        """NotFoundError when there is none."""

    def move(self, item: ItemId, event: Event, *, seen: State) -> bool:
        """Move the item's state machine on, if it still is in `seen`."""

    def put_item(self, item: ReplicatedItem) -> None:
        """Write active side, epoch, seats and policy of an existing item; bumps the revision."""

    def put_facts(self, item: ItemId, facts: Mapping[str, Json]) -> None:
        """Merge into the item's facts; None removes a key."""

    def remove_item(self, item: ItemId) -> None:
        """Forget the item; its jobs stay."""

    def raise_epoch(self, item: ItemId, *, job: JobId, attempt: int) -> int:
        """The next epoch for this job's attempt: asked twice, the same answer."""

    def policy(self, name: str) -> ReplicationPolicy:
        """NotFoundError when there is none."""

    def cache_of(self, site: SiteName) -> StoreAddress:
        """The cache store in a site; NotFoundError when it has none."""

    def set_cache(self, site: SiteName, cache: StoreAddress) -> None:
        """Replace the cache store in a site."""

    def cache_users(self, site: SiteName) -> tuple[str, ...]:
        """Names of the items whose machines run in the site: their points wait in its store."""

    def network_map(self, source: SiteName, target: SiteName) -> dict[str, str]:
        """Mapped networks from one site to another."""

    def map_network(self, source: SiteName, network: str, target: SiteName, to: str) -> None:
        """Set one mapping, replacing an earlier one of the same network."""

    def report_of(self, item: ItemId, host: HostName) -> ItemReport | None:
        """The newest report of one host on an item."""

    def host_alive(self, host: HostName) -> bool:
        """Whether its agent was heard within the lease; see the server's settings."""

    def assign(self, item: ItemId, host: HostName, role: str | None, *, replicate: bool) -> None:
        """What should be so on a host for an item; role None takes the assignment away."""

    def leave_order(
        self, item: ItemId, host: HostName, kind: str, args: object, *, job: JobId
    ) -> None:
        """
        An operation for a host that does not answer now: handed out whenever it is back.

        Nobody waits for it and it is never lost. The same item, host and kind again: one order.
        """

    def put_progress(
        self, job: JobId, task: int, progress: Progress | None, *, waits_for: str = ""
    ) -> None:
        """How far an open task is, and what it waits for; asked for by `wait`'s looks."""


Act = Callable[[Vault], Json]


class JobRun(Protocol):
    """
    One run of a job's program. Tasks are begun in order; the run ends the open one by itself.

    A program ends by returning its result (a dict of plain JSON) or by raising `JobStoppedError`.
    """

    @property
    def job(self) -> Job:
        """The job as it was accepted."""

    def task(self, index: int, *, waits_for: str = "") -> None:
        """Begin task `index`, ending the one before as succeeded."""

    def skip(self, index: int, reason: str) -> None:
        """Mark a task as skipped, with the reason."""

    def step(self, name: str, act: Act) -> Json:
        """
        Run `act` in one transaction, once; its result is recorded.

        An error it raises is taken back with all that it wrote, recorded, and raised from here as
        `JobStoppedError`: also in a replay.
        """

    def operation(
        self,
        name: str,
        host: HostName,
        kind: str,
        args: object,
        *,
        patience: float | None = None,
        shielded: bool = False,
    ) -> Outcome:
        """
        Have an agent do something once, and wait for its end.

        `args` is the kind's dataclass. The operation's id is job, attempt and `name`. `patience`
        bounds in seconds the wait for a host that does not answer at all (LOST); a host that
        reports progress is waited for. A lost operation is withdrawn: an agent that has not begun
        it is not given it any more. A cancelled job asks the agent to stop, and starts no
        further operation (FAILED with code `Cancelled`), unless `shielded`: undoing what was made,
        and what comes after a fence, goes on to its end.
        """

    def wait(
        self,
        name: str,
        look: Callable[[Vault], Json | None],
        *,
        patience: float,
        shielded: bool = False,
    ) -> Json:
        """
        Look until the answer is not None; None after `patience` seconds, or when cancelled and
        not `shielded`. A look may call `put_progress`: it runs in a transaction that is committed.
        """

    def cancelled(self) -> bool:
        """Whether somebody has asked the job to stop (recorded: a replay sees the same)."""


Program = Callable[[JobRun], dict[str, Json]]


class JobStoppedError(Exception):
    """Ends a program as failed or cancelled, with the error people are shown."""

    def __init__(self, error: Problem) -> None:
        super().__init__(error.get("message", ""))
        self.error = error
