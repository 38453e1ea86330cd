"""The servers that share one vault on PostgreSQL: heartbeats by the database's own clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from homeport.catalog.tables import servers

TAKEOVER_LOCK = 0x686F6D6574616B65  # any constant: which advisory lock is the take-over's


class ServerRepository:
    """The rows of `servers`. Each call is a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def beat(self, server: str) -> bool:
        """Say that the server lives; False when it was declared dead, for good."""
        beat = insert(servers).values(id=server, state="live", beat=func.now())
        living = beat.on_conflict_do_update(
            index_elements=["id"], set_={"beat": func.now()}, where=servers.c.state == "live"
        )
        with self._engine.begin() as connection:
            return connection.scalar(living.returning(servers.c.id)) is not None

    def bury(self, *, silent: timedelta) -> tuple[str, ...]:
        """Declare dead whoever has not beaten for so long; all the dead, new and old."""
        late = update(servers).where(
            servers.c.state == "live", servers.c.beat < func.now() - silent
        )
        with self._engine.begin() as connection:
            connection.execute(late.values(state="dead"))
            return tuple(connection.scalars(select(servers.c.id).where(servers.c.state == "dead")))

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """True inside for one server at a time, until it leaves the block or its session ends."""
        with self._engine.begin() as connection:
            lock = text("SELECT pg_try_advisory_xact_lock(:key)")
            yield bool(connection.scalar(lock, {"key": TAKEOVER_LOCK}))
