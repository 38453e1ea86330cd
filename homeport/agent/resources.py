"""
Pools and networks that Homeport makes on a host for an item, and takes away with it.

Each is in the item's ledger before it is made. At release it goes if nobody else uses it; one that
is used by then stays, is told, and is the user's from there on.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

from homeport.agent.held import HeldItem
from homeport.agent.ledgers import FOLDER, sync_folder
from homeport.agent.means import Means
from homeport.model.host import HostInventory
from homeport.model.messages import LedgerEntry

POOL, NETWORK = "pool", "network"
"""Kinds of entries in the ledger; the entry's name is the pool's or the network's."""
FOLDER_KINDS = ("dir", "fs", "netfs")
DEFAULT_PLACE = Path("/var/lib/libvirt")
"""Where libvirt's own pool lies: the place for a new one on a host without any."""


def pool_entry(name: str, means: Means) -> LedgerEntry:
    """The entry of a pool that is to be made."""
    reason = "storage account for the replica: the one before was gone"
    return LedgerEntry(kind=POOL, name=name, reason=reason, made_at=means.clock.now())


def place_beside(inventory: HostInventory, name: str, *, last: Path | None) -> Path:
    """Where a new pool goes: beside the host's others, or else beside where the last one was."""
    paths = [Path(pool.path) for pool in inventory.pools if pool.kind in FOLDER_KINDS and pool.path]
    places = Counter(path.resolve().parent for path in paths)
    if places:
        return min(places, key=lambda place: (-places[place], str(place))) / name
    return (last.parent if last else DEFAULT_PLACE) / name


def make_pool(held: HeldItem, means: Means, name: str) -> tuple[str, ...]:
    """Make the pool that the item's folder lies in already; what was made, in words."""
    path = held.folder.parent.parent
    if any(pool.name == name for pool in means.compute.inventory().pools):
        return ()
    held.save(made=_entered(held, pool_entry(name, means)))
    means.compute.make_pool(name, path)
    return (f"made: storage account {name} in {path}",)


def make_networks(held: HeldItem, means: Means, names: tuple[str, ...]) -> tuple[str, ...]:
    """Make the isolated networks that are missing; what was made, in words."""
    there = {network.name for network in means.compute.inventory().networks}
    made = []
    for name in names:
        reason = "isolated: the network the machine is mapped to was gone"
        if name not in there:
            entry = LedgerEntry(kind=NETWORK, name=name, reason=reason, made_at=means.clock.now())
            held.save(made=_entered(held, entry))
            means.compute.make_network(name)
            made.append(f"made: network {name}, isolated")
    return tuple(made)


def take_away(held: HeldItem, means: Means) -> tuple[str, ...]:
    """
    Let the hypervisor forget what was made for the item and nobody uses; what stays, in words.

    The item's machine and disks are gone or handed over. The pool that the item's folder lies in
    keeps its own until `remove_pool_folder`, when the item's is gone.
    """
    kept = []
    for entry in open_entries(held, NETWORK):
        if not means.compute.delete_network(entry.name):
            kept.append(f"network {entry.name}, which machines are on")
        held.save(made=held.gone(NETWORK, entry.name, means.clock.now()))
    folders = pool_folders(means)
    for entry in open_entries(held, POOL):
        path = folders.get(entry.name)
        if path is not None and _is_used(path, held.folder):
            kept.append(f"storage account {entry.name} in {path}, which is in use")
        else:
            if path is not None:
                _remove_if_empty(path)  # first: who removes the folder must know of the pool
            means.compute.delete_pool(entry.name)
        held.save(made=held.gone(POOL, entry.name, means.clock.now()))
    return tuple(kept)


def remove_pool_folder(path: Path, means: Means) -> None:
    """Remove a folder that was a pool of ours, if it is empty and no pool any more."""
    if path.is_dir() and path not in pool_folders(means).values():
        _remove_if_empty(path)


def open_entries(held: HeldItem, kind: str) -> list[LedgerEntry]:
    """What of a kind was made and has not gone."""
    return [one for one in held.ledger.made if one.kind == kind and one.gone_at is None]


def pool_folders(means: Means) -> dict[str, Path]:
    """The pools' folders by name, links followed."""
    pools = means.compute.inventory().pools
    return {pool.name: Path(pool.path).resolve() for pool in pools if pool.path}


def _remove_if_empty(path: Path) -> None:
    with suppress(OSError):  # not empty, or a mount point: not ours alone
        path.rmdir()
        sync_folder(path.parent)


def _entered(held: HeldItem, entry: LedgerEntry) -> tuple[LedgerEntry, ...]:
    return held.made(entry.kind, entry.name, entry.reason, entry.made_at)


def _is_used(pool: Path, own: Path) -> bool:
    """Whether anything but the item's own folder lies in a pool."""
    if not pool.is_dir():
        return False
    if any(path.name != FOLDER for path in pool.iterdir()):
        return True
    items = pool / FOLDER
    return items.is_dir() and any(path != own for path in items.iterdir())
