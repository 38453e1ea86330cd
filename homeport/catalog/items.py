"""Items: which side runs a machine, its state, its epochs, and the one job at work on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping, delete, func, or_, select, update

from homeport.catalog.errors import (
    EpochLoweredError,
    JobRunningError,
    NameTakenError,
    UnknownRowError,
)
from homeport.catalog.tables import epochs, items, jobs
from homeport.catalog.transaction import Transaction
from homeport.model.ids import ItemId, JobId
from homeport.model.item import ReplicatedItem, Seat, Side
from homeport.model.protection import Event, State, advance
from homeport.orchestration.ports import ItemRow, Json

SEATS = {"primary": Side.PRIMARY, "recovery": Side.RECOVERY}
ARRIVALS = frozenset({Event.SEEDED, Event.RESYNCED})
"""Events after which protection begins anew."""


class ItemRepository:
    """The rows of `items` and `epochs`."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def all(self) -> tuple[ItemRow, ...]:
        """All items, by name."""
        rows = self._transaction.rows(select(items).order_by(items.c.name))
        return tuple(item_of(row) for row in rows)

    def get(self, item: ItemId) -> ItemRow:
        """UnknownRowError when there is none."""
        return self._one(select(items).where(items.c.id == item), item)

    def known(self, item: ItemId) -> ItemRow | None:
        """By id; None when there is none."""
        row = self._transaction.row(select(items).where(items.c.id == item))
        return None if row is None else item_of(row)

    def find(self, key: str) -> ItemRow:
        """By id, or by name: an id is never another item's name by chance."""
        wanted = select(items).where(or_(items.c.id == key, items.c.name == key))
        return self._one(wanted.order_by(items.c.id != key), key)

    def _one(self, wanted: Any, key: str) -> ItemRow:
        row = self._transaction.row(wanted)
        if row is None:
            raise UnknownRowError("item", key, "homeport items")
        return item_of(row)

    def add(self, item: ReplicatedItem, *, state: State, facts: Mapping[str, Json]) -> None:
        """A new row; NameTakenError when its name or id is in use."""
        row = {**_columns(item), "id": item.id, "name": item.name}
        if not self._transaction.put_new(items, {**row, "state": state, "facts": dict(facts)}):
            raise NameTakenError("item", item.name)

    def put(self, item: ReplicatedItem) -> None:
        """Write sides, epoch and policy; EpochLoweredError when the row's epoch is higher."""
        guarded = update(items).where(items.c.id == item.id, items.c.epoch <= item.epoch)
        if self._transaction.change(guarded.values(_columns(item))) == 0:
            has = self.get(item.id).item.epoch
            raise EpochLoweredError(item.id, has=has, offered=item.epoch)

    def move(self, item: ItemId, event: Event, *, seen: State) -> bool:
        """One guarded statement: False when the item is no longer in `seen`."""
        values: dict[str, Any] = {"state": advance(seen, event)}
        if event in ARRIVALS:
            values["protected_at"] = self._transaction.now
        guarded = update(items).where(items.c.id == item, items.c.state == seen)
        return self._transaction.change(guarded.values(values)) == 1

    def put_facts(self, item: ItemId, facts: Mapping[str, Json]) -> None:
        """Merge; None removes a key."""
        merged = {**self.get(item).facts, **facts}
        kept = {key: value for key, value in merged.items() if value is not None}
        self._transaction.change(update(items).where(items.c.id == item).values(facts=kept))

    def remove(self, item: ItemId) -> None:
        """Forget the row; its epochs stay, so that none is given twice."""
        self._transaction.change(delete(items).where(items.c.id == item))

    def raise_epoch(self, item: ItemId, job: JobId, attempt: int) -> int:
        """The epoch of this job's attempt, made at the first asking."""
        mine = (epochs.c.item == item, epochs.c.job == job, epochs.c.attempt == attempt)
        found: int | None = self._transaction.session.scalar(select(epochs.c.epoch).where(*mine))
        if found is not None:
            return found
        highest = select(func.max(epochs.c.epoch)).where(epochs.c.item == item)
        given: int | None = self._transaction.session.scalar(highest)
        epoch = max(given or 0, self.get(item).item.epoch) + 1
        row = {"item": item, "epoch": epoch, "job": job, "attempt": attempt}
        self._transaction.session.execute(epochs.insert().values(row))
        return epoch

    def claim(self, item: ItemId, job: JobId) -> None:
        """Put a job to work on the item; JobRunningError names the one that is already."""
        free = update(items).where(items.c.id == item, items.c.job.is_(None)).values(job=job)
        if self._transaction.change(free) == 1:
            return
        row = self.get(item)
        at_work = select(jobs.c.id, jobs.c.kind).join(items, items.c.job == jobs.c.id)
        other = self._transaction.row(at_work.where(items.c.id == item))
        assert other is not None, f"item {item} names a job that has no row"
        raise JobRunningError(row.item.name, other["id"], other["kind"].value)

    def release(self, job: JobId) -> None:
        """The job is no longer at work on its item."""
        self._transaction.change(update(items).where(items.c.job == job).values(job=None))


def _columns(item: ReplicatedItem) -> dict[str, Any]:
    seats = {
        f"{side}_{field}": getattr(item.seat(SEATS[side]), field)
        for side in SEATS
        for field in ("site", "host", "machine", "pool")
    }
    return {"active": item.active, "epoch": item.epoch, "policy": item.policy, **seats}


def _seat(row: RowMapping, side: str) -> Seat:
    return Seat(
        site=row[f"{side}_site"],
        host=row[f"{side}_host"],
        machine=row[f"{side}_machine"],
        pool=row[f"{side}_pool"],
    )


def item_of(row: RowMapping) -> ItemRow:
    """The value of a row of `items`."""
    item = ReplicatedItem(
        id=row["id"],
        name=row["name"],
        primary=_seat(row, "primary"),
        recovery=_seat(row, "recovery"),
        active=row["active"],
        epoch=row["epoch"],
        policy=row["policy"],
    )
    return ItemRow(
        item=item, state=row["state"], protected_at=row["protected_at"], facts=row["facts"]
    )
