"""
The journal of operations: an order is on disk before it is begun, its end before it is reported.

After a crash what was begun is run again (handlers look before they act), and what had ended is
reported again. The server saying that it has recorded an end is what removes the entry.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

from blake3 import blake3

from homeport.agent.ledgers import sync_folder, write_durably
from homeport.errors import HomeportError
from homeport.model.codec import from_json, to_json
from homeport.model.messages import OperationOrder, OperationReport, OperationState, Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An order and how it stands here."""

    order: OperationOrder
    report: OperationReport


@dataclass
class Journal:
    """The operations this host has taken; owner of its folder. Safe for several threads."""

    folder: Path
    _entries: dict[str, Entry] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self) -> None:
        """Read what an earlier life left; an unreadable entry was never begun."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self.folder.glob("*.json")):
            try:
                entry = from_json(Entry, path.read_bytes())
            except HomeportError:
                path.unlink()
                continue
            self._entries[entry.order.id] = entry

    def take(self, order: OperationOrder) -> bool:
        """Write an order down; False when it is known already: it is not to be begun twice."""
        with self._lock:
            if order.id in self._entries:
                return False
            report = OperationReport(id=order.id, state=OperationState.RUNNING)
            self._write(Entry(order=order, report=report))
            return True

    def end(self, identity: str, report: OperationReport) -> None:
        """Write down how an operation ended."""
        with self._lock:
            entry = self._entries.get(identity)
            if entry is not None:
                self._write(replace(entry, report=report))

    def progress(self, identity: str, progress: Progress) -> None:
        """Remember progress for the next report; it is not written to disk."""
        with self._lock:
            entry = self._entries.get(identity)
            if entry is not None and entry.report.state is OperationState.RUNNING:
                report = replace(entry.report, progress=progress)
                self._entries[identity] = replace(entry, report=report)

    def recorded(self, identity: str) -> None:
        """The server has an operation's end: forget it."""
        with self._lock:
            entry = self._entries.get(identity)
            if entry is None or entry.report.state is OperationState.RUNNING:
                return
            del self._entries[identity]
            self._path(identity).unlink(missing_ok=True)
            sync_folder(self.folder)

    def open_orders(self) -> list[OperationOrder]:
        """Orders that have not ended, oldest first by id."""
        with self._lock:
            return [
                entry.order
                for entry in self._entries.values()
                if entry.report.state is OperationState.RUNNING
            ]

    def reports(self) -> tuple[OperationReport, ...]:
        """Everything the server is to be told."""
        with self._lock:
            return tuple(entry.report for entry in self._entries.values())

    def _write(self, entry: Entry) -> None:
        write_durably(self._path(entry.order.id), to_json(Entry, entry))
        self._entries[entry.order.id] = entry

    def _path(self, identity: str) -> Path:
        return self.folder / f"{blake3(identity.encode()).hexdigest()[:32]}.json"
