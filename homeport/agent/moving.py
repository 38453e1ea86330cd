"""
Another pool for an item's replica: a new ledger there, and the old disks left as they are.

The item's folder lies in the pool of its disks, so in another pool it begins anew. The old folder
keeps its layers, and its ledger under another name, so that no program takes it for the item's: the
old disks can be read as they were, and at release they get what any old side's disks get. A full
copy that is given up before it is whole is no loss: the item goes back to the old ledger.

    write the new folder's ledger -> index it -> rename the old folder's ledger

Each step is found done when repeated; the index alone says which of the two is the item's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from homeport.agent.bases import replica_ledger
from homeport.agent.definitions import KEPT_FILE
from homeport.agent.held import HeldItem, entry
from homeport.agent.ledgers import (
    LEDGER_FILE,
    item_folder,
    load_ledger,
    sync_folder,
    write_durably,
)
from homeport.agent.means import Means
from homeport.agent.resources import open_entries, pool_entry
from homeport.agent.shelf import Shelf
from homeport.model.item import Role
from homeport.model.ledger import DiskChain, ItemLedger
from homeport.model.machine import DiskDefinition
from homeport.model.messages import LedgerEntry
from homeport.model.operations import PrepareReplica

LEFT = "left"
"""Kind of the entry of a folder whose disks were left; its name is the folder's path."""
LEFT_FILE = "left.json"
"""The ledger of a folder that was left."""
CARRIED = ("machine", "note", "objects", "pool", "network", LEFT)
"""Kinds that are the item's wherever its disks lie."""


def begin_elsewhere(shelf: Shelf, held: HeldItem, order: PrepareReplica, pool: Path) -> None:
    """Begin a ledger in another pool, its disks to be filled by full copies, and leave the old."""
    means = shelf.means
    remove_strays(held)
    folder = item_folder(pool, order.name, order.item)
    held.save(made=held.made("folder", str(folder), "layers, points and ledger", means.clock.now()))
    new = _ledger(held, means, order, folder)
    kept = held.folder / KEPT_FILE
    if kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / KEPT_FILE, kept.read_bytes())
    shelf.add(order.item, folder, new)
    close_left(shelf.peek(order.item))


def close_left(held: HeldItem) -> None:
    """Give the ledgers of folders that were left their other name; a crash may have come before."""
    for one in open_entries(held, LEFT):
        ledger = Path(one.name) / LEDGER_FILE
        if ledger.exists():
            ledger.rename(ledger.with_name(LEFT_FILE))
            sync_folder(ledger.parent)


def left_items(held: HeldItem) -> list[HeldItem]:
    """
    What was left, to be worked on like an item: their ledgers have the usual name again.

    One whose folder is gone is left out: somebody has removed it.
    """
    found = []
    for one in open_entries(held, LEFT):
        folder = Path(one.name)
        if (folder / LEFT_FILE).exists():
            (folder / LEFT_FILE).rename(folder / LEDGER_FILE)
            sync_folder(folder)
        if (folder / LEDGER_FILE).exists():
            found.append(HeldItem(folder, load_ledger(folder)))
    return found


def kept_words(held: HeldItem) -> tuple[str, ...]:
    """The disks that were left, in words."""
    pools = (Path(one.name).parent.parent for one in open_entries(held, LEFT))
    return tuple(f"kept where and as they are: the old disks in {pool}" for pool in pools)


def go_back(shelf: Shelf, held: HeldItem) -> None:
    """
    Have the item's ledger be the one that was left last: its full copies have not become whole.

    What was made since is carried over, so that it is taken away like all else.
    """
    means = shelf.means
    *_, left = left_items(held)
    for chain in held.ledger.disks:
        held.path(chain.base).unlink(missing_ok=True)
    gone = held.gone(LEFT, str(left.folder), means.clock.now())
    left.save(
        epoch=held.ledger.epoch,
        lock=held.ledger.lock,
        role=Role.FENCED,
        made=_joined(left.ledger.made, gone),
    )
    shelf.add(left.item, left.folder, left.ledger)
    remove_strays(shelf.peek(left.item))


def may_go_back(held: HeldItem) -> bool:
    """Whether disks were left and are there, and not every one has a whole successor here."""
    folders = [Path(one.name) for one in open_entries(held, LEFT)][-1:]
    there = any((path / name).exists() for path in folders for name in (LEFT_FILE, LEDGER_FILE))
    return there and not all(chain.whole for chain in held.ledger.disks)


def goes_back_to(held: HeldItem, pool: Path) -> bool:
    """Whether the item may go back, and its old disks are in that pool."""
    lefts = open_entries(held, LEFT)
    return may_go_back(held) and Path(lefts[-1].name).parent.parent == pool


def remove_strays(held: HeldItem) -> None:
    """Remove folders that an attempt to begin elsewhere has left."""
    left = {one.name for one in open_entries(held, LEFT)}
    for one in open_entries(held, "folder"):
        folder = Path(one.name)
        if folder != held.folder and one.name not in left:
            remove_folder(folder)


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
    if folder.parent.parent.is_dir():
        sync_folder(folder.parent.parent)


def _ledger(held: HeldItem, means: Means, order: PrepareReplica, folder: Path) -> ItemLedger:
    """The new ledger: the item's machine and settings, and nothing of its disks' history."""
    now, old = means.clock.now(), held.ledger
    new = replica_ledger(
        folder,
        [_disk(chain, order) for chain in old.disks],
        now,
        vault=old.vault,
        item=old.item,
        name=old.name,
        machine=old.machine,
        epoch=order.epoch,
        definition=order.definition,
        original=old.original,
        policy=old.policy,
        networks=old.networks,
        lock=old.lock,
        variables=old.variables,
        autostart=old.autostart,
        guarded=old.guarded,
        resyncing=True,
    )
    entries = (*new.made, entry(LEFT, str(held.folder), "the old disks, kept", now))
    entries += (pool_entry(order.pool, means),) if order.new_pool else ()
    carried = [one for one in old.made if one.kind in CARRIED and one.gone_at is None]
    return replace(new, made=_joined(tuple(carried), entries))


def _disk(chain: DiskChain, order: PrepareReplica) -> DiskDefinition:
    """The disk as it will be in the other pool."""
    return replace(chain.disk, size=order.definition.disk(chain.name).size, pool=order.pool)


def _joined(
    entries: tuple[LedgerEntry, ...], more: tuple[LedgerEntry, ...]
) -> tuple[LedgerEntry, ...]:
    """Both, what is in both once, as the second has it."""
    named = {(one.kind, one.name): one for one in (*entries, *more)}
    return tuple(named.values())
