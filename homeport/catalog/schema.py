"""
Bringing a database to this version's schema at start, and refusing one that is newer.

All steps run in one transaction, on SQLite too: a server killed in the middle finds the schema as
it was. Servers that start together take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, insert, select, text, update

from homeport.catalog import tables
from homeport.errors import RefusedError
from homeport.model.codec import to_plain
from homeport.model.policy import ReplicationPolicy

MIGRATION_LOCK = 0x686F6D65706F7274  # any constant would do: "homeport" as a number
DEFAULT_POLICY = "default"


class NewerVaultError(RefusedError):
    """A vault that a newer version has opened: an older one would misread it."""

    code = "NewerVault"

    def __init__(self, what: str, found: str, known: str) -> None:
        super().__init__(
            f"The vault's {what} is {found}; this server knows {known}.",
            cause="A newer version of Homeport has opened this vault, and an older one would read "
            "finished jobs wrongly.",
            remedy="Start the newer version again, or restore a backup of the vault made before.",
        )
        self.what = what
        self.found = found


def is_ours(
    item: Any,
    name: str | None,
    kind: str,
    reflected: bool,  # noqa: FBT001
    _compare_to: Any,
) -> bool:
    """Alembic's filter: what is in the database and not in our metadata is not ours to drop."""
    table = name if kind == "table" else getattr(getattr(item, "table", None), "name", None)
    return not reflected or table in tables.metadata.tables


def prepare_vault(
    engine: Engine, *, now: datetime, new_id: Callable[[], str], dbos_version: str
) -> None:
    """
    Make or upgrade the schema, and the rows that are always there; run at every start.

    Raises:
        NewerVaultError: the schema or the engine's version is newer than this server's.
    """
    with engine.begin() as connection:
        _take_turn(connection)
        _upgrade(connection)
        _check_engine(connection, dbos_version)
        _make_rows(connection, now=now, new_id=new_id, dbos_version=dbos_version)


def _take_turn(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.execute(text("BEGIN IMMEDIATE"))
    else:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    found = MigrationContext.configure(connection).get_current_heads()
    for revision in set(found) - known:
        raise NewerVaultError("schema", revision, _newest(known))
    command.upgrade(config, "head")


def _check_engine(connection: Connection, dbos_version: str) -> None:
    found = connection.execute(select(tables.vault.c.dbos_version)).scalar()
    if found is not None and _figures(found) > _figures(dbos_version):
        raise NewerVaultError("workflow engine", found, dbos_version)


def _make_rows(
    connection: Connection, *, now: datetime, new_id: Callable[[], str], dbos_version: str
) -> None:
    if connection.execute(select(tables.vault.c.id)).scalar() is None:
        policy = to_plain(ReplicationPolicy, ReplicationPolicy(name=DEFAULT_POLICY))
        connection.execute(insert(tables.vault).values(id=new_id(), made_at=now))
        connection.execute(insert(tables.policies).values(name=DEFAULT_POLICY, policy=policy))
    connection.execute(update(tables.vault).values(dbos_version=dbos_version))


def _newest(known: Iterable[str]) -> str:
    return max(known, default="none")


def _figures(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
