"""Disks as files, read from outside of Homeport: content through a chain, blocks that differ."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from homeport.agent.definitions import KEPT_FILE
from homeport.agent.ledgers import LEDGER_FILE, load_ledger
from homeport.dataplane.flags import set_immutable
from homeport.lab.commands import run
from homeport.model.ledger import ItemLedger
from homeport.model.position import Position

BLOCK = 4096


@dataclass(frozen=True)
class HeldFiles:
    """An item's folder in a pool and its ledger, as they are at this moment."""

    folder: Path
    ledger: ItemLedger

    @classmethod
    def in_pool(cls, images: Path, item: str) -> HeldFiles:
        """The one item of this name in the pool."""
        (found,) = (images / "homeport").glob(f"{item}.*/{LEDGER_FILE}")
        return cls(found.parent, load_ledger(found.parent))

    def path(self, name: str) -> Path:
        return (self.folder / name).resolve()

    def base(self, disk: str) -> Path:
        return self.path(self.ledger.chain(disk).base)

    def top(self, disk: str, position: Position | None = None) -> tuple[Path, str]:
        """The file that reads as the disk at a point (or at its newest write), and its format."""
        chain = self.ledger.chain(disk)
        name = chain.file_at(position) if position else chain.active or chain.top
        return self.path(name), chain.disk.format.value if name == chain.base else "qcow2"

    @property
    def disks(self) -> tuple[str, ...]:
        return tuple(chain.name for chain in self.ledger.disks)

    def explained(self) -> set[Path]:
        """Every file that the ledger speaks of."""
        known = {self.path(name) for chain in self.ledger.disks for name in chain.all_names}
        for intent in (self.ledger.rotating, self.ledger.test):
            known |= {self.path(name) for name in (intent.overlays.values() if intent else ())}
        known |= {self.folder / name for name in (LEDGER_FILE, KEPT_FILE)}
        for folder in ("maps", "points", "taken"):
            known |= set((self.folder / folder).glob("*"))
        return known


def flat(image: Path, image_format: str, raw: Path) -> Path:
    """The disk's content as a raw file, read through the chain by qemu-img."""
    run(["qemu-img", "convert", "-U", "-f", image_format, "-O", "raw", image, raw])
    return raw


def digest_of(raw: Path) -> str:
    with raw.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def differing_blocks(one: Path, other: Path) -> dict[int, bool]:
    """The 4 KiB blocks in which two raw disks of one size differ; whether the other has data."""
    found: dict[int, bool] = {}
    zero = bytes(BLOCK)
    step = 256 * BLOCK
    with one.open("rb") as first, other.open("rb") as second:
        at = 0
        while True:
            a, b = first.read(step), second.read(step)
            if not a and not b:
                return found
            for index in range(256) if a != b else ():
                was, now = (part[index * BLOCK : (index + 1) * BLOCK] for part in (a, b))
                if was != now:
                    found[at + index] = now != zero
            at += 256


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def freed(path: Path) -> Path:
    """A file that may be changed from outside: of a fenced machine it is immutable before."""
    set_immutable(path, on=False)
    return path
