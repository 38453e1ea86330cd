"""The vault's first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from homeport.catalog.types import Moment, Plain

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every table, those that others refer to first."""
    _epochs()
    _jobs()
    _ledger()
    _network_mappings()
    _operations()
    _policies()
    _servers()
    _sites()
    _vault()
    _caches()
    _hosts()
    _items()
    _tasks()
    _assignments()
    _item_reports()


def _epochs() -> None:
    op.create_table(
        "epochs",
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("item", "epoch", name="pk_epochs"),
        sa.UniqueConstraint("item", "job", "attempt", name="uq_epochs_item_job_attempt"),
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("item", sa.String()),
        sa.Column("item_name", sa.String(), nullable=False),
        sa.Column("request", Plain, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("started_at", Moment()),
        sa.Column("ended_at", Moment()),
        sa.Column("cancel_asked", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("takeovers", sa.Integer(), server_default="0", nullable=False),
        sa.Column("result", Plain),
        sa.Column("error", Plain),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_created_at", "jobs", ["created_at"])
    op.create_index("ix_jobs_item", "jobs", ["item"])
    op.create_index("ix_jobs_state", "jobs", ["state"])


def _ledger() -> None:
    op.create_table(
        "ledger",
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("made_at", Moment(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("gone_at", Moment()),
        sa.PrimaryKeyConstraint("item", "host", "kind", "name", "made_at", name="pk_ledger"),
    )


def _network_mappings() -> None:
    op.create_table(
        "network_mappings",
        sa.Column("source_site", sa.String(), nullable=False),
        sa.Column("network", sa.String(), nullable=False),
        sa.Column("target_site", sa.String(), nullable=False),
        sa.Column("to", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint(
            "source_site", "network", "target_site", name="pk_network_mappings"
        ),
    )


def _operations() -> None:
    op.create_table(
        "operations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("job", sa.String()),
        sa.Column("attempt", sa.Integer()),
        sa.Column("task", sa.Integer()),
        sa.Column("item", sa.String()),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("args", Plain, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("shielded", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("cancel_asked", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("cancel_told", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("delivered_at", Moment()),
        sa.Column("heard", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lost_at", Moment()),
        sa.Column("ended_at", Moment()),
        sa.Column("progress", Plain),
        sa.Column("result", Plain),
        sa.Column("error", Plain),
        sa.PrimaryKeyConstraint("id", name="pk_operations"),
    )
    op.create_index("ix_operations_host_state", "operations", ["host", "state"])
    op.create_index("ix_operations_job", "operations", ["job"])


def _policies() -> None:
    op.create_table(
        "policies",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("policy", Plain, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_policies"),
    )


def _servers() -> None:
    op.create_table(
        "servers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("beat", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_servers"),
    )


def _sites() -> None:
    op.create_table(
        "sites",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String()),
        sa.PrimaryKeyConstraint("name", name="pk_sites"),
    )


def _vault() -> None:
    op.create_table(
        "vault",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("made_at", Moment(), nullable=False),
        sa.Column("dbos_version", sa.String()),
        sa.PrimaryKeyConstraint("id", name="pk_vault"),
    )


def _caches() -> None:
    op.create_table(
        "caches",
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("options", Plain, nullable=False),
        sa.ForeignKeyConstraint(["site"], ["sites.name"], name="fk_caches_site"),
        sa.PrimaryKeyConstraint("site", name="pk_caches"),
    )


def _hosts() -> None:
    op.create_table(
        "hosts",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("last_seen", Moment()),
        sa.Column("agent_version", sa.String(), server_default="", nullable=False),
        sa.Column("protocol", sa.Integer()),
        sa.Column("inventory", Plain),
        sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["site"], ["sites.name"], name="fk_hosts_site"),
        sa.PrimaryKeyConstraint("name", name="pk_hosts"),
    )
    op.create_index("ix_hosts_site", "hosts", ["site"])


def _items() -> None:
    op.create_table(
        "items",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("active", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("primary_site", sa.String(), nullable=False),
        sa.Column("primary_host", sa.String(), nullable=False),
        sa.Column("primary_machine", sa.String(), nullable=False),
        sa.Column("primary_pool", sa.String(), nullable=False),
        sa.Column("recovery_site", sa.String(), nullable=False),
        sa.Column("recovery_host", sa.String(), nullable=False),
        sa.Column("recovery_machine", sa.String(), nullable=False),
        sa.Column("recovery_pool", sa.String(), nullable=False),
        sa.Column("protected_at", Moment()),
        sa.Column("facts", Plain, nullable=False),
        sa.Column("job", sa.String()),
        sa.ForeignKeyConstraint(["policy"], ["policies.name"], name="fk_items_policy"),
        sa.PrimaryKeyConstraint("id", name="pk_items"),
        sa.UniqueConstraint("name", name="uq_items_name"),
    )
    op.create_index("ix_items_policy", "items", ["policy"])


def _tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("started_at", Moment()),
        sa.Column("ended_at", Moment()),
        sa.Column("progress", Plain),
        sa.Column("waits_for", sa.String(), server_default="", nullable=False),
        sa.Column("error", Plain),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_tasks_job"),
        sa.PrimaryKeyConstraint("job", "index", name="pk_tasks"),
    )


def _assignments() -> None:
    op.create_table(
        "assignments",
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("replicate", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_assignments_host"),
        sa.ForeignKeyConstraint(["item"], ["items.id"], name="fk_assignments_item"),
        sa.PrimaryKeyConstraint("item", "host", name="pk_assignments"),
    )
    op.create_index("ix_assignments_host", "assignments", ["host"])


def _item_reports() -> None:
    op.create_table(
        "item_reports",
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("received_at", Moment(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("landed", sa.String()),
        sa.Column("backlog", sa.BigInteger(), nullable=False),
        sa.Column("ledger_digest", sa.String(), nullable=False),
        sa.Column("report", Plain, nullable=False),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_item_reports_host"),
        sa.ForeignKeyConstraint(["item"], ["items.id"], name="fk_item_reports_item"),
        sa.PrimaryKeyConstraint("item", "host", name="pk_item_reports"),
    )
