"""Operations of agents: what was asked of a host once, and what became of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Select, and_, or_, select, true, update

from homeport.catalog.tables import jobs, operations
from homeport.catalog.transaction import Transaction
from homeport.errors import CancelledError, TransientError
from homeport.model.codec import to_plain
from homeport.model.ids import HostName, ItemId, JobId, OperationId
from homeport.model.messages import OperationOrder, OperationReport, OperationState, Progress
from homeport.orchestration.ports import Outcome
from homeport.orchestration.rows import Order, Pulse

S = OperationState
UNFINISHED = (S.WAITING, S.RUNNING)
ENDS = (S.DONE, S.FAILED)
LEFT = "left:"
"""Begins the id of an order that nobody waits for."""


class HostSilentError(TransientError):
    """An operation whose host has not been heard for its whole lease."""

    code = "HostSilent"

    def __init__(self, host: HostName, reason: str) -> None:
        super().__init__(
            f"Host {host} does not answer.",
            cause=reason,
            remedy="Look whether the host and its agent run and reach the server, then start the "
            "job again. What it does finish is recorded when it is back.",
        )
        self.host = host


class OperationRepository:
    """The rows of `operations`."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def put(self, order: Order) -> None:
        """Make the row, unless it is there. A cancelled job's is made as ended, if not shielded."""
        row = {
            "id": order.order.id,
            "job": order.job,
            "attempt": order.attempt,
            "task": order.task,
            "item": order.order.item,
            "host": order.host,
            "kind": order.order.kind,
            "args": order.order.args,
            "state": S.WAITING,
            "shielded": order.shielded,
            "created_at": self._transaction.now,
        }
        if order.job is not None and not order.shielded and self._cancelled(order.job):
            row |= {"cancel_asked": True, **self._cancelled_end()}
        if self._transaction.put_new(operations, row):
            self._transaction.touched.add(order.host)

    def leave(self, order: Order) -> None:
        """An order nobody waits for, unless an equal one is open or was done."""
        mine = self._left(order.order.item).where(
            operations.c.host == order.host, operations.c.kind == order.order.kind
        )
        newest = self._transaction.row(mine)
        if newest is None or newest["state"] is S.FAILED:
            self.put(order)

    def left(self, item: ItemId) -> dict[HostName, Outcome | None]:
        """What was left for hosts, and how the newest of each ended."""
        rows = self._transaction.rows(self._left(item))
        return {row["host"]: _outcome(row) for row in reversed(rows)}

    def outcome(self, operation: OperationId) -> Outcome | None:
        """How it ended; None while it has not. What was lost stays so for whoever waited."""
        row = self._transaction.row(select(operations).where(operations.c.id == operation))
        return None if row is None else _outcome(row)

    def pulses(self, wanted: Collection[OperationId]) -> Mapping[OperationId, Pulse]:
        """Many at once; those that have no row are left out."""
        columns = select(
            operations.c.id,
            operations.c.state,
            operations.c.heard,
            and_(operations.c.cancel_asked, operations.c.delivered_at.is_(None)).label("free"),
        )
        rows = self._transaction.rows(columns.where(operations.c.id.in_(wanted)))
        return {
            row["id"]: Pulse(state=row["state"], heard=row["heard"], withdrawable=row["free"])
            for row in rows
        }

    def lose(self, operation: OperationId, *, heard: int, reason: str) -> bool:
        """Its host is silent: its job goes on without it, unless it was heard meanwhile."""
        host = self._transaction.session.scalar(
            select(operations.c.host).where(operations.c.id == operation)
        )
        error = HostSilentError(host or HostName("?"), reason).as_dict()
        silent = update(operations).where(
            operations.c.id == operation,
            operations.c.heard == heard,
            operations.c.state.in_(UNFINISHED),
        )
        lost = {"state": S.LOST, "error": error, "lost_at": self._transaction.now}
        return self._transaction.change(silent.values({**lost, "cancel_asked": True})) == 1

    def withdraw(self, operation: OperationId) -> bool:
        """End a cancelled one that was never given to its host."""
        unsent = update(operations).where(
            operations.c.id == operation,
            operations.c.state == S.WAITING,
            operations.c.delivered_at.is_(None),
        )
        return self._transaction.change(unsent.values(self._cancelled_end())) == 1

    def abandon(self, operation: OperationId) -> None:
        """Ask a question's operation to stop: nobody waits for its answer any more."""
        self._ask_stop(operations.c.id == operation)

    def ask_cancel(self, job: JobId) -> None:
        """Ask what the job has begun and not shielded to stop; the hosts are told."""
        self._ask_stop(and_(operations.c.job == job, operations.c.shielded.is_(False)))

    def hear(self, host: HostName, named: Collection[OperationId]) -> None:
        """The host has named these as its own: their leases begin anew."""
        if named:
            mine = update(operations).where(operations.c.host == host, operations.c.id.in_(named))
            self._transaction.change(mine.values(heard=operations.c.heard + 1))

    def orders(self, host: HostName, known: Collection[OperationId]) -> tuple[OperationOrder, ...]:
        """What the host is to do and does not know yet, oldest first."""
        wanted = select(operations).where(
            operations.c.host == host,
            operations.c.state.in_(UNFINISHED),
            operations.c.id.not_in(known) if known else true(),
            or_(operations.c.cancel_asked.is_(False), operations.c.delivered_at.is_not(None)),
        )
        rows = self._transaction.rows(wanted.order_by(operations.c.created_at, operations.c.id))
        return tuple(
            OperationOrder(id=row["id"], kind=row["kind"], item=row["item"], args=row["args"])
            for row in rows
        )

    def deliver(self, given: Collection[OperationId]) -> None:
        """These are put into an answer now."""
        fresh = update(operations).where(
            operations.c.id.in_(given), operations.c.delivered_at.is_(None)
        )
        self._transaction.change(fresh.values(delivered_at=self._transaction.now))

    def to_stop(self, host: HostName, named: Collection[OperationId]) -> tuple[OperationId, ...]:
        """Those of the named ones that are to stop: cancelled, or lost to their job."""
        wanted = select(operations.c.id).where(*_to_stop(host, named))
        return tuple(self._transaction.session.scalars(wanted.order_by(operations.c.id)))

    def untold(self, host: HostName, named: Collection[OperationId]) -> bool:
        """Whether one is to stop that the host was not told of yet."""
        wanted = select(operations.c.id).where(
            *_to_stop(host, named), operations.c.cancel_told.is_(False)
        )
        return self._transaction.session.scalar(wanted.limit(1)) is not None

    def tell(self, told: Collection[OperationId]) -> None:
        """The host is told now to stop these."""
        if told:
            mine = update(operations).where(operations.c.id.in_(told))
            self._transaction.change(mine.values(cancel_told=True))

    def record(self, host: HostName, report: OperationReport) -> bool:
        """
        Write down progress or an end; True when an end is on record.

        An end that comes after the operation was lost is recorded as what it is. What this vault
        does not know (it was restored from a backup) counts as recorded, or it would be repeated
        for ever.
        """
        self.hear(host, [report.id])
        mine = operations.c.id == report.id, operations.c.host == host
        if report.state in ENDS:
            open_or_lost = operations.c.state.not_in(ENDS)
            self._transaction.change(
                update(operations).where(*mine, open_or_lost).values(self._end(report))
            )
            return True
        going_on = update(operations).where(*mine, operations.c.state.in_(UNFINISHED))
        progress = None if report.progress is None else to_plain(Progress, report.progress)
        self._transaction.change(going_on.values(state=S.RUNNING, progress=progress))
        return False

    def item_of(self, operation: OperationId) -> ItemId | None:
        """The item an operation is on; None for none, and for one that is not known."""
        found = select(operations.c.item).where(operations.c.id == operation)
        item: ItemId | None = self._transaction.session.scalar(found)
        return item

    def waiting_hosts(self, hosts: Collection[HostName]) -> set[HostName]:
        """Those of the hosts that have something undelivered to do or to stop."""
        undelivered = and_(
            operations.c.state == S.WAITING,
            operations.c.delivered_at.is_(None),
            operations.c.cancel_asked.is_(False),
        )
        untold = and_(operations.c.cancel_asked.is_(True), operations.c.cancel_told.is_(False))
        wanted: Select[Any] = select(operations.c.host).where(
            operations.c.host.in_(hosts),
            operations.c.state.in_(UNFINISHED),
            or_(undelivered, untold),
        )
        return set(self._transaction.session.scalars(wanted.distinct()))

    def _left(self, item: ItemId | None) -> Select[Any]:
        wanted = select(operations).where(operations.c.item == item)
        left = wanted.where(operations.c.id.startswith(LEFT, autoescape=True))
        return left.order_by(operations.c.created_at.desc())

    def _ask_stop(self, which: ColumnElement[bool]) -> None:
        condition = which, operations.c.state.in_(UNFINISHED)
        hosts = self._transaction.session.scalars(select(operations.c.host).where(*condition))
        self._transaction.touched.update(hosts)
        self._transaction.change(update(operations).where(*condition).values(cancel_asked=True))

    def _cancelled(self, job: JobId) -> bool:
        asked = select(jobs.c.cancel_asked).where(jobs.c.id == job)
        return bool(self._transaction.session.scalar(asked))

    def _cancelled_end(self) -> dict[str, Any]:
        error = CancelledError(
            "The operation was not started.", cause="Its job was cancelled before."
        )
        return {"state": S.FAILED, "error": error.as_dict(), "ended_at": self._transaction.now}

    def _end(self, report: OperationReport) -> dict[str, Any]:
        ended: dict[str, Any] = {
            "state": report.state,
            "result": report.result,
            "error": report.error,
            "ended_at": self._transaction.now,
        }
        if report.progress is not None:
            ended["progress"] = to_plain(Progress, report.progress)
        return ended


def _outcome(row: RowMapping) -> Outcome | None:
    if row["state"] in UNFINISHED:
        return None
    return Outcome(state=row["state"], result=row["result"], error=row["error"])


def _to_stop(
    host: HostName, named: Collection[OperationId]
) -> tuple[ColumnElement[bool], ColumnElement[bool], ColumnElement[bool]]:
    return (
        operations.c.host == host,
        operations.c.id.in_(named),
        operations.c.cancel_asked.is_(True),
    )
