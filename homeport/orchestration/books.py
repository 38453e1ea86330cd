"""
What people's requests are taken with: the vault's rows beyond those a job program sees.

The API's routers and the requests module write against `Office`; the server's wiring builds one
from the catalog and the job engine. A request is accepted inside one `books()` transaction: the
item moves, the job's row and its workflow exist together or not at all. A refused request raises
inside it, which rolls everything back.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from homeport.model.host import HostInventory
from homeport.model.ids import HostName, ItemId, JobId, SiteName
from homeport.model.item import ReplicatedItem
from homeport.model.messages import LedgerEntry, StoreAddress
from homeport.model.policy import ReplicationPolicy
from homeport.model.protection import State
from homeport.orchestration.ports import ItemRow, Job, JobKind, JobState, Json, Outcome, Vault


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteRow:
    """A site; `cache` is the store in it, where the points of machines running there wait."""

    name: SiteName
    cache: StoreAddress | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class HostRow:
    """A host as its agent was last heard. `alive`: heard within the lease."""

    name: HostName
    site: SiteName
    alive: bool
    last_seen: datetime | None = None
    agent_version: str = ""
    inventory: HostInventory | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkMapping:
    """A network of one site stands for another of the other site."""

    source_site: SiteName
    network: str
    target_site: SiteName
    to: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerRow:
    """One thing that a host said it made for an item; kept after the item is gone."""

    item: ItemId
    host: HostName
    entry: LedgerEntry


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """Whether this server can do its work; `state` is "ok" or what is wrong with it."""

    version: str
    vault: str
    state: str
    facts: dict[str, Json] = field(default_factory=dict)


class Books(Vault, Protocol):
    """One transaction of the vault, with the lists and the rows that only requests make."""

    def sites(self) -> tuple[SiteRow, ...]:
        """All sites, by name."""

    def site(self, name: str) -> SiteRow:
        """NotFoundError when there is none."""

    def add_site(self, name: SiteName, cache: StoreAddress | None) -> None:
        """A new site; RefusedError (`SiteExists`) when the name is taken."""

    def new_token(self, site: SiteName) -> str:
        """A fresh token for the site's agents, shown once; earlier ones end."""

    def hosts(self, site: SiteName | None = None) -> tuple[HostRow, ...]:
        """The hosts heard of, by name."""

    def network_mappings(self) -> tuple[NetworkMapping, ...]:
        """All mappings, in order of sites and networks."""

    def policies(self) -> tuple[ReplicationPolicy, ...]:
        """All policies, by name; `default` is always there."""

    def save_policy(self, policy: ReplicationPolicy) -> None:
        """Make or replace a policy; items using it are replicated by it from then on."""

    def items(self) -> tuple[ItemRow, ...]:
        """All items, by name."""

    def find_item(self, key: str) -> ItemRow:
        """An item by id or by name; NotFoundError when there is none."""

    def ledger(self, item: ItemId | None = None) -> tuple[LedgerRow, ...]:
        """All that agents ever said they made, oldest first; of one item, or of all."""

    def new_id(self) -> str:
        """A fresh random id, safe as a name."""

    def add_item(self, item: ReplicatedItem, *, state: State, facts: dict[str, Json]) -> None:
        """A new item; RefusedError (`NameTaken`) when its name is in use."""

    def submit(
        self, kind: JobKind, *, item: ItemId | None, item_name: str, request: dict[str, Json]
    ) -> Job:
        """A job's row and its workflow, in this transaction."""

    def left_orders(self, item: ItemId) -> dict[HostName, Outcome | None]:
        """What `leave_order` left for hosts, and how it ended; None while it has not."""

    def jobs(self, *, item: ItemId | None = None, state: JobState | None = None) -> tuple[Job, ...]:
        """Jobs, newest first, with their tasks."""

    def job(self, job: JobId) -> Job:
        """NotFoundError when there is none."""

    def ask_cancel(self, job: JobId) -> bool:
        """Ask a job to stop; False when it has ended already."""


class Office(Protocol):
    """The way in for requests: short transactions, and questions to agents outside of any job."""

    def books(self) -> AbstractContextManager[Books]:
        """One transaction: committed at the end, rolled back by any exception."""

    def look(self) -> AbstractContextManager[Books]:
        """A transaction that only reads and sees one state of the vault; it waits for nobody."""

    def ask(
        self,
        host: HostName,
        kind: str,
        args: object,
        *,
        item: ItemId | None = None,
        patience: float = 30.0,
    ) -> Outcome:
        """
        Have an agent do something once, and wait for it; no transaction may be open meanwhile.

        LOST when the host has not answered within `patience` seconds.
        """

    def health(self) -> Health:
        """Version, vault and state of this server."""
