"""
One item as this host holds it: its folder and its ledger, saved with every change.

A `HeldItem` has one owner at a time: whoever holds its lock, be it the item's replication loop or
an operation. Nothing here talks to a hypervisor or a store.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from homeport.agent.ledgers import Ledgers, save_ledger, write_durably
from homeport.dataplane.points import backing_of, stamp
from homeport.errors import RefusedError
from homeport.model.changemap import decode_map, encode_map
from homeport.model.codec import from_json, to_json
from homeport.model.extent import ExtentSet
from homeport.model.ids import ItemId
from homeport.model.ledger import DiskChain, ItemLedger, Layer, PastPoint
from homeport.model.machine import DiskFormat, MachineDefinition
from homeport.model.messages import LedgerEntry
from homeport.model.position import Position

PAST_KEPT = 512
"""Positions whose identity and change map are remembered: hours of history at any interval."""


def entry(kind: str, name: str, reason: str, at: datetime) -> LedgerEntry:
    """One thing that is made, entered before it is."""
    return LedgerEntry(kind=kind, name=name, reason=reason, made_at=at)


class StaleEpochError(RefusedError):
    """An order from before the last change of owner."""

    code = "StaleEpoch"

    def __init__(self, *, ordered: int, held: int) -> None:
        super().__init__(
            f"The order is of epoch {ordered}, this host is at epoch {held}.",
            cause="Ownership of the machine has changed since the order was given.",
            remedy="Nothing to do: the order is void. Look at the item's state.",
        )
        self.ordered = ordered
        self.held = held


class HeldItem:
    """An item's folder and ledger. `ledger` is what is on disk; change it by `save` alone."""

    def __init__(self, folder: Path, ledger: ItemLedger) -> None:
        self.folder = folder
        self.ledger = ledger
        self.lock = threading.RLock()

    @classmethod
    def load(cls, ledgers: Ledgers, item: str) -> HeldItem:
        """The item as its ledger has it; UnknownItemError when this host has none."""
        return cls(*ledgers.load(item))

    @property
    def item(self) -> ItemId:
        """The item's id."""
        return self.ledger.item

    def save(self, **changes: Any) -> None:
        """Make the ledger with these fields the truth; they are checked by their types' rules."""
        changed = replace(self.ledger, **changes)
        if changed != self.ledger:
            save_ledger(self.folder, changed)
            self.ledger = changed

    def save_chains(self, chains: Iterable[DiskChain], **changes: Any) -> None:
        """Save some disks' chains together with other fields, in one change."""
        new = {chain.name: chain for chain in chains}
        disks = tuple(new.get(chain.name, chain) for chain in self.ledger.disks)
        self.save(disks=disks, **changes)

    def check_epoch(self, epoch: int) -> None:
        """Raise StaleEpochError for an order older than the ledger."""
        if epoch < self.ledger.epoch:
            raise StaleEpochError(ordered=epoch, held=self.ledger.epoch)

    def path(self, name: str) -> Path:
        """A path of the ledger as an absolute one."""
        return Path(os.path.normpath(self.folder / name))

    def name_of(self, path: Path) -> str:
        """An absolute path as the ledger has it."""
        return os.path.relpath(path, self.folder)

    def format_of(self, chain: DiskChain, name: str) -> str:
        """The format of a file of a chain: the base's own, or qcow2."""
        return chain.disk.format.value if name == chain.base else DiskFormat.QCOW2.value

    def layer_name(self, chain: DiskChain, position: Position) -> str:
        """Where a landed layer of a disk lies."""
        return f"{chain.name}/{position.key}.qcow2"

    def active_name(self, chain: DiskChain, since: Position) -> str:
        """Where an overlay lies that takes the writes since `since`."""
        return f"{chain.name}/since-{since.key}.qcow2"

    def chain_files(self, chain: DiskChain, position: Position) -> tuple[Path, ...]:
        """Absolute files from the point down to the base."""
        return tuple(self.path(name) for name in chain.chain_at(position))

    def layer(self, name: str, position: Position, **facts: Any) -> Layer:
        """A layer with the stamp of its file as it is now."""
        return Layer(path=name, position=position, stamp=stamp(self.path(name)), **facts)

    # -- change maps and identities, which outlive their layers --

    def _map_path(self, disk: str, position: Position) -> Path:
        return self.folder / "maps" / f"{position.key}.{disk}"

    def keep_map(self, disk: str, position: Position, extents: ExtentSet) -> None:
        """Remember which bytes a point changed."""
        path = self._map_path(disk, position)
        path.parent.mkdir(exist_ok=True)
        write_durably(path, encode_map(extents))

    def map_of(self, disk: str, position: Position) -> ExtentSet:
        """What `keep_map` kept; FileNotFoundError when it was not or is forgotten."""
        return decode_map(self._map_path(disk, position).read_bytes())

    def has_map(self, position: Position) -> bool:
        """Whether each disk's map of what that point changed is known."""
        return all(self._map_path(chain.name, position).exists() for chain in self.ledger.disks)

    def with_past(self, point: PastPoint) -> tuple[PastPoint, ...]:
        """The past with one more point, the oldest forgotten beyond PAST_KEPT."""
        kept = [past for past in self.ledger.past if past.position != point.position]
        return (*kept[max(0, len(kept) + 1 - PAST_KEPT) :], point)

    # -- what the machine was like at points that have not landed --

    def _machine_path(self, position: Position) -> Path:
        return self.folder / "taken" / position.key

    def keep_machine(self, position: Position) -> None:
        """Remember the ledger's definition as the point's: it may be shipped long after."""
        path = self._machine_path(position)
        path.parent.mkdir(exist_ok=True)
        write_durably(path, to_json(MachineDefinition, self.ledger.definition))

    def machine_at(self, position: Position) -> MachineDefinition:
        """What `keep_machine` kept; the newest where an older version took the point."""
        try:
            return from_json(MachineDefinition, self._machine_path(position).read_bytes())
        except FileNotFoundError:
            return self.ledger.definition

    # -- what was made --

    def made(self, kind: str, name: str, reason: str, at: datetime) -> tuple[LedgerEntry, ...]:
        """The entries with one more thing made; the same thing is entered once."""
        if any(e.kind == kind and e.name == name and e.gone_at is None for e in self.ledger.made):
            return self.ledger.made
        return (*self.ledger.made, entry(kind, name, reason, at))

    def gone(self, kind: str, name: str, at: datetime) -> tuple[LedgerEntry, ...]:
        """The entries with one thing marked as gone."""
        return tuple(
            replace(entry, gone_at=at)
            if (entry.kind, entry.name, entry.gone_at) == (kind, name, None)
            else entry
            for entry in self.ledger.made
        )

    def images_of(self, chain: DiskChain) -> set[Path]:
        """Every image file of a disk that the ledger speaks of."""
        names = set(chain.all_names)
        for other in (self.ledger.test, self.ledger.rotating):
            if other is not None and chain.name in other.overlays:
                names.add(other.overlays[chain.name])
        names |= {one.path for one in self.ledger.reading if one.disk == chain.name}
        return {self.path(name) for name in names}

    def files(self) -> set[Path]:
        """Every image file the ledger speaks of."""
        return {path for chain in self.ledger.disks for path in self.images_of(chain)}

    def standing_on(self, chain: DiskChain, *below: Path) -> list[Path]:
        """The images of a disk that name one of these files below themselves."""
        bases = {chain.base, *(unsent.base for unsent in chain.set_aside)}
        here = sorted(self.images_of(chain) - {self.path(name) for name in bases})
        return [path for path in here if path.exists() and backing_of(path) in below]

    def drop(self, names: Iterable[str]) -> None:
        """Remove files the saved ledger no longer speaks of; those it still does stay."""
        spoken = self.files()
        for path in {self.path(name) for name in names} - spoken:
            path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """
        Remove manifests of points that are not listed, maps of what is past remembering, and
        definitions of points that have landed.
        """
        points = {point.position.key for point in self.ledger.points}
        taken = {captured.position.key for captured in self.ledger.captured}
        maps = {past.position.key for past in self.ledger.past}
        for path in (self.folder / "points").glob("*"):
            if path.name not in points:
                path.unlink(missing_ok=True)
        for path in (self.folder / "taken").glob("*"):
            if path.name not in taken:
                path.unlink(missing_ok=True)
        for path in (self.folder / "maps").glob("*"):
            if path.name.partition(".")[0] not in maps:
                path.unlink(missing_ok=True)

    def sweep_files(self) -> list[Path]:
        """Remove files in the folder that no ledger speaks of: what a crash left behind."""
        spoken = self.files()
        found = [path for disk in self.ledger.disks for path in (self.folder / disk.name).glob("*")]
        gone = sorted(path for path in found if path not in spoken)
        gone += sorted(self.folder.glob("*.partial"))
        for path in gone:
            path.unlink(missing_ok=True)
        self.tidy()
        return gone
