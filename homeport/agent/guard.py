"""
The guard: what was done from outside to an item's machine is noticed, told, and put right.

A hook can deny a start and nothing else, so every few seconds the agent compares what libvirt has
with what the ledger means to be there. A machine that was undefined is defined again, with its
disks, its note and its variables; a fenced one gets its note back, its disks and its immutable
files; autostart goes off. What Homeport itself takes away does not come back: `guarded` is taken
out of the ledger before. What only a person can judge is told and left: another's lock, a machine
that was renamed, a fenced one that was started with the hook away.

`look` reads, `oddities` decides, and `put_right` acts, with the item in hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from homeport.agent import immutable
from homeport.agent.definitions import define_again
from homeport.agent.held import HeldItem
from homeport.agent.ledgers import LEDGER_FILE, UnknownItemError
from homeport.agent.machine import forbid, foreign_lock
from homeport.agent.means import Means
from homeport.agent.oddities import (
    OWNS,
    TOLD,
    WORDS,
    Odd,
    Seen,
    is_locked,
    oddities,
    problem_of,
)
from homeport.agent.shelf import Shelf
from homeport.agent.source import settle
from homeport.agent.work import CycleState, Work
from homeport.clock import has_passed
from homeport.errors import HomeportError, RefusedError, describe
from homeport.model.host import HostInventory, MachineFacts, UnknownMachineError
from homeport.model.item import Role
from homeport.model.ledger import ItemLedger, Noticed

NOTICE_KEPT = timedelta(hours=1)
"""How long what was put right is shown with the item; the agent's log has it for good."""
RETRY = 60.0
"""Seconds before what could not be put right is tried again."""

log = structlog.get_logger("homeport.agent")


def look(held: HeldItem, means: Means, state: CycleState, inventory: HostInventory) -> Seen:
    """
    The item's machine and files as they are; nothing is changed.

    Raises:
        UnknownItemError: its ledger is away or gone. What it said last is nothing to go by: another
            tool may be moving the pool, and what is put right then would be taken for the user's.
    """
    ledger = held.ledger
    if not (held.folder / LEDGER_FILE).exists():
        raise UnknownItemError(held.item)
    flags = state.flagless or immutable.is_kept(held, means)
    by_name = next((one for one in inventory.machines if one.name == ledger.machine), None)
    uuid = ledger.definition.uuid
    by_uuid = next((one for one in inventory.machines if one.uuid == uuid), None)
    found = by_uuid or (by_name if _has_our_note(held, means, by_name) else None)
    if found is None:
        return Seen(name=None, taken=by_name is not None, flags=flags)
    seen = Seen(
        name=found.name,
        state=found.state,
        persistent=found.persistent,
        autostart=found.autostart,
        settled=state.settled and ledger.rotating is None and ledger.committing is None,
        flags=flags,
    )
    closer = is_locked(ledger) or ledger.fencing
    return _looked_closer(held, means, seen) if closer else seen


def put_right(work: Work) -> tuple[Odd, ...]:
    """Look again, with the item in hand, and put right what can be; what was found, as a whole."""
    held, means, state = work.held, work.means, work.state
    seen = look(held, means, state, means.compute.inventory())
    found = oddities(held.ledger, seen)
    before = held.ledger
    for odd in found:
        if odd not in TOLD:
            FIXES[odd](work, seen)
    news = [odd for odd in found if odd in WORDS and odd not in TOLD]
    if news:
        problem = problem_of(news[0], before, seen)
        problem["message"] = " ".join(problem_of(odd, before, seen)["message"] for odd in news)
        held.save(noticed=Noticed(problem=problem, at=means.clock.now()))
        log.warning("put_right", item=held.item, **problem)
    return found


def go_round(shelf: Shelf, mend: Callable[[str], None]) -> None:
    """Look at every item once; `mend` is called with each that `put_right` has work for."""
    means = shelf.means
    inventory = means.compute.inventory()
    for item in shelf.items():
        try:
            held, state = shelf.peek(item), shelf.state(item)
            seen = look(held, means, state, inventory)
            found = oddities(held.ledger, seen)
            if TOLD & set(found):  # told without a look with the item in hand: not what has passed
                seen = look(held, means, state, means.compute.inventory())
                found = oddities(held.ledger, seen)
        except (HomeportError, OSError) as error:
            log.debug("not_looked_at", item=item, message=str(error))
            continue
        told = next((odd for odd in found if odd in TOLD), None)
        if state.guard_at <= means.clock.monotonic():
            state.standing = problem_of(told, held.ledger, seen) if told else None
            if set(found) - TOLD:
                mend(item)


def mend(work: Work) -> None:
    """`put_right`, its failure told with the item; it is tried again after `RETRY`."""
    try:
        put_right(work)
    except (HomeportError, OSError) as error:
        work.state.standing = describe(error)
        work.state.guard_at = work.means.clock.monotonic() + RETRY
        log.warning("not_put_right", item=work.held.item, **work.state.standing)


def told_of(ledger: ItemLedger, state: CycleState, now: datetime) -> dict[str, str] | None:
    """What is to be shown with the item: what stands, else what was put right lately."""
    if state.standing is not None:
        return state.standing
    if state.unstarted is not None and ledger.role in OWNS:
        return state.unstarted
    noticed = ledger.noticed
    if noticed is None or has_passed(NOTICE_KEPT, since=noticed.at, now=now):
        return None
    return noticed.problem


def _has_our_note(held: HeldItem, means: Means, facts: MachineFacts | None) -> bool:
    if facts is None:
        return False
    try:
        note = means.compute.note(facts.name)
    except UnknownMachineError:
        return False
    return note is not None and note.item == held.item


def _looked_closer(held: HeldItem, means: Means, seen: Seen) -> Seen:
    """With what only a call of its own tells: the note, and the disks of a fenced machine."""
    ledger, name = held.ledger, seen.name or ""
    try:
        note = means.compute.note(name)
        disks = means.compute.sources(name).persistent if ledger.role is Role.FENCED else {}
    except UnknownMachineError:
        return seen  # gone since the inventory: the next look sees it
    wanted = {c.disk.target: str(held.path(c.active)) for c in ledger.disks if c.active}
    moved = any(disks.get(target) != path for target, path in wanted.items())
    return replace(
        seen,
        foreign=foreign_lock(held, note, ledger.lock) or "",
        locked=note is not None and not note.may_start and note.lock == (ledger.lock or None),
        moved=bool(disks) and moved and ledger.rotating is None,
    )


# -- how each is put right --


def _know(work: Work, _seen: Seen) -> None:
    work.held.save(guarded=True)


def _lock_again(work: Work, seen: Seen) -> None:
    """
    Put the note back. One that runs without it was started by taking it away; it is switched off,
    as its assignment says. So is one whose fence had a failure or a crash in it.
    """
    held = work.held
    held.save(fencing=True)
    forbid(held, work.means, seen.name or "", lock=held.ledger.lock)
    held.save(fencing=False)


def _point_again(work: Work, seen: Seen) -> None:
    """The ledger's files again; a definition that lacks a disk is made again as a whole."""
    chains = [chain for chain in work.held.ledger.disks if chain.active]
    paths = {chain.disk.target: work.held.path(chain.active or "") for chain in chains}
    formats = dict.fromkeys(paths, "qcow2")
    try:
        work.means.compute.set_sources(seen.name or "", paths, formats=formats)
    except RefusedError:
        define_again(work.held, work.means)


def _no_autostart(work: Work, seen: Seen) -> None:
    """Off again; what the user wants of a machine of the owning side is given back at release."""
    if work.held.ledger.role in OWNS:
        work.held.save(autostart=True)
    work.means.compute.set_autostart(seen.name or "", on=False)


def _settle(work: Work, _seen: Seen) -> None:
    settle(work.held, work.means)
    work.state.settled = True


def _keep_files(work: Work, _seen: Seen) -> None:
    if not immutable.keep(work.held, work.means):
        work.state.flagless = True
        folder = str(Path(work.held.folder).parent.parent)
        log.info("no_immutable_files", item=work.held.item, folder=folder)


FIXES: Mapping[Odd, Callable[[Work, Seen], None]] = {
    Odd.UNKNOWN: _know,
    Odd.UNFENCED: _lock_again,
    Odd.UNDEFINED: lambda work, _seen: define_again(work.held, work.means),
    Odd.UNLOCKED: _lock_again,
    Odd.MOVED: _point_again,
    Odd.AUTOSTART: _no_autostart,
    Odd.UNSETTLED: _settle,
    Odd.FLAGS: _keep_files,
}
