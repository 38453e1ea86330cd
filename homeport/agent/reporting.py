"""What an agent tells of its items, built from their ledgers: nothing here is remembered."""

from __future__ import annotations

from homeport.agent import guard
from homeport.agent.aside import unsent_reports
from homeport.agent.room import room_problem
from homeport.agent.shelf import Shelf
from homeport.agent.target import reports
from homeport.errors import HomeportError
from homeport.model.item import Role
from homeport.model.ledger import ItemLedger
from homeport.model.messages import ItemReport


def report_items(shelf: Shelf) -> tuple[ItemReport, ...]:
    """One report for each item of this host."""
    found = []
    for item in shelf.items():
        try:
            found.append(report_item(shelf, item))
        except (HomeportError, OSError):
            continue  # being released at this moment, or its pool is not mounted: said elsewhere
    return tuple(found)


def report_item(shelf: Shelf, item: str) -> ItemReport:
    """How one item stands on this host."""
    held, state = shelf.peek(item), shelf.state(item)
    ledger = held.ledger
    told = guard.told_of(ledger, state, shelf.means.clock.now())
    return ItemReport(
        item=ledger.item,
        role=ledger.role,
        epoch=ledger.epoch,
        phase=_phase(ledger, state.phase),
        captured=ledger.newest_captured if ledger.role is not Role.TARGET else None,
        landed=ledger.acknowledged if ledger.role is Role.SOURCE else ledger.stands_at,
        points=reports(ledger),
        unsent=unsent_reports(held),
        progress=state.progress,
        problem=state.problem or told or room_problem(held.folder.parent.parent, ledger.role),
        backlog=_backlog(ledger),
        bytes_moved=ledger.bytes_moved,
        ledger=ledger.made,
    )


def _phase(ledger: ItemLedger, phase: str) -> str:
    if ledger.role is Role.RUNNING:
        return "running"
    if ledger.role is Role.FENCED:
        return "fenced"
    return "resyncing" if ledger.resyncing else phase


def _backlog(ledger: ItemLedger) -> int:
    """Bytes captured and not yet landed; the active layer is not counted: it is no point yet."""
    if ledger.role is not Role.SOURCE:
        return 0
    waiting = {captured.position for captured in ledger.captured}
    return sum(
        layer.changed
        for chain in ledger.disks
        for layer in chain.layers
        if layer.position in waiting
    )
