"""
Temporary replicas: what a seed or a resync reads through, and nothing longer than that.

`ms-asr-<GUID>` is an empty read-only overlay on the frozen layer. While the ledger has it nothing
below it is committed or merged, and it is seen in the item's report. It is entered before it is
made and goes before its entry does, so no crash leaves one that is not known; it is swept then. The
holder of the item's lock is the only reader: what it finds at its beginning is left over.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from homeport.agent.held import HeldItem, entry
from homeport.agent.means import DiskReader, Means
from homeport.agent.work import Work
from homeport.dataplane.points import disk_size, put_overlay
from homeport.model.ledger import DiskChain, ReadReplica
from homeport.model.messages import LedgerEntry
from homeport.model.position import Position

PREFIX = "ms-asr-"
KIND = "file"
SPACE = uuid.UUID("0d5d6f0e-6f3e-5f0b-8f5a-6d732d617372")
"""Namespace of the GUIDs: a reading that is begun again finds its replica under the same name."""
READ_ONLY = 0o400


@contextmanager
def reading(work: Work, chain: DiskChain, position: Position) -> Iterator[DiskReader]:
    """
    A reader of the disk as it is at a point, through a temporary replica.

    The replica is gone afterwards, however the reading ends; one that cannot be removed stays in
    the ledger and is tried again before the item's next work.
    """
    held, means = work.held, work.means
    replica = _make(held, means, chain, position)
    try:
        files = (held.path(replica.path), *held.chain_files(chain, position))
        with closing(means.open_reader(files, chain.disk.format.value)) as reader:
            yield reader
    finally:
        remove(held, means, replica)


def sweep(held: HeldItem, means: Means) -> int:
    """Remove what an earlier life left; the number removed. Nobody reads the item's disks."""
    left = held.ledger.reading
    for replica in left:
        remove(held, means, replica)
    return len(left)


def remove(held: HeldItem, means: Means, replica: ReadReplica) -> None:
    """Take one away, and only it; done twice is done once."""
    path = held.path(replica.path)
    with suppress(FileNotFoundError):
        path.unlink()
    rest = tuple(one for one in held.ledger.reading if one != replica)
    held.save(reading=rest, made=held.gone(KIND, str(path), means.clock.now()))


def name_of(held: HeldItem, chain: DiskChain) -> str:
    """Where a disk's temporary replica lies in this direction; there is one at a time."""
    guid = uuid.uuid5(SPACE, f"{held.item}/{chain.name}/{held.ledger.epoch}")
    return f"{chain.name}/{PREFIX}{guid}"


def _make(held: HeldItem, means: Means, chain: DiskChain, position: Position) -> ReadReplica:
    sweep(held, means)
    replica = ReadReplica(disk=chain.name, path=name_of(held, chain), position=position)
    path, below = held.path(replica.path), chain.file_at(position)
    held.save(reading=(replica,), made=_entered(held, str(path), means))
    below_format = held.format_of(chain, below)
    size = disk_size(held.path(below), below_format)
    try:
        put_overlay(path, below=held.path(below), below_format=below_format, size=size)
        path.chmod(READ_ONLY)
    except BaseException:
        remove(held, means, replica)
        raise
    return replica


def _entered(held: HeldItem, name: str, means: Means) -> tuple[LedgerEntry, ...]:
    """
    The ledger's entries with this one. One of the name that is gone comes back with its own time:
    the vault knows it by that, and would list the earlier one for good.
    """
    earlier = [one for one in held.ledger.made if (one.kind, one.name) == (KIND, name)]
    others = tuple(one for one in held.ledger.made if one not in earlier)
    made_at = earlier[0].made_at if earlier else means.clock.now()
    return (*others, entry(KIND, name, "read by a seed or a resync", made_at))
