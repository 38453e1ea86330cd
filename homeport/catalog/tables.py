"""
The vault's tables. Their names keep clear of the workflow engine's, which share the file on SQLite.

What people and agents are told is only ever read from here. JSON columns hold values written by
`homeport.model.codec`; what is searched by has a column of its own. `migrations/` builds the same
tables step by step, and a test holds the two together.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    false,
)

from homeport.catalog.types import Moment, Plain, Text
from homeport.model.item import Side
from homeport.model.messages import OperationState
from homeport.model.protection import State
from homeport.model.resources import ResourceKind
from homeport.orchestration.ports import JobKind, JobState

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

vault = Table(
    "vault",
    metadata,
    Column("id", String, primary_key=True),  # one row
    Column("made_at", Moment, nullable=False),
    Column("dbos_version", String),  # newest that has opened this database; older ones must not
)

sites = Table(
    "sites",
    metadata,
    Column("name", String, primary_key=True),
    Column("token_hash", String),  # SHA-256 of the agents' token; the token itself is kept nowhere
)

caches = Table(
    "caches",
    metadata,
    Column("site", ForeignKey("sites.name"), primary_key=True),
    Column("name", String, nullable=False),
    Column("url", String, nullable=False),
    Column("options", Plain, nullable=False),
)

network_mappings = Table(
    "network_mappings",
    metadata,
    Column("source_site", String, primary_key=True),
    Column("network", String, primary_key=True),
    Column("target_site", String, primary_key=True),
    Column("to", String, nullable=False),
)

resources = Table(  # groups, availability sets, capacity reservations: what libvirt lacks
    "resources",
    metadata,
    Column("site", ForeignKey("sites.name"), primary_key=True),
    Column("kind", Text(ResourceKind), primary_key=True),
    Column("name", String, primary_key=True),
    Column("lock", Plain),
    Column("holds", Plain, nullable=False),
    Column("made_for", String),  # the item that Homeport made it for
)

memberships = Table(  # a machine belongs to at most one resource of a kind
    "memberships",
    metadata,
    Column("site", String, primary_key=True),
    Column("machine", String, primary_key=True),
    Column("kind", Text(ResourceKind), primary_key=True),
    Column("name", String, nullable=False),
    ForeignKeyConstraint(
        ["site", "kind", "name"], ["resources.site", "resources.kind", "resources.name"]
    ),
)

hosts = Table(
    "hosts",
    metadata,
    Column("name", String, primary_key=True),
    Column("site", ForeignKey("sites.name"), nullable=False, index=True),
    Column("last_seen", Moment),  # NULL: assigned to, never heard
    Column("agent_version", String, nullable=False, server_default=""),
    Column("protocol", Integer),
    Column("inventory", Plain),
    Column("revision", BigInteger, nullable=False, server_default="0"),  # of its assignments
)

policies = Table(
    "policies",
    metadata,
    Column("name", String, primary_key=True),
    Column("policy", Plain, nullable=False),
)

items = Table(
    "items",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("state", Text(State), nullable=False),
    Column("active", Text(Side), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("policy", ForeignKey("policies.name"), nullable=False, index=True),
    Column("primary_site", String, nullable=False),
    Column("primary_host", String, nullable=False),
    Column("primary_machine", String, nullable=False),
    Column("primary_pool", String, nullable=False),
    Column("recovery_site", String, nullable=False),
    Column("recovery_host", String, nullable=False),
    Column("recovery_machine", String, nullable=False),
    Column("recovery_pool", String, nullable=False),
    Column("protected_at", Moment),
    Column("facts", Plain, nullable=False),
    Column("job", String),  # the job at work on it; guards against a second one
)

epochs = Table(  # outlives its item, so that no epoch is ever given twice
    "epochs",
    metadata,
    Column("item", String, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("job", String, nullable=False),
    Column("attempt", Integer, nullable=False),
    UniqueConstraint("item", "job", "attempt"),
)

assignments = Table(
    "assignments",
    metadata,
    Column("item", ForeignKey("items.id"), primary_key=True),
    Column("host", ForeignKey("hosts.name"), primary_key=True, index=True),
    Column("role", String, nullable=False),
    Column("replicate", Boolean, nullable=False),
)

item_reports = Table(
    "item_reports",
    metadata,
    Column("item", ForeignKey("items.id"), primary_key=True),
    Column("host", ForeignKey("hosts.name"), primary_key=True),
    Column("received_at", Moment, nullable=False),
    Column("role", String, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("phase", String, nullable=False),
    Column("landed", String),
    Column("backlog", BigInteger, nullable=False),
    Column("ledger_digest", String, nullable=False),  # so that an unchanged ledger costs nothing
    Column("report", Plain, nullable=False),
)

ledger = Table(  # what agents said they made; kept after the item is gone
    "ledger",
    metadata,
    Column("item", String, primary_key=True),
    Column("host", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("made_at", Moment, primary_key=True),
    Column("reason", String, nullable=False),
    Column("gone_at", Moment),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", Text(JobKind), nullable=False),
    Column("item", String, index=True),  # no foreign key: jobs outlive their item
    Column("item_name", String, nullable=False),
    Column("request", Plain, nullable=False),
    Column("state", Text(JobState), nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("created_at", Moment, nullable=False, index=True),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    Column("cancel_asked", Boolean, nullable=False, server_default=false()),
    Column("takeovers", Integer, nullable=False, server_default="0"),
    Column("result", Plain),
    Column("error", Plain),
)

tasks = Table(
    "tasks",
    metadata,
    Column("job", ForeignKey("jobs.id"), primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("name", String, nullable=False),
    Column("state", Text(JobState), nullable=False),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    Column("progress", Plain),
    Column("waits_for", String, nullable=False, server_default=""),
    Column("error", Plain),
)

operations = Table(
    "operations",
    metadata,
    Column("id", String, primary_key=True),  # job:attempt:name, or a fresh one for a question
    Column("job", String, index=True),
    Column("attempt", Integer),
    Column("task", Integer),
    Column("item", String),
    Column("host", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("args", Plain, nullable=False),
    Column("state", Text(OperationState), nullable=False),
    Column("shielded", Boolean, nullable=False, server_default=false()),
    Column("cancel_asked", Boolean, nullable=False, server_default=false()),
    Column("cancel_told", Boolean, nullable=False, server_default=false()),
    Column("created_at", Moment, nullable=False),
    Column("delivered_at", Moment),  # first put into an answer to its host
    Column("heard", Integer, nullable=False, server_default="0"),  # times its host has named it
    Column("lost_at", Moment),  # its job went on without it; a later end is still recorded
    Column("ended_at", Moment),
    Column("progress", Plain),
    Column("result", Plain),
    Column("error", Plain),
    Index(None, "host", "state"),
)

servers = Table(
    "servers",
    metadata,
    Column("id", String, primary_key=True),  # one per life of a server process; never used again
    Column("state", String, nullable=False),  # "live", then "dead" for good
    Column("beat", Moment, nullable=False),  # by the database's clock
)
