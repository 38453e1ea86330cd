"""
Opening the vault's database: SQLite with what a power cut needs, or PostgreSQL.

On SQLite a lock file sees to it that one server at a time has the vault: two would run each
other's jobs twice. The kernel lets the lock go however the process ends.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.orm import Session

from homeport.errors import RefusedError


class VaultInUseError(RefusedError):
    """Another server has this SQLite vault."""

    code = "VaultInUse"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The vault {path} is in use by another server.",
            cause="One server at a time may have a SQLite vault: two would run every job twice.",
            remedy="Stop the other server, or give this one a data directory of its own. Several "
            "servers share a vault on PostgreSQL.",
        )
        self.path = path


class UnsupportedDatabaseError(RefusedError):
    """A database URL that names neither SQLite nor PostgreSQL."""

    code = "UnsupportedDatabase"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"A vault cannot be kept in {name!r}.",
            cause="Only SQLite and PostgreSQL are supported.",
            remedy="Use sqlite:////path/vault.sqlite or postgresql+psycopg://user@host/database.",
        )
        self.name = name


def open_database(url: str) -> Engine:
    """
    An engine for the vault at `url`, set up to lose no commit; nothing is created yet.

    Raises:
        UnsupportedDatabaseError: neither SQLite nor PostgreSQL.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(url)
    if parsed.get_backend_name() == "postgresql":
        driver = parsed.set(drivername="postgresql+psycopg")
        return create_engine(driver, pool_size=20, max_overflow=20, pool_pre_ping=True)
    raise UnsupportedDatabaseError(parsed.get_backend_name())


def _open_sqlite(url: str) -> Engine:
    engine = create_engine(url, pool_size=20, max_overflow=40)

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = "IMMEDIATE"
        for pragma in (
            "busy_timeout=30000",
            "journal_mode=WAL",
            "synchronous=FULL",  # NORMAL may lose the last commits at a power cut: the epoch
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def begin(session: Session) -> None:
    """
    Take SQLite's write lock now, so that nothing read in this transaction can change under it.

    Python's driver begins a transaction only at the first change, after the reads it depends on.
    On PostgreSQL the isolation level does this.
    """
    if session.connection().dialect.name != "sqlite":
        return
    driver = session.connection().connection.driver_connection
    if driver is not None and not driver.in_transaction:
        session.execute(text("BEGIN IMMEDIATE"))


def begin_reading(session: Session) -> None:
    """See one state of the database for the whole of this transaction."""
    if session.connection().dialect.name == "sqlite":
        session.execute(text("BEGIN"))


@contextmanager
def only_server(url: str) -> Iterator[None]:
    """
    Hold the SQLite vault's lock file while the body runs; on PostgreSQL there is none.

    Taken before the vault is opened, since opening it may change its schema.

    Raises:
        VaultInUseError: another process holds it.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        yield
        return
    vault = Path(parsed.database or "")
    vault.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # options of stores are in it
    with vault.with_name(vault.name + ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise VaultInUseError(vault) from error
        yield
