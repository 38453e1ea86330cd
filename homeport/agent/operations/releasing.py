"""
Release: everything Homeport made here for an item goes, and what is the user's own stays.

The side that owns the machine keeps it, flattened into its base under its original name. A side
whose machine was the user's before Homeport came keeps that machine and its disks, switched off.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from homeport.agent.aside import expire_unsent, give_back_whole, make_self_standing
from homeport.agent.bases import name_bases
from homeport.agent.committing import finish_commit, fits_live
from homeport.agent.held import HeldItem
from homeport.agent.immutable import lift
from homeport.agent.ledgers import UnknownItemError
from homeport.agent.machine import delete_own, is_own
from homeport.agent.means import Means
from homeport.agent.moving import (
    LEFT,
    go_back,
    left_items,
    may_go_back,
    remove_folder,
    remove_strays,
)
from homeport.agent.operations.order import Bench
from homeport.agent.operations.testing import test_cleanup
from homeport.agent.passages import close_passages
from homeport.agent.places import files_left, is_away, is_here
from homeport.agent.resources import NETWORK, POOL, open_entries, remove_pool_folder, take_away
from homeport.agent.rotation import RUNNING, recover_rotation
from homeport.agent.unmanaged import drop_copy, give_back
from homeport.agent.work import Work
from homeport.dataplane.landing import leftovers, sweep_all
from homeport.dataplane.points import commit_down
from homeport.errors import HomeportError, RefusedError, TransientError
from homeport.model.ledger import DiskChain
from homeport.model.messages import LedgerEntry
from homeport.model.operations import LedgerFacts, Release, TestCleanup

STAYS = (
    "its ledger is lost or cannot be read, so nobody can tell what in it a machine still needs; "
    "remove it when none does"
)
"""Why a folder without a ledger is left as it is."""


class LongerBaseError(RefusedError):
    """A running machine's disk that is shorter than the file it would be written into."""

    code = "LongerBase"

    def __init__(self, machine: str, disk: str) -> None:
        super().__init__(
            f"Disk {disk} of {machine} cannot be flattened while the machine runs.",
            cause="It was made longer once, and a point from before that was booted since: the "
            "file below is longer than the disk, and QEMU has it open.",
            remedy=f"Shut {machine} down, repeat the request, and start it again.",
        )
        self.disk = disk


def release(bench: Bench, order: Release) -> LedgerFacts:
    """
    Take away what was made; repeated after a crash, it goes on where it was.

    Raises:
        UnknownItemError: its pool is not mounted: what this process remembers of it says nothing
            of the files, which would be left there and known to nobody.
    """
    if not is_here(bench, order.item):
        return _forget(bench, order)
    _go_back(bench, order)
    with bench.shelf.claim(order.item, bench.control) as work:
        held, means = work.held, work.means
        held.check_epoch(order.epoch)
        lift(held)
        if held.ledger.test is not None:
            test_cleanup(bench, TestCleanup(item=held.item, machine=held.ledger.test.machine))
        recover_rotation(held, means)
        finish_commit(held, means)
        give_back_whole(held, means)
        kept = make_self_standing(held) if order.keep_unsent else ()
        expire_unsent(held, means, everything=True)
        if order.owner:
            kept += _keep_running(held, means)
        elif held.ledger.original or order.keep_machine:
            kept += _keep_off(held, means)
        else:
            _remove_replica(held, means)
        drop_copy(held, means)
        kept += _release_left(held, means)
        remove_strays(held)
        kept += take_away(held, means)
        close_passages(held, means)
        left_in_store = _empty_store(work)
        facts = _facts(held, means, kept, left_in_store)
        _remove_item(bench, held.item, held.folder, made_pool=_made_pool(held))
        return facts


def _forget(bench: Bench, order: Release) -> LedgerFacts:
    """
    Forget an item without a ledger that can be read; what lies in its folder stays.

    A crash came between the ledger's end and the index's, its pool was removed, or its ledger was
    lost: then nobody can tell a replica's layers from those a machine of the user's runs on.
    """
    if not bench.shelf.has(order.item):
        return LedgerFacts(made=0, left=())
    if is_away(bench, order.item, bench.means.compute.inventory()):
        raise UnknownItemError(order.item)
    folder = bench.means.ledgers.folder(order.item)
    if files_left(bench, order.item):
        bench.shelf.forget(order.item)
        now = bench.means.clock.now()
        left = LedgerEntry(kind="folder", name=str(folder), reason=STAYS, made_at=now)
        return LedgerFacts(made=1, left=(left,))
    _remove_item(bench, order.item, folder, made_pool=True)
    return LedgerFacts(made=0, left=())


def _remove_item(bench: Bench, item: str, folder: Path, *, made_pool: bool) -> None:
    """Remove the item's folder, the pool's too where it may have been made, and forget it."""
    remove_folder(folder)
    if made_pool:
        remove_pool_folder(folder.parent.parent, bench.means)
    bench.shelf.forget(item)


def _go_back(bench: Bench, order: Release) -> None:
    """To the disks that were left, if those that should replace them have not become whole."""
    with bench.shelf.claim(order.item, bench.control) as work:
        work.held.check_epoch(order.epoch)
        if may_go_back(work.held):
            go_back(bench.shelf, work.held)


def _release_left(held: HeldItem, means: Means) -> tuple[str, ...]:
    """Old disks that were left in another pool: the user's own stay, whole and by their names."""
    kept = []
    for left in left_items(held):
        expire_unsent(left, means, everything=True)
        there = [chain for chain in left.ledger.disks if left.path(chain.base).exists()]
        left.save(disks=tuple(there))  # somebody may have removed some
        for chain in there:
            if not left.ledger.original:
                left.path(chain.base).unlink(missing_ok=True)
            elif chain.whole:
                _flatten_offline(left, chain)
                _forget_layers(left, chain.name)
        if left.ledger.original:
            name_bases(left, replica=False)
            kept.append(f"the old disks in {left.folder.parent.parent}, by their original names")
        remove_folder(left.folder)
    for entry in open_entries(held, LEFT):
        remove_folder(Path(entry.name))  # one whose ledger was removed before a crash
    return tuple(kept)


def _made_pool(held: HeldItem) -> bool:
    return any(entry.kind == POOL for entry in held.ledger.made)


def _keep_running(held: HeldItem, means: Means) -> tuple[str, ...]:
    """Flatten the machine into its bases, live when it runs, and make it the user's alone."""
    machine = held.ledger.machine
    for name in [chain.name for chain in held.ledger.disks]:
        chain = held.ledger.chain(name)
        if chain.active is None and not chain.layers:
            continue
        if means.compute.state(machine) in RUNNING:
            if not fits_live(held, chain, chain.base, chain.active or chain.top):
                raise LongerBaseError(machine, name)
            means.compute.pivot(machine, chain.disk.target, base=held.path(chain.base))
        else:
            _flatten_offline(held, chain)
        _forget_layers(held, name)
    name_bases(held, replica=False)
    _hand_over(held, means)
    return (f"machine {machine}, with its disks under their original names",)


def _keep_off(held: HeldItem, means: Means) -> tuple[str, ...]:
    """The user's own machine on the side that does not run it: as it is now, off, unlocked."""
    for name in [chain.name for chain in held.ledger.disks]:
        chain = held.ledger.chain(name)
        if not chain.whole:
            held.path(chain.base).unlink(missing_ok=True)
            continue
        _flatten_offline(held, chain)
        _forget_layers(held, name)
    name_bases(held, replica=False)
    if not is_own(held, means, held.ledger.machine):
        return ("the original disks, under their original names",)
    _hand_over(held, means)
    return (f"machine {held.ledger.machine}, switched off, and its original disks",)


def _remove_replica(held: HeldItem, means: Means) -> None:
    """The machine goes too where it runs on, not knowing that it was failed over."""
    delete_own(held, means, held.ledger.machine)
    for chain in held.ledger.disks:
        held.path(chain.base).unlink(missing_ok=True)


def _hand_over(held: HeldItem, means: Means) -> None:
    """The definition names the bases, the note and lock are gone, autostart is as it was."""
    machine = held.ledger.machine
    give_back(held, means)
    paths = {chain.disk.target: held.path(chain.base) for chain in held.ledger.disks}
    formats = {chain.disk.target: chain.disk.format.value for chain in held.ledger.disks}
    means.compute.set_sources(machine, paths, formats=formats)
    means.compute.set_note(machine, None)
    if held.ledger.autostart:
        means.compute.set_autostart(machine, on=True)


def _flatten_offline(held: HeldItem, chain: DiskChain) -> None:
    """Write all layers into the base, oldest first; nobody runs from the chain."""
    base = held.path(chain.base)
    names = [layer.path for layer in chain.layers] + ([chain.active] if chain.active else [])
    paths = [held.path(name) for name in names if held.path(name).exists()]
    for index, path in enumerate(paths):
        above = paths[index + 1 : index + 2]
        commit_down(path, into=base, into_format=chain.disk.format.value, above=above)


def _forget_layers(held: HeldItem, name: str) -> None:
    chain = held.ledger.chain(name)
    gone = [*(layer.path for layer in (*chain.layers, *chain.beyond))]
    gone += [chain.active] if chain.active else []
    held.save_chains([replace(chain, layers=(), beyond=(), active=None)])
    for path in gone:
        held.path(path).unlink(missing_ok=True)


def _empty_store(work: Work) -> list[str]:
    """Remove the item's objects; what an unreachable store still has is named."""
    if work.held.ledger.cache is None:
        return []
    try:
        sweep_all(work.items)
        return leftovers(work.items)
    except TransientError as error:
        return [f"{work.held.ledger.cache.url} ({error.message})"]


def _facts(held: HeldItem, means: Means, kept: tuple[str, ...], in_store: list[str]) -> LedgerFacts:
    """Every entry, looked for: what is still there is left, the rest went just now."""
    now = means.clock.now()
    entries = []
    for entry in held.ledger.made:
        if entry.gone_at is None and not _is_left(held, means, entry, in_store):
            entries.append(replace(entry, gone_at=now))
        else:
            entries.append(entry)
    left = tuple(entry for entry in entries if entry.gone_at is None)
    return LedgerFacts(made=len(entries), left=left, entries=tuple(entries), kept=kept)


def _is_left(held: HeldItem, means: Means, entry: LedgerEntry, in_store: list[str]) -> bool:
    if entry.kind == "objects":
        return bool(in_store)
    if entry.kind in {"folder", LEFT, POOL, NETWORK}:
        return False  # gone, or in what is kept; the item's folder goes in the next step
    if entry.kind == "disk":
        owned = {str(held.path(chain.base)) for chain in held.ledger.disks}
        return Path(entry.name).exists() and entry.name not in owned
    try:
        if entry.kind == "machine":
            mine = means.compute.note(entry.name)
            return mine is not None and mine.item == held.item
        return entry.kind == "note" and means.compute.note(entry.name) is not None
    except HomeportError:
        return False
