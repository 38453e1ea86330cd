"""One transaction as the repositories share it, and the few statements they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import CursorResult, RowMapping, Table, UpdateBase
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from sqlalchemy.sql.base import Executable

from homeport.model.ids import HostName


@dataclass(kw_only=True)
class Transaction:
    """
    A session with the moment it stands for.

    `touched` are the hosts whose news changed; whoever commits tells them.
    """

    session: Session
    now: datetime
    touched: set[HostName] = field(default_factory=set)

    def change(self, statement: UpdateBase) -> int:
        """Run an insert, update or delete; the number of rows it met."""
        result = self.session.execute(statement)
        assert isinstance(result, CursorResult)
        return result.rowcount

    def row(self, statement: Executable) -> RowMapping | None:
        """The first row, by column name, or None."""
        return self.session.execute(statement).mappings().first()

    def rows(self, statement: Executable) -> Sequence[RowMapping]:
        """All rows, by column name."""
        return self.session.execute(statement).mappings().all()

    def put(self, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Insert the row of that key, or update the one there is."""
        insert = self._insert(table).values({**key, **values})
        self.session.execute(
            insert.on_conflict_do_update(index_elements=list(key), set_=dict(values))
        )

    def put_new(self, table: Table, values: Mapping[str, Any]) -> bool:
        """Insert a row unless one of its key is there; whether it was inserted."""
        insert = self._insert(table).values(dict(values)).on_conflict_do_nothing()
        # drivers do not agree on the number of rows an insert has met
        made = self.session.execute(insert.returning(next(iter(table.primary_key.columns))))
        return made.first() is not None

    def _insert(self, table: Table) -> Any:
        if self.session.connection().dialect.name == "sqlite":
            return sqlite.insert(table)
        return postgresql.insert(table)
