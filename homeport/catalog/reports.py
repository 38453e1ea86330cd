"""What agents report of items, and the union of their ledgers, kept after an item is gone."""

from __future__ import annotations

from blake3 import blake3
from sqlalchemy import delete, select

from homeport.catalog.tables import item_reports, items, ledger
from homeport.catalog.transaction import Transaction
from homeport.model.codec import from_plain, to_json, to_plain
from homeport.model.ids import HostName, ItemId
from homeport.model.messages import ItemReport, LedgerEntry
from homeport.orchestration.books import LedgerRow


class ReportRepository:
    """The rows of `item_reports` and `ledger`."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def get(self, item: ItemId, host: HostName) -> ItemReport | None:
        """The newest report of one host on an item."""
        mine = item_reports.c.item == item, item_reports.c.host == host
        row = self._transaction.row(select(item_reports.c.report).where(*mine))
        return None if row is None else from_plain(ItemReport, row["report"])

    def put(self, host: HostName, report: ItemReport) -> None:
        """Replace the host's report; an item that is gone keeps only its ledger's lines."""
        digest = blake3(to_json(tuple[LedgerEntry, ...], report.ledger)).hexdigest()
        mine = item_reports.c.item == report.item, item_reports.c.host == host
        found = select(item_reports.c.ledger_digest).where(*mine)
        if self._transaction.session.scalar(found) != digest:
            self.enter(report.item, host, report.ledger)
        known = select(items.c.id).where(items.c.id == report.item)
        if self._transaction.session.scalar(known) is not None:
            self._put(host, report, digest)

    def remove(self, item: ItemId) -> None:
        """Forget all reports on an item; its ledger stays."""
        self._transaction.change(delete(item_reports).where(item_reports.c.item == item))

    def ledger(self, item: ItemId | None = None) -> tuple[LedgerRow, ...]:
        """What was made and whether it is gone; of one item, or of all, oldest first."""
        wanted = select(ledger).order_by(ledger.c.made_at, ledger.c.host, ledger.c.name)
        if item is not None:
            wanted = wanted.where(ledger.c.item == item)
        return tuple(
            LedgerRow(
                item=row["item"],
                host=row["host"],
                entry=LedgerEntry(
                    kind=row["kind"],
                    name=row["name"],
                    reason=row["reason"],
                    made_at=row["made_at"],
                    gone_at=row["gone_at"],
                ),
            )
            for row in self._transaction.rows(wanted)
        )

    def _put(self, host: HostName, report: ItemReport, digest: str) -> None:
        values = {
            "received_at": self._transaction.now,
            "role": report.role.value,
            "epoch": report.epoch,
            "phase": report.phase,
            "landed": None if report.landed is None else str(report.landed),
            "backlog": report.backlog,
            "ledger_digest": digest,
            "report": to_plain(ItemReport, report),
        }
        self._transaction.put(item_reports, {"item": report.item, "host": host}, values)

    def enter(self, item: ItemId, host: HostName, entries: tuple[LedgerEntry, ...]) -> None:
        """Add a host's entries on an item to the ledger, or what has become of them."""
        for entry in entries:
            key = {
                "item": item,
                "host": host,
                "kind": entry.kind,
                "name": entry.name,
                "made_at": entry.made_at,
            }
            self._transaction.put(ledger, key, {"reason": entry.reason, "gone_at": entry.gone_at})
