"""Resource groups, availability sets, capacity reservations, and the machines that use them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from homeport.catalog.types import Plain

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two tables; the kinds differ only in what they carry."""
    op.create_table(
        "resources",
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("lock", Plain),
        sa.Column("holds", Plain, nullable=False),
        sa.Column("made_for", sa.String()),
        sa.ForeignKeyConstraint(["site"], ["sites.name"], name="fk_resources_site"),
        sa.PrimaryKeyConstraint("site", "kind", "name", name="pk_resources"),
    )
    op.create_table(
        "memberships",
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("machine", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["site", "kind", "name"],
            ["resources.site", "resources.kind", "resources.name"],
            name="fk_memberships_site_kind_name",
        ),
        sa.PrimaryKeyConstraint("site", "machine", "kind", name="pk_memberships"),
    )
