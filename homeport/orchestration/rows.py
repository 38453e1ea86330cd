"""
What the job engine and the agents' desk need of the vault, beside the books.

The catalog has the one implementation. All of it happens inside one transaction; an answer of
False means that somebody else was first, and nothing was changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from homeport.model.host import HostInventory
from homeport.model.ids import HostName, JobId, OperationId, SiteName
from homeport.model.messages import (
    Assignment,
    ItemReport,
    OperationOrder,
    OperationReport,
    OperationState,
)
from homeport.model.operations import Problem
from homeport.orchestration.books import Books
from homeport.orchestration.ports import Job, JobState, Json, Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Pulse:
    """How a waited-for operation looks from outside; `heard` rises when its host names it."""

    state: OperationState
    heard: int
    withdrawable: bool  # asked to stop, and never given to its host


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """An operation to be: what its host is told, and whose it is."""

    order: OperationOrder
    host: HostName
    job: JobId | None = None
    attempt: int | None = None
    task: int | None = None
    shielded: bool = False


class JobRows(Protocol):
    """Jobs and their tasks, as a run changes them. Everything may be done twice."""

    def begin(self, job: JobId) -> None:
        """The run has started."""

    def begin_task(self, job: JobId, index: int, *, waits_for: str) -> None:
        """End the open task as succeeded, and begin this one."""

    def skip_task(self, job: JobId, index: int, reason: str) -> None:
        """Mark a task as skipped."""

    def open_task(self, job: JobId) -> int | None:
        """The index of the task at work."""

    def finish(
        self, job: JobId, state: JobState, *, result: Json = None, error: Problem | None = None
    ) -> bool:
        """End the job, its open task and its claim on the item; False when it had ended."""

    def cancel_asked(self, job: JobId) -> bool:
        """Whether somebody has asked it to stop."""

    def count_takeover(self, job: JobId) -> int:
        """One more server has taken the job over; how often that has happened."""


class OperationRows(Protocol):
    """Operations of agents: the truth about what was asked, and what became of it."""

    def put(self, order: Order) -> None:
        """Make the row, unless it is there. A cancelled job's is made as ended, if not shielded."""

    def outcome(self, operation: OperationId) -> Outcome | None:
        """How it ended; None while it has not."""

    def pulses(self, operations: Collection[OperationId]) -> Mapping[OperationId, Pulse]:
        """Many at once; those that have no row are left out."""

    def lose(self, operation: OperationId, *, heard: int, reason: str) -> bool:
        """Its host is silent: its job goes on without it, unless it was heard meanwhile."""

    def withdraw(self, operation: OperationId) -> bool:
        """End a cancelled one that was never given to its host."""

    def abandon(self, operation: OperationId) -> None:
        """Ask a question's operation to stop: nobody waits for its answer any more."""

    def hear(self, host: HostName, named: Collection[OperationId]) -> None:
        """The host has named these as its own: their leases begin anew."""

    def orders(self, host: HostName, known: Collection[OperationId]) -> tuple[OperationOrder, ...]:
        """What the host is to do and does not know yet."""

    def deliver(self, operations: Collection[OperationId]) -> None:
        """These are put into an answer now."""

    def to_stop(self, host: HostName, named: Collection[OperationId]) -> tuple[OperationId, ...]:
        """Those of the named ones that are to stop: cancelled, or lost to their job."""

    def untold(self, host: HostName, named: Collection[OperationId]) -> bool:
        """Whether one is to stop that the host was not told of yet."""

    def tell(self, operations: Collection[OperationId]) -> None:
        """The host is told now to stop these."""

    def record(self, host: HostName, report: OperationReport) -> bool:
        """Write down progress or an end; True when an end is on record."""

    def waiting_hosts(self, hosts: Collection[HostName]) -> set[HostName]:
        """Those of the hosts that have something undelivered to do or to stop."""


class AgentRows(Protocol):
    """What agents say of themselves and their items."""

    def token_hashes(self) -> dict[SiteName, str]:
        """The SHA-256 of each site's token, in hexadecimal; sites without one are left out."""

    def hear(self, host: HostName, site: SiteName, *, agent_version: str, protocol: int) -> None:
        """The host's agent has spoken; RefusedError when the name is another site's."""

    def put_inventory(self, host: HostName, inventory: HostInventory) -> None:
        """What the host has."""

    def put_reports(self, host: HostName, reports: tuple[ItemReport, ...]) -> None:
        """The host's views of its items, replacing earlier ones; ledgers are added to."""

    def put_ledger(self, host: HostName, operation: OperationReport) -> None:
        """Enter what a release has taken away: the item's reports have ended with it."""

    def assignments(self, host: HostName) -> tuple[Assignment, ...]:
        """Everything that should be so on the host."""

    def revision(self, host: HostName) -> int:
        """Of the host's assignments: differs when anything in them does."""

    def revisions(self, hosts: Collection[HostName]) -> dict[HostName, int]:
        """Many at once."""


class Rows(Books, Protocol):
    """One transaction with everything in it."""

    @property
    def session(self) -> Session:
        """The transaction itself, for the workflow engine's own rows."""

    @property
    def job_rows(self) -> JobRows:
        """Jobs and tasks."""

    @property
    def operation_rows(self) -> OperationRows:
        """Operations of agents."""

    @property
    def agent_rows(self) -> AgentRows:
        """What agents say."""


class Servers(Protocol):
    """The servers on one vault, with the database's clock. Each call is a transaction."""

    def beat(self, server: str) -> bool:
        """Say that the server lives; False when it was declared dead, for good."""

    def bury(self, *, silent: timedelta) -> tuple[str, ...]:
        """Declare dead whoever has not beaten for so long; all the dead, new and old."""

    def turn(self) -> AbstractContextManager[bool]:
        """True inside for one server at a time: the one that takes over the dead ones' runs."""


Submit = Callable[[Session, Job], None]
"""Puts a job's workflow into the transaction that makes its row."""

Listener = Callable[[frozenset[HostName]], None]
"""Told after a commit which hosts have news."""


class Vaults(Protocol):
    """The database: transactions on it, and whom to tell when they have committed."""

    @property
    def engine(self) -> Engine:
        """The connection pool, which the workflow engine shares."""

    @property
    def servers(self) -> Servers:
        """The servers on this vault."""

    def join(self, session: Session) -> Rows:
        """The rows in a transaction of somebody else's, who commits it."""

    def write(self) -> AbstractContextManager[Rows]:
        """A transaction: committed at the end, rolled back by any exception."""

    def read(self) -> AbstractContextManager[Rows]:
        """A transaction that changes nothing and sees one state of the vault."""

    def listen(self, listener: Listener) -> None:
        """Have `listener` told of hosts with news, on the committing thread."""

    def submit_with(self, submit: Submit, tasks: Callable[[Job], tuple[str, ...]]) -> None:
        """What `Books.submit` starts jobs with, and the names of a job's tasks."""
