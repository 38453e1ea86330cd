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
from homeport.agent.ledgers import LEDGER_FILE, sync_folder
from homeport.agent.machine import delete_own
from homeport.agent.means import Means
from homeport.agent.operations.order import Bench
from homeport.agent.operations.testing import test_cleanup
from homeport.agent.rotation import RUNNING, recover_rotation
from homeport.agent.work import Work
from homeport.dataplane.landing import leftovers, sweep_all
from homeport.dataplane.points import commit_down
from homeport.errors import HomeportError, RefusedError, TransientError
from homeport.model.ledger import DiskChain
from homeport.model.machine import PowerState
from homeport.model.messages import LedgerEntry
from homeport.model.operations import LedgerFacts, Release, TestCleanup


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
    """Take away what was made; repeated after a crash, it goes on where it was."""
    if not bench.shelf.has(order.item):
        return LedgerFacts(made=0, left=())
    folder = bench.means.ledgers.folder(order.item)
    if not (folder / LEDGER_FILE).exists() and (folder.parent.parent).is_dir():
        remove_folder(folder)  # a crash came between the ledger's end and the index's
        bench.shelf.forget(order.item)
        return LedgerFacts(made=0, left=())
    with bench.shelf.claim(order.item, bench.control) as work:
        held, means = work.held, work.means
        held.check_epoch(order.epoch)
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
        left_in_store = _empty_store(work)
        facts = _facts(held, means, kept, left_in_store)
        remove_folder(held.folder)
        bench.shelf.forget(order.item)
        return facts


def remove_folder(folder: Path) -> None:
    """
    Remove an item's folder, its ledger last, and the folder of all items when it is empty.

    Done twice is done once.
    """
    ledger = folder / LEDGER_FILE
    for path in sorted(folder.rglob("*"), reverse=True):
        if path == ledger:
            continue
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    ledger.unlink(missing_ok=True)
    if folder.exists():
        folder.rmdir()
    if folder.parent.exists() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()
    sync_folder(folder.parent.parent)


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
    if means.compute.state(held.ledger.machine) is PowerState.ABSENT:
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
    if entry.kind == "folder":
        return False  # removed in the next step, which is repeated until it is done
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
