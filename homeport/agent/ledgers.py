"""
Where ledgers lie, and how they are saved: beside the layers, written beside, synced, renamed.

A host finds its ledgers through the index in the agent's own state folder; the index names folders
only, so that losing it loses nothing that a look into the pools does not bring back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from homeport.errors import NotFoundError
from homeport.model.codec import from_json, to_json
from homeport.model.ids import ItemId
from homeport.model.ledger import ItemLedger

LEDGER_FILE = "ledger.json"
FOLDER = "homeport"
"""The folder in a pool below which every item has one of its own."""


class UnknownItemError(NotFoundError):
    """An operation on an item this host holds nothing of."""

    code = "ItemNotHere"

    def __init__(self, item: str) -> None:
        super().__init__(
            f"This host has no ledger of item {item}.",
            cause="The item was never on this host, was released, or its pool is not mounted.",
            remedy="Check that the pool is mounted, then try again. If its storage is gone for "
            "good, undefine the pool in libvirt (virsh pool-undefine); or disable the item.",
        )
        self.item = item


def item_folder(pool: Path, name: str, item: ItemId) -> Path:
    """The folder of an item in a pool: readable for people, unique for programs."""
    return pool / FOLDER / f"{name}.{item[:8]}"


def write_durably(path: Path, body: bytes) -> None:
    """
    Put `body` at `path` whole or not at all, also through a power cut; for root's eyes alone.

    Ledgers and manifests hold what opens a cache store, and consoles' passwords.
    """
    partial = path.with_name(path.name + ".partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def mount_of(path: Path) -> Path:
    """The nearest mount point above, told by its device: a bind mount need not be one."""
    return next(parent for parent in (path, *path.parents) if parent.is_mount())


def load_ledger(folder: Path) -> ItemLedger:
    """
    The ledger in an item's folder.

    Raises:
        NotFoundError: there is none.
        UnreadableDocumentError: it was altered.
    """
    path = folder / LEDGER_FILE
    try:
        body = path.read_bytes()
    except FileNotFoundError as error:
        raise UnknownItemError(folder.name) from error
    return from_json(ItemLedger, body)


def save_ledger(folder: Path, ledger: ItemLedger) -> None:
    """Make `ledger` the truth."""
    write_durably(folder / LEDGER_FILE, to_json(ItemLedger, ledger, indent=1))


@dataclass(frozen=True)
class Ledgers:
    """The ledgers of this host, by item. `state` is the agent's own folder."""

    state: Path

    @property
    def _index(self) -> Path:
        return self.state / "items"

    def folder(self, item: str) -> Path:
        """Where an item's ledger lies; UnknownItemError when this host has none."""
        return Path(self._entry(item)[0])

    def mounted_at(self, item: str) -> Path | None:
        """The mount point the item's folder lay below at first; None of an older version's item."""
        entry = self._entry(item)
        return Path(entry[1]) if len(entry) > 1 else None

    def _entry(self, item: str) -> list[str]:
        try:
            return (self._index / item).read_text().splitlines()
        except FileNotFoundError as error:
            raise UnknownItemError(item) from error

    def has(self, item: str) -> bool:
        """Whether this host holds the item."""
        return (self._index / item).exists()

    def load(self, item: str) -> tuple[Path, ItemLedger]:
        """Folder and ledger of an item."""
        folder = self.folder(item)
        return folder, load_ledger(folder)

    def add(self, item: ItemId, folder: Path, ledger: ItemLedger) -> None:
        """Save a new ledger, then index it: in this order, an index entry always has a ledger."""
        folder.mkdir(parents=True, exist_ok=True)
        save_ledger(folder, ledger)
        self._index.mkdir(parents=True, exist_ok=True)
        write_durably(self._index / item, f"{folder}\n{mount_of(folder)}\n".encode())

    def forget(self, item: str) -> None:
        """Take an item out of the index; done twice is done once."""
        (self._index / item).unlink(missing_ok=True)
        if self._index.exists():
            sync_folder(self._index)

    def items(self) -> Iterator[str]:
        """Ids of the items here, in order."""
        if self._index.exists():
            yield from sorted(
                entry.name for entry in self._index.iterdir() if entry.suffix != ".partial"
            )
