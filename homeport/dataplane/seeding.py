"""
The first copy of a disk: in parts, in parallel, each done once.

The source reads its frozen base by extents and ships one object a part (a delta object, cut to the
part's range); ranges without data make none. The target lands parts as they come, before there is a
manifest, and lands again whatever turns out to be other than the manifest names. Both sides record
each finished part through the caller, so that a crash costs one part a worker.

    disk   |....dddd....|............|..dd........|d...|
    parts  |  000000    |    none    |  000002    | 3  |
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from homeport.dataplane.bases import BaseTakenError, BaseWriter, RawBase
from homeport.dataplane.delta import DataItem, DeltaEncoding, Item, encode_delta
from homeport.dataplane.landing import object_header, take_object
from homeport.dataplane.layout import SEEDS, ForeignObjectError, ItemStore, position_of
from homeport.dataplane.pipeline import Control, Meter, for_each
from homeport.dataplane.qcow2 import SUBCLUSTER
from homeport.dataplane.shipping import (
    Read,
    data_items,
    header_of,
    image_of,
    put_encoded,
    stored_object,
)
from homeport.model.extent import Extent, ExtentSet
from homeport.model.ids import Digest, DiskName
from homeport.model.manifest import DiskImage, ImageKind, StoredObject
from homeport.model.position import Position
from homeport.units import MiB

__all__ = [
    "SEED_PART",
    "BaseTakenError",
    "BaseWriter",
    "RawBase",
    "SeedPart",
    "land_available_parts",
    "land_seed",
    "plan_parts",
    "seed_positions",
    "ship_part",
    "ship_seed",
]

SEED_PART = 64 * MiB
"""Bytes of the disk in a part; both sides count by it. What a crash costs, at most, a worker."""

WORKERS = 2  # parts at a time: one reads while the other compresses and sends


@dataclass(frozen=True, slots=True)
class SeedPart:
    """`length` bytes of a disk from `start` on; `index` counts parts with and without data."""

    index: int
    start: int
    length: int


def plan_parts(size: int, allocated: ExtentSet, part: int = SEED_PART) -> tuple[SeedPart, ...]:
    """The parts that hold data, ascending; a range without an allocated byte makes none."""
    numbers = allocated.clipped(size).blocks(part).tolist()
    return tuple(
        SeedPart(number, number * part, min(part, size - number * part)) for number in numbers
    )


def ship_part(
    items: ItemStore,
    *,
    position: Position,
    disk: DiskName,
    size: int,
    part: SeedPart,
    read: Read,
    allocated: ExtentSet,
    control: Control,
    replace: bool = False,
) -> StoredObject:
    """
    Ship one part; the same again keeps what is there. `replace` puts it whatever is there.

    Raises:
        RepeatedPositionError: the part is there with other content.
        OSError: the disk cannot be read.
    """
    data = allocated.within(part.start, part.length).aligned(SUBCLUSTER)
    data = data.within(part.start, part.length)
    header = header_of(items, position=position, disk=disk, size=size)

    def encode() -> DeltaEncoding:
        meter = Meter(control, total=data.total)
        none = ExtentSet.empty()
        return encode_delta(header, data_items(read, data, none, control, done=meter.add))

    key = items.seed_key(position, disk, part.index)
    result = put_encoded(items, key, encode, replace=replace)
    return stored_object(key, result, start=part.start, length=part.length)


def ship_seed(
    items: ItemStore,
    *,
    position: Position,
    disk: DiskName,
    size: int,
    read: Read,
    allocated: ExtentSet,
    done: Mapping[int, StoredObject],
    record: Callable[[int, StoredObject], None],
    control: Control,
    part: int = SEED_PART,
    workers: int = WORKERS,
) -> DiskImage:
    """
    Ship all parts that are not in `done`, and describe the whole.

    `read` is called by several threads. `record` is called after each part that is in the store,
    by one thread at a time, and may take its time; what it raises stops the seed.

    Raises: as `ship_part` does; CancelledError.
    """
    parts = plan_parts(size, allocated, part)
    stored = {one.index: done[one.index] for one in parts if one.index in done}
    missing = [one for one in parts if one.index not in stored]
    covered = sum(one.length for one in parts)
    meter = Meter(control, total=covered, done=covered - sum(one.length for one in missing))
    lock = threading.Lock()

    def ship(one: SeedPart, inner: Control) -> None:
        shipped = ship_part(
            items,
            position=position,
            disk=disk,
            size=size,
            part=one,
            read=read,
            allocated=allocated,
            control=inner.quiet(),
        )
        with lock:
            record(one.index, shipped)
            stored[one.index] = shipped
        meter.add(one.length)

    for_each(missing, ship, workers=workers, control=control)
    return image_of(
        ImageKind.SEED,
        tuple(stored[one.index] for one in parts),
        disk=disk,
        size=size,
        changed=allocated.clipped(size).total,
        before=None,
    )


def seed_positions(items: ItemStore) -> tuple[Position, ...]:
    """The positions of which seed parts are in the store, oldest first."""
    return tuple(sorted({position_of(key) for key in items.list_keys(f"{SEEDS}/")}))


def said_size(items: ItemStore, *, position: Position, disk: DiskName) -> int | None:
    """
    The disk's size as a part in the store says it before a manifest does; None without any part.

    Raises:
        DamagedObjectError: the part says nothing that can be read.
    """
    keys = tuple(items.list_keys(items.seed_prefix(position, disk)))
    return object_header(items, keys[0]).size if keys else None


def land_available_parts(
    items: ItemStore,
    *,
    position: Position,
    disk: DiskName,
    size: int,
    base: BaseWriter,
    done: Mapping[int, Digest],
    record: Callable[[int, Digest], None],
    control: Control,
    part: int = SEED_PART,
    workers: int = WORKERS,
) -> int:
    """
    Land the parts that are in the store by now and not in `done`; how many that were.

    For the time before the manifest: what is landed here is checked against itself only, and
    `land_seed` compares the recorded digests with the manifest's. `size` is the disk's.

    Raises: as `land_seed` does.
    """
    waiting = [
        _Part(_part_of(key, size, part), None)
        for key in items.list_keys(items.seed_prefix(position, disk))
        if _index_of(key) not in done
    ]
    landing = _Landing(
        items=items, position=position, disk=disk, size=size, base=base, record=record
    )
    landing.run(
        waiting, Meter(control, total=sum(one.part.length for one in waiting)), control, workers
    )
    return len(waiting)


def land_seed(
    items: ItemStore,
    image: DiskImage,
    *,
    position: Position,
    base: BaseWriter,
    done: Mapping[int, Digest],
    record: Callable[[int, Digest], None],
    control: Control,
    workers: int = WORKERS,
) -> None:
    """
    Land the parts of a seed that `done` does not have with the digest the manifest names.

    On return the base holds the disk, flushed. Every piece is checked before it is written, and a
    part is recorded after the whole of it has been checked and is on disk; `record` is called by
    one thread at a time. An interrupted part is emptied before it is landed again.

    Raises:
        DamagedObjectError: a part is missing, altered, cut, or not the manifest's.
        ForeignObjectError: a part is of another item, disk or position, or leaves its range.
        OSError: this side's disk is full or failed.
    """
    wanted = {_index_of(stored.key): stored for stored in image.objects}
    covered = ExtentSet(Extent(stored.start, stored.length) for stored in image.objects)
    for gap in covered.complement(image.size):  # what a part landed early may have left there
        base.zero(gap.start, gap.length)
    missing = [
        _Part(SeedPart(index, stored.start, stored.length), stored.digest)
        for index, stored in sorted(wanted.items())
        if done.get(index) != stored.digest
    ]
    total = sum(stored.length for stored in image.objects)
    meter = Meter(control, total=total, done=total - sum(one.part.length for one in missing))
    landing = _Landing(
        items=items,
        position=position,
        disk=image.disk,
        size=image.size,
        base=base,
        record=record,
    )
    landing.run(missing, meter, control, workers)
    base.flush()


@dataclass(frozen=True, slots=True)
class _Part:
    """A part to land; its digest where a manifest names it."""

    part: SeedPart
    digest: Digest | None


@dataclass(frozen=True, kw_only=True)
class _Landing:
    """One call's landing of parts into one base; `lock` is held while recording."""

    items: ItemStore
    position: Position
    disk: DiskName
    size: int
    base: BaseWriter
    record: Callable[[int, Digest], None]
    lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def run(self, parts: Iterable[_Part], meter: Meter, control: Control, workers: int) -> None:
        def land(one: _Part, inner: Control) -> None:
            digest = self._land(one, inner)
            with self.lock:
                self.record(one.part.index, digest)
            meter.add(one.part.length)

        for_each(parts, land, workers=workers, control=control)

    def _land(self, one: _Part, control: Control) -> Digest:
        key = self.items.seed_key(self.position, self.disk, one.part.index)
        header = header_of(self.items, position=self.position, disk=self.disk, size=self.size)
        start, end = one.part.start, one.part.start + one.part.length
        if not 0 <= start < end <= self.size:
            raise ForeignObjectError(key=key, found=f"{start} to {end} is not within the disk")
        self.base.zero(start, one.part.length)

        def take(item: Item) -> None:
            if item.offset < start or item.offset + item.length > end:
                raise ForeignObjectError(key=key, found=f"it reaches out of {start} to {end}")
            if isinstance(item, DataItem):  # all else is zero already
                self.base.write(item.offset, item.data)

        result = take_object(
            self.items,
            key,
            header=header,
            digest=one.digest,
            take=take,
            control=control,
        )
        self.base.flush()
        return Digest(result.digest.hex())


def _part_of(key: str, size: int, part: int) -> SeedPart:
    """The part by its key; one behind the disk's end has no bytes, and is refused when landed."""
    index = _index_of(key)
    return SeedPart(index, index * part, max(min(part, size - index * part), 0))


def _index_of(key: str) -> int:
    name = key.rpartition("/")[2]
    if not (name.isascii() and name.isdigit() and f"{int(name):06d}" == name):
        raise ForeignObjectError(key=key, found="its name is not that of a part")
    return int(name)
