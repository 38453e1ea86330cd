"""
Seeds at both ends: a disk's whole content in ranged parts, each recorded, so a crash costs one.

What is done is kept in a small file in the item's folder, a line a part, synced before the part
counts. The source reads the frozen base as a file; the target writes the replica's base.
"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from homeport.agent.held import HeldItem
from homeport.agent.means import DiskReader
from homeport.agent.temporary import reading
from homeport.agent.work import Work
from homeport.dataplane.bases import BaseTakenError
from homeport.dataplane.seeding import (
    BaseWriter,
    land_available_parts,
    land_seed,
    said_size,
    seed_positions,
    ship_seed,
)
from homeport.model.codec import from_json, to_json
from homeport.model.ids import Digest
from homeport.model.ledger import DiskChain
from homeport.model.manifest import DiskImage, StoredObject
from homeport.model.position import Position


class PartRecord:
    """Parts that are done, by number: one line a part in a file, last line wins."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[int, str]:
        """What is recorded; a line cut by a crash is as if it had not been written."""
        found: dict[int, str] = {}
        if not self._path.exists():
            return found
        for line in self._path.read_text().split("\n")[:-1]:
            number, _, text = line.partition(" ")
            if number.isdigit():
                found[int(number)] = text
        return found

    def add(self, number: int, text: str) -> None:
        """Record a part with one line of text, durably."""
        with self._path.open("a") as file:
            file.write(f"{number} {text}\n")
            file.flush()
            os.fsync(file.fileno())

    def forget(self) -> None:
        """The seed is over."""
        self._path.unlink(missing_ok=True)


def record_of(held: HeldItem, chain: DiskChain, position: Position, end: str) -> PartRecord:
    """The record of one disk's seed at one end ("shipped" or "landed")."""
    return PartRecord(held.folder / f"seed-{end}-{chain.name}-{position.key}")


def ship_first(work: Work, chain: DiskChain, position: Position) -> DiskImage:
    """Ship the frozen base of a machine that begins to be protected."""
    with reading(work, chain, position) as reader:
        return ship_whole(work, chain, position, reader)


def ship_whole(work: Work, chain: DiskChain, position: Position, reader: DiskReader) -> DiskImage:
    """Ship all that `reader` holds; parts that were shipped before are not read again."""
    record = record_of(work.held, chain, position, "shipped")
    return ship_seed(
        work.items,
        position=position,
        disk=chain.name,
        size=reader.size,
        read=reader.read,
        allocated=reader.allocated(),
        done={part: from_json(StoredObject, text) for part, text in record.read().items()},
        record=lambda part, stored: record.add(part, to_json(StoredObject, stored).decode()),
        control=work.control,
    )


def land_whole(work: Work, chain: DiskChain, image: DiskImage, position: Position) -> None:
    """
    Land a seed into the replica's base; on return it is whole and on disk.

    What an earlier attempt has begun with another size is begun anew: the disk was resized since.
    """
    record = record_of(work.held, chain, position, "landed")
    try:
        opened = _open_base(work, chain, image.size)
    except BaseTakenError:
        begun = list(work.held.folder.glob(f"seed-landed-{chain.name}-*"))
        if not begun:
            raise
        work.held.path(chain.base).unlink()
        for path in begun:
            path.unlink()
        opened = _open_base(work, chain, image.size)
    with closing(opened) as base:
        land_seed(
            work.items,
            image,
            position=position,
            base=base,
            done=landed_parts(record),
            record=record.add,
            control=work.control,
        )


def land_early(work: Work) -> None:
    """
    Land the parts of a first seed that are in the store before its manifest is.

    Those of a disk that has another size than is known here wait for the manifest: it was resized.
    """
    for position in seed_positions(work.items)[-1:]:
        for chain in work.held.ledger.disks:
            if chain.whole:
                continue
            if said_size(work.items, position=position, disk=chain.name) != chain.disk.size:
                continue
            record = record_of(work.held, chain, position, "landed")
            watched = work.watched()
            work.state.phase = "seeding"
            with closing(_open_base(work, chain, chain.disk.size)) as base:
                land_available_parts(
                    watched.items,
                    position=position,
                    disk=chain.name,
                    size=chain.disk.size,
                    base=base,
                    done=landed_parts(record),
                    record=record.add,
                    control=watched.control,
                )


def landed_parts(record: PartRecord) -> dict[int, Digest]:
    """The digests of the parts that have landed, by number."""
    return {part: Digest(text) for part, text in record.read().items()}


def _open_base(work: Work, chain: DiskChain, size: int) -> BaseWriter:
    return work.means.open_base(
        work.held.path(chain.base),
        image_format=chain.disk.format,
        size=size,
        cluster_size=chain.disk.cluster_size,
    )


def forget_records(held: HeldItem) -> None:
    """Remove the records of seeds that are over."""
    for path in held.folder.glob("seed-*"):
        path.unlink(missing_ok=True)
