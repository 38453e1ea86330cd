"""
What Alembic runs: on a connection that the catalog opened and whose transaction it commits.

Tables that are not the vault's are the workflow engine's, and left alone.
"""

from __future__ import annotations

from alembic import context

from homeport.catalog.schema import is_ours
from homeport.catalog.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    include_object=is_ours,
    render_as_batch=True,
)
context.run_migrations()
