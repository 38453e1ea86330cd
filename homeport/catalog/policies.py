"""Replication policies, each by its name."""

from __future__ import annotations

from sqlalchemy import select

from homeport.catalog.errors import UnknownRowError
from homeport.catalog.tables import policies
from homeport.catalog.transaction import Transaction
from homeport.model.codec import from_plain, to_plain
from homeport.model.policy import ReplicationPolicy


class PolicyRepository:
    """The rows of `policies`."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def all(self) -> tuple[ReplicationPolicy, ...]:
        """All policies, by name."""
        rows = self._transaction.rows(select(policies).order_by(policies.c.name))
        return tuple(from_plain(ReplicationPolicy, row["policy"]) for row in rows)

    def get(self, name: str) -> ReplicationPolicy:
        """UnknownRowError when there is none."""
        row = self._transaction.row(select(policies).where(policies.c.name == name))
        if row is None:
            raise UnknownRowError("policy", name, "homeport policy list")
        return from_plain(ReplicationPolicy, row["policy"])

    def save(self, policy: ReplicationPolicy) -> None:
        """Make or replace it."""
        plain = to_plain(ReplicationPolicy, policy)
        self._transaction.put(policies, {"name": policy.name}, {"policy": plain})
