"""The vault's database as the server holds it: transactions, and who is told when they commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from homeport.catalog.database import begin, begin_reading, open_database
from homeport.catalog.schema import prepare_vault
from homeport.catalog.servers import ServerRepository
from homeport.catalog.transaction import Transaction
from homeport.catalog.vault import VaultRows, VaultSettings
from homeport.orchestration.ports import Job
from homeport.orchestration.rows import Listener, Submit


class Catalog:
    """
    One server's way to its vault. Threads share it; a transaction belongs to one thread.

    On SQLite writing transactions take turns from their first statement on; on PostgreSQL what may
    collide is a guarded statement.
    """

    def __init__(self, engine: Engine, settings: VaultSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._listeners: list[Listener] = []
        self._servers = ServerRepository(engine)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        new_token: Callable[[], str],
        lease: timedelta,
        dbos_version: str,
    ) -> Catalog:
        """
        Open the vault at `url`, bringing its schema up to date or making it.

        Raises:
            NewerVaultError: a newer version has opened it before.
            UnsupportedDatabaseError: the URL names neither SQLite nor PostgreSQL.
        """
        engine = open_database(url)
        now = clock()
        prepare_vault(engine, now=now, new_id=new_id, dbos_version=dbos_version)
        settings = VaultSettings(
            clock=clock, new_id=new_id, new_token=new_token, lease=lease, serving_since=now
        )
        return cls(engine, settings)

    @property
    def engine(self) -> Engine:
        """The connection pool."""
        return self._engine

    @property
    def servers(self) -> ServerRepository:
        """The servers on this vault."""
        return self._servers

    def listen(self, listener: Listener) -> None:
        """Have `listener` told of hosts with news, on the committing thread."""
        self._listeners.append(listener)

    def submit_with(self, submit: Submit, tasks: Callable[[Job], tuple[str, ...]]) -> None:
        """What `submit` starts jobs with, and the names of a job's tasks."""
        self._settings.submit = submit
        self._settings.tasks = tasks

    def join(self, session: Session) -> VaultRows:
        """The rows in a transaction of somebody else's, who commits it."""
        begin(session)
        return self._rows(session)

    @contextmanager
    def write(self) -> Iterator[VaultRows]:
        """A transaction: committed at the end, rolled back by any exception."""
        with Session(self._engine) as session, session.begin():
            begin(session)
            yield self._rows(session)

    @contextmanager
    def read(self) -> Iterator[VaultRows]:
        """A transaction that changes nothing and sees one state of the vault."""
        with Session(self._engine) as session:
            begin_reading(session)
            yield self._rows(session)
            session.rollback()

    def close(self) -> None:
        """Let all connections go."""
        self._engine.dispose()

    def _rows(self, session: Session) -> VaultRows:
        transaction = Transaction(session=session, now=self._settings.clock())
        # also heard when a savepoint is let go: a listener that looks too early looks again
        event.listen(session, "after_commit", lambda _: self._tell(transaction))
        return VaultRows(transaction, self._settings)

    def _tell(self, transaction: Transaction) -> None:
        if transaction.touched:
            for listener in self._listeners:
                listener(frozenset(transaction.touched))
