"""
Where an item's files should be on this host, and whether they are there, away or gone.

The index in the agent's own folder says where an item's ledger lies. A pool that is not mounted has
its ledgers away for a while; one that was removed or emptied has lost them, and a reprotect makes
everything anew.
"""

from __future__ import annotations

from pathlib import Path

from homeport.agent.ledgers import UnknownItemError, load_ledger
from homeport.agent.operations.order import Bench
from homeport.model.codec import UnreadableDocumentError
from homeport.model.host import HostInventory


def is_here(bench: Bench, item: str) -> bool:
    """Whether this host's ledger of the item is there and can be read."""
    if not bench.shelf.has(item):
        return False
    try:
        load_ledger(_folder(bench, item))
    except (UnknownItemError, UnreadableDocumentError):
        return False
    return True


def files_left(bench: Bench, item: str) -> list[Path]:
    """What lies in the folder of an item whose ledger is not here, an unreadable one too."""
    return sorted(path for path in _folder(bench, item).rglob("*") if not path.is_dir())


def is_away(bench: Bench, item: str, inventory: HostInventory) -> bool:
    """Whether the item's ledger lies in a pool that this host has, and that is not mounted now."""
    if not bench.shelf.has(item) or is_here(bench, item):
        return False
    pool = _folder(bench, item).parent.parent
    if pool not in (Path(one.path).resolve() for one in inventory.pools):
        return False
    mount = bench.means.ledgers.mounted_at(item)
    return not pool.is_dir() or (mount is not None and not mount.is_mount())


def _folder(bench: Bench, item: str) -> Path:
    return bench.means.ledgers.folder(item)
