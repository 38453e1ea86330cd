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
from homeport.agent.work import Work
from homeport.dataplane.seeding import BaseWriter, land_seed, ship_seed
from homeport.errors import HomeportError
from homeport.model.codec import from_json, to_json
from homeport.model.ledger import DiskChain
from homeport.model.manifest import DiskImage, StoredObject
from homeport.model.position import Position


class PartRecord:
    """Parts that are done, by number: one line a part in a file, last line wins."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[int, StoredObject]:
        """What is recorded; a line cut by a crash is as if it had not been written."""
        found: dict[int, StoredObject] = {}
        if not self._path.exists():
            return found
        for line in self._path.read_bytes().splitlines():
            number, _, body = line.partition(b" ")
            try:
                found[int(number)] = from_json(StoredObject, body)
            except (ValueError, HomeportError):
                continue
        return found

    def add(self, number: int, stored: StoredObject) -> None:
        """Record a part, durably."""
        with self._path.open("ab") as file:
            file.write(b"%d %s\n" % (number, to_json(StoredObject, stored)))
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
    path = work.held.path(chain.base)
    with closing(work.means.open_reader((path,), chain.disk.format.value)) as reader:
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
        done=record.read(),
        record=record.add,
        control=work.control,
    )


def land_whole(work: Work, chain: DiskChain, image: DiskImage, position: Position) -> None:
    """Land a seed into the replica's base; on return it is whole and on disk."""
    record = record_of(work.held, chain, position, "landed")
    with closing(_open_base(work, chain, image.size)) as base:
        land_seed(
            work.items,
            image,
            position=position,
            base=base,
            done=record.read(),
            record=record.add,
            control=work.control,
        )


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
