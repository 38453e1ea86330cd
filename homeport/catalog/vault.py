"""The vault's rows in one transaction: the books, made of the repositories."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from homeport.catalog.assignments import AssignmentRepository
from homeport.catalog.items import ItemRepository
from homeport.catalog.jobs import JobRepository
from homeport.catalog.operations import LEFT, OperationRepository
from homeport.catalog.policies import PolicyRepository
from homeport.catalog.reports import ReportRepository
from homeport.catalog.resources import ResourceRepository
from homeport.catalog.sites import HostRepository, SiteRepository
from homeport.catalog.tables import vault
from homeport.catalog.transaction import Transaction
from homeport.model.codec import from_plain, to_plain
from homeport.model.host import HostInventory
from homeport.model.ids import HostName, ItemId, JobId, OperationId, SiteName, VaultId
from homeport.model.item import ReplicatedItem
from homeport.model.messages import (
    Assignment,
    ItemReport,
    LedgerEntry,
    OperationOrder,
    OperationReport,
    Progress,
    StoreAddress,
)
from homeport.model.operations import OPERATIONS
from homeport.model.policy import ReplicationPolicy
from homeport.model.protection import Event, State
from homeport.orchestration.books import HostRow, LedgerRow, NetworkMapping, SiteRow
from homeport.orchestration.ports import ItemRow, Job, JobKind, JobState, Json, Outcome
from homeport.orchestration.rows import Order, Submit


def hash_token(token: str) -> str:
    """What the vault keeps of a token: 256 random bits leave nothing to guess, so no salt."""
    return hashlib.sha256(token.encode()).hexdigest()


def _no_engine(_session: Session, _job: Job) -> None:
    raise RuntimeError("this vault was opened without a job engine")


@dataclass(kw_only=True)
class VaultSettings:
    """
    What all transactions of a server share.

    `serving_since` is when it began to hear agents: no lease runs before it.
    """

    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    new_token: Callable[[], str]
    lease: timedelta
    serving_since: datetime
    submit: Submit = _no_engine
    tasks: Callable[[Job], tuple[str, ...]] = field(default=lambda _job: ())


class AgentRepository:
    """What agents say of themselves and their items, over the repositories it concerns."""

    def __init__(self, books: VaultRows) -> None:
        self._books = books

    def token_hashes(self) -> dict[SiteName, str]:
        """The hash of each site's token."""
        return self._books.site_rows.token_hashes()

    def hear(self, host: HostName, site: SiteName, *, agent_version: str, protocol: int) -> None:
        """The host's agent has spoken."""
        self._books.host_rows.hear(host, site, agent_version=agent_version, protocol=protocol)

    def put_inventory(self, host: HostName, inventory: HostInventory) -> None:
        """What the host has."""
        self._books.host_rows.put_inventory(host, inventory)

    def put_reports(self, host: HostName, reports: tuple[ItemReport, ...]) -> None:
        """The host's views of its items, replacing earlier ones; ledgers are added to."""
        for report in reports:
            self._books.report_rows.put(host, report)

    def put_ledger(self, host: HostName, operation: OperationReport) -> None:
        """Enter what a release has taken away: the item's reports have ended with it."""
        entries = (operation.result or {}).get("entries")
        item = self._books.operation_rows.item_of(operation.id) if entries else None
        if item is not None:
            known = from_plain(tuple[LedgerEntry, ...], entries)
            self._books.report_rows.enter(item, host, known)

    def assignments(self, host: HostName) -> tuple[Assignment, ...]:
        """Everything that should be so on the host."""
        return self._books.assignment_rows.of_host(host, self._books.vault_id())

    def revision(self, host: HostName) -> int:
        """Of the host's assignments."""
        return self._books.host_rows.revision(host)

    def revisions(self, hosts: Collection[HostName]) -> dict[HostName, int]:
        """Many at once."""
        return self._books.host_rows.revisions(hosts)


class VaultRows:
    """Everything in the vault, inside one transaction. See the ports for what each method does."""

    def __init__(self, transaction: Transaction, settings: VaultSettings) -> None:
        self._transaction = transaction
        self._settings = settings
        self.item_rows = ItemRepository(transaction)
        self.policy_rows = PolicyRepository(transaction)
        self.site_rows = SiteRepository(transaction)
        self.host_rows = HostRepository(
            transaction, lease=settings.lease, serving_since=settings.serving_since
        )
        self.assignment_rows = AssignmentRepository(transaction, self.host_rows)
        self.job_rows = JobRepository(transaction)
        self.operation_rows = OperationRepository(transaction)
        self.report_rows = ReportRepository(transaction)
        self.agent_rows = AgentRepository(self)
        self._resources = ResourceRepository(transaction, self.host_rows)

    @property
    def session(self) -> Session:
        """The transaction itself."""
        return self._transaction.session

    @property
    def resources(self) -> ResourceRepository:
        """Groups, sets and reservations of the sites."""
        return self._resources

    def vault_id(self) -> VaultId:
        """This vault's identity."""
        return VaultId(self.session.scalars(select(vault.c.id)).one())

    def now(self) -> datetime:
        """The moment of this transaction."""
        return self._transaction.now

    def item(self, item: ItemId) -> ItemRow:
        """An item by id."""
        return self.item_rows.get(item)

    def items(self) -> tuple[ItemRow, ...]:
        """All items, by name."""
        return self.item_rows.all()

    def find_item(self, key: str) -> ItemRow:
        """An item by id or by name."""
        return self.item_rows.find(key)

    def add_item(self, item: ReplicatedItem, *, state: State, facts: dict[str, Json]) -> None:
        """A new item, under a policy that exists."""
        self.policy_rows.get(item.policy)
        self.item_rows.add(item, state=state, facts=facts)

    def move(self, item: ItemId, event: Event, *, seen: State) -> bool:
        """Move the item's state machine on, if it still is in `seen`."""
        return self.item_rows.move(item, event, seen=seen)

    def put_item(self, item: ReplicatedItem) -> None:
        """Write active side, epoch, seats and policy; hosts with a part in it are told."""
        self.item_rows.put(item)
        self.assignment_rows.touch_item(item.id)

    def put_facts(self, item: ItemId, facts: Mapping[str, Json]) -> None:
        """Merge into the item's facts."""
        self.item_rows.put_facts(item, facts)

    def remove_item(self, item: ItemId) -> None:
        """Forget the item and all that was made for it; jobs, ledger and epochs stay."""
        row = self.item_rows.known(item)
        if row is not None:
            self._resources.forget(row)
        self.assignment_rows.remove(item)
        self.report_rows.remove(item)
        self.item_rows.remove(item)

    def raise_epoch(self, item: ItemId, *, job: JobId, attempt: int) -> int:
        """The next epoch for this job's attempt."""
        return self.item_rows.raise_epoch(item, job, attempt)

    def policy(self, name: str) -> ReplicationPolicy:
        """A policy by name."""
        return self.policy_rows.get(name)

    def policies(self) -> tuple[ReplicationPolicy, ...]:
        """All policies, by name."""
        return self.policy_rows.all()

    def save_policy(self, policy: ReplicationPolicy) -> None:
        """Make or replace a policy; hosts that replicate by it are told."""
        self.policy_rows.save(policy)
        self.assignment_rows.touch_policy(policy.name)

    def sites(self) -> tuple[SiteRow, ...]:
        """All sites, by name."""
        return self.site_rows.all()

    def site(self, name: str) -> SiteRow:
        """A site by name."""
        return self.site_rows.get(name)

    def add_site(self, name: SiteName, cache: StoreAddress | None) -> None:
        """A new site."""
        self.site_rows.add(name)
        if cache is not None:
            self.site_rows.set_cache(name, cache)

    def set_cache(self, site: SiteName, cache: StoreAddress) -> None:
        """Replace the cache store in a site; hosts that use it are told."""
        self.site_rows.set_cache(site, cache)
        self.assignment_rows.touch_site(site)

    def cache_of(self, site: SiteName) -> StoreAddress:
        """The cache store in a site."""
        return self.site_rows.cache_of(site)

    def cache_users(self, site: SiteName) -> tuple[str, ...]:
        """Names of the items whose machines run in the site."""
        at_work = (row.item for row in self.items() if row.state is not State.DISABLED)
        return tuple(item.name for item in at_work if item.running.site == site)

    def new_token(self, site: SiteName) -> str:
        """A fresh token for the site's agents; only its hash is kept."""
        token = self._settings.new_token()
        self.site_rows.set_token(site, hash_token(token))
        return token

    def hosts(self, site: SiteName | None = None) -> tuple[HostRow, ...]:
        """The hosts known, by name."""
        return self.host_rows.all(site)

    def host_alive(self, host: HostName) -> bool:
        """Whether its agent was heard within the lease."""
        return self.host_rows.alive(host)

    def network_mappings(self) -> tuple[NetworkMapping, ...]:
        """All mappings, in order of sites and networks."""
        return self.site_rows.mappings()

    def network_map(self, source: SiteName, target: SiteName) -> dict[str, str]:
        """Mapped networks from one site to another."""
        return self.site_rows.map_of(source, target)

    def map_network(self, source: SiteName, network: str, target: SiteName, to: str) -> None:
        """Set one mapping."""
        self.site_rows.map_network(source, network, target, to)

    def report_of(self, item: ItemId, host: HostName) -> ItemReport | None:
        """The newest report of one host on an item."""
        return self.report_rows.get(item, host)

    def ledger(self, item: ItemId | None = None) -> tuple[LedgerRow, ...]:
        """What agents said they made."""
        return self.report_rows.ledger(item)

    def assign(self, item: ItemId, host: HostName, role: str | None, *, replicate: bool) -> None:
        """What should be so on a host for an item."""
        self.assignment_rows.assign(item, host, role, replicate=replicate)

    def leave_order(
        self, item: ItemId, host: HostName, kind: str, args: object, *, job: JobId
    ) -> None:
        """An operation for a host that does not answer now: handed out whenever it is back."""
        arguments, _ = OPERATIONS[kind]
        order = OperationOrder(
            id=OperationId(f"{LEFT}{job}:{host}:{kind}"),
            kind=kind,
            item=item,
            args=to_plain(arguments, args),
        )
        self.operation_rows.leave(Order(order=order, host=host, shielded=True))

    def left_orders(self, item: ItemId) -> dict[HostName, Outcome | None]:
        """What `leave_order` left for hosts, and how it ended; None while it has not."""
        return self.operation_rows.left(item)

    def new_id(self) -> str:
        """A fresh random id."""
        return self._settings.new_id()

    def submit(
        self, kind: JobKind, *, item: ItemId | None, item_name: str, request: dict[str, Json]
    ) -> Job:
        """A job's row and its workflow, in this transaction; JobRunningError on a busy item."""
        job = Job(
            id=JobId(self.new_id()),
            kind=kind,
            item=item,
            item_name=item_name,
            request=request,
            state=JobState.WAITING,
            attempt=1,
            created_at=self.now(),
        )
        self.job_rows.add(job, self._settings.tasks(job))
        self._settings.submit(self.session, job)
        return self.job(job.id)

    def jobs(self, *, item: ItemId | None = None, state: JobState | None = None) -> tuple[Job, ...]:
        """Jobs, newest first, with their tasks."""
        return self.job_rows.all(item=item, state=state)

    def job(self, job: JobId) -> Job:
        """A job by id."""
        return self.job_rows.get(job)

    def ask_cancel(self, job: JobId) -> bool:
        """Ask a job, and what it has begun at agents, to stop."""
        asked = self.job_rows.ask_cancel(job)
        if asked:
            self.operation_rows.ask_cancel(job)
        return asked

    def put_progress(
        self, job: JobId, task: int, progress: Progress | None, *, waits_for: str = ""
    ) -> None:
        """How far an open task is, and what it waits for."""
        self.job_rows.put_progress(job, task, progress, waits_for=waits_for)
