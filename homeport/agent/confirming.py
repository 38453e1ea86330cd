"""
What the server has confirmed since the host's boot: only such a machine does the hook let start.

After a power cut another side may own the machine, and nobody here knows. So a note of a machine
that may run asks for a mark in a folder that a boot empties, and the agent puts it there when an
order or an assignment of the server says that this side owns the machine. Within one boot a mark
holds although the server is away.
"""

from __future__ import annotations

from pathlib import Path

from homeport.agent.means import Means
from homeport.agent.source import settle
from homeport.agent.work import Work
from homeport.errors import TransientError, describe, kind_of
from homeport.model.item import Role
from homeport.model.ledger import ItemLedger
from homeport.model.machine import PowerState
from homeport.model.messages import Assignment

OWNS = frozenset({Role.SOURCE, Role.RUNNING})


def confirm(means: Means, item: str) -> bool:
    """Put the item's mark; True if there was none, as after a boot. Costs nothing where none is."""
    if means.confirmed is None:
        return False
    mark = means.confirmed / item
    if mark.exists():
        return False
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return True


def after_boot(means: Means, item: str) -> None:
    """
    Put the item's mark; if there was none, as after a boot, its start is due until `start_again`.

    That is on disk first: whoever finds the mark without it takes the start for done.
    """
    if means.confirmed is None or (means.confirmed / item).exists():
        return
    means.confirmed.mkdir(parents=True, exist_ok=True)
    _due(means.confirmed, item).touch()
    confirm(means, item)


def is_start_due(means: Means, item: str) -> bool:
    """Whether the machine has not been started yet since the host's boot, where it is to be."""
    return means.confirmed is not None and _due(means.confirmed, item).exists()


def revoke(means: Means, item: str) -> None:
    """Take the mark away: this side owns the machine no longer. Done twice is done once."""
    if means.confirmed is not None:
        (means.confirmed / item).unlink(missing_ok=True)
        _due(means.confirmed, item).unlink(missing_ok=True)


def unstarted(machine: str, error: Exception) -> dict[str, str]:
    """What is told of a machine that is to run and could not be started; it is tried again."""
    told = describe(error)
    message = f"{machine} was to start after the host's boot, and has not: {told['message']}"
    return {**told, "message": message, "kind": kind_of(TransientError(""))}


def _due(folder: Path, item: str) -> Path:
    return folder / f"{item}.start"


def owned(ledger: ItemLedger, assignment: Assignment) -> bool:
    """Whether the server's word and the ledger agree that this side owns the machine."""
    current = assignment.epoch >= ledger.epoch
    return current and assignment.role in OWNS and ledger.role in OWNS


def start_again(work: Work) -> bool:
    """
    Start the machine after the host's boot, if the user had it start by itself; True if started.

    Called while its start is due; done, it is due no longer. A machine that the server confirms
    for the first time in its protection has seen no boot, and stays as it is.
    """
    held, means = work.held, work.means
    known = held.ledger.confirmed
    held.save(confirmed=True)
    off = means.compute.state(held.ledger.machine) in {PowerState.OFF, PowerState.CRASHED}
    starts = known and held.ledger.autostart and off
    if starts:
        settle(held, means)
        means.compute.start(held.ledger.machine)
    if means.confirmed is not None:
        _due(means.confirmed, held.item).unlink(missing_ok=True)
    return starts
