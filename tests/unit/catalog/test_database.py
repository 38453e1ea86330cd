"""Opening: what a power cut needs is set, one server at a time, and nothing newer is touched."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlalchemy.dialects import postgresql, sqlite

from homeport.catalog.database import (
    UnsupportedDatabaseError,
    VaultInUseError,
    only_server,
    open_database,
)
from homeport.catalog.schema import NewerVaultError, is_ours, prepare_vault
from homeport.catalog.tables import metadata
from homeport.catalog.types import Moment
from tests.vaults import Names, open_catalog

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vault.sqlite"


def _prepare(path: Path, dbos: str = "3.4.0") -> None:
    engine = open_database(f"sqlite:///{path}")
    try:
        prepare_vault(engine, now=NOW, new_id=Names(), dbos_version=dbos)
    finally:
        engine.dispose()


def test_sqlite_is_set_up_to_lose_no_commit(path: Path) -> None:
    engine = open_database(f"sqlite:///{path}")
    with engine.connect() as connection:
        read = lambda name: connection.execute(text(f"PRAGMA {name}")).scalar()  # noqa: E731
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        assert [read(name) for name in names] == ["wal", 2, 1, 30000]
    engine.dispose()


@pytest.mark.parametrize("url", ["mysql://u@h/d", "oracle://u@h/d"])
def test_other_databases_are_refused_with_what_is_possible(url: str) -> None:
    with pytest.raises(UnsupportedDatabaseError) as refused:
        open_database(url)
    assert "sqlite" in refused.value.remedy


def test_one_server_at_a_time_has_a_sqlite_vault(path: Path) -> None:
    url = f"sqlite:///{path}"
    with only_server(url):
        with pytest.raises(VaultInUseError), only_server(url):
            pass
        with only_server("postgresql+psycopg://u@h/d"):
            pass
    with only_server(url):
        pass


def test_the_steps_lead_to_the_schema_the_code_has(path: Path) -> None:
    _prepare(path)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE workflow_status (id TEXT)"))
        options = {"include_object": is_ours, "compare_type": False}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_no_table_of_ours_has_a_name_of_the_workflow_engines() -> None:
    theirs = {
        "application_versions", "datasource_outputs", "dbos_datasource_migrations",
        "dbos_migrations", "notifications", "operation_outputs", "queues", "streams",
        "workflow_events", "workflow_events_history", "workflow_input", "workflow_output",
        "workflow_schedules", "workflow_status", "event_dispatch_kv",
    }  # fmt: skip
    assert not theirs & set(metadata.tables)


NEWER = {
    "a newer schema": ("UPDATE alembic_version SET version_num = '9999'", "3.4.0"),
    "a newer workflow engine": ("UPDATE vault SET dbos_version = '3.10.0'", "3.9.2"),
}


@pytest.mark.parametrize(("statement", "dbos"), NEWER.values(), ids=NEWER)
def test_a_newer_vault_is_refused_and_left_alone(path: Path, statement: str, dbos: str) -> None:
    _prepare(path)
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
        before = list(connection.iterdump())
    connection.close()
    with pytest.raises(NewerVaultError) as refused:
        _prepare(path, dbos)
    assert refused.value.remedy
    again = sqlite3.connect(path)
    assert list(again.iterdump()) == before
    again.close()


def test_a_start_that_died_in_the_middle_is_made_good(path: Path) -> None:
    engine = open_database(f"sqlite:///{path}")

    def die() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_vault(engine, now=NOW, new_id=die, dbos_version="3.4.0")
    with engine.connect() as connection:
        tables = connection.execute(text("SELECT count(*) FROM sqlite_master")).scalar()
    engine.dispose()
    assert tables == 0
    open_catalog(f"sqlite:///{path}").close()


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()], ids=["lite", "pg"])
def test_moments_keep_their_instant(dialect: sqlite.dialect) -> None:
    there = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    stored = Moment().process_bind_param(there, dialect)
    assert Moment().process_result_value(stored, dialect) == there
    assert Moment().process_result_value(None, dialect) is None
    with pytest.raises(ValueError, match="zone"):
        Moment().process_bind_param(datetime(2026, 3, 1), dialect)  # noqa: DTZ001
