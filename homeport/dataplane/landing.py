"""
Landing: from points in the cache store to layers beside their place, in order and checked.

The target's agent asks `next_manifest` what may be landed on what it holds, lands each disk with
`land_delta` (or `land_seed`, in `seeding`), puts the layers under its replica and only then says so
with `acknowledge`. Nothing is applied in place: a layer appears under its name when every digest
has been checked and the file is on disk. What cannot be used is named, and asked of the source
again with `ask_again`. Both sides' notes to each other, and the sweeping of what has landed, are in
`notes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from homeport.dataplane.delta import (
    DataItem,
    DeltaFormatError,
    DeltaHeader,
    DeltaResult,
    Item,
    decode_delta,
)
from homeport.dataplane.layout import (
    MANIFEST,
    POINTS,
    DamagedObjectError,
    ForeignObjectError,
    ItemStore,
    position_of,
)
from homeport.dataplane.notes import (
    Acknowledgement,
    acknowledge,
    acknowledged,
    ask_again,
    clear_wanted,
    leftovers,
    sweep,
    sweep_all,
    wanted,
)
from homeport.dataplane.objects import ObjectMissingError, ObjectShortError
from homeport.dataplane.pipeline import Control, Meter
from homeport.dataplane.points import sync_path
from homeport.dataplane.qcow2 import LayerWriter
from homeport.dataplane.shipping import header_of
from homeport.errors import IntegrityError, RefusedError
from homeport.model.extent import ExtentSet
from homeport.model.ids import Digest, DiskName
from homeport.model.manifest import (
    DiskImage,
    ImageKind,
    Manifest,
    UnknownFormatError,
    decode_manifest,
    joint_digest,
)
from homeport.model.position import Position
from homeport.units import MiB

__all__ = [
    "Acknowledgement",
    "ForkedHistoryError",
    "OutdatedEpochError",
    "acknowledge",
    "acknowledged",
    "ask_again",
    "clear_wanted",
    "land_delta",
    "leftovers",
    "next_manifest",
    "read_manifest",
    "sweep",
    "sweep_all",
    "take_object",
    "wanted",
]


class ForkedHistoryError(IntegrityError):
    """Two points claim to follow the same one."""

    code = "ForkedHistory"
    default_cause = (
        "Two hosts shipped this item at the same time, or points of an owner before the last "
        "failover are still in the cache store."
    )
    default_remedy = (
        "Nothing was landed. Points of the earlier owner go when its host is reachable again and "
        "sweeps them; if both epochs are the same, find the second host that ships this item."
    )

    def __init__(self, *, first: str, second: str, previous: Position | None) -> None:
        super().__init__(f"Both {first!r} and {second!r} follow point {previous}.")
        self.first, self.second, self.previous = first, second, previous


class OutdatedEpochError(RefusedError):
    """A point of an owner that this side has not heard of yet."""

    code = "StaleEpoch"
    default_cause = "The machine has a new owner, and this host was not told so far."
    default_remedy = (
        "Nothing to do: it is landed when the server has told this host the epoch. If that does "
        "not come, check the connection to the server."
    )

    def __init__(self, *, position: Position, epoch: int) -> None:
        super().__init__(f"Point {position} is of a later epoch than this host's, {epoch}.")
        self.position, self.epoch = position, epoch


def next_manifest(
    items: ItemStore, *, after: Position | None, states: Mapping[DiskName, Digest], epoch: int
) -> Manifest | None:
    """
    The point to land next on a replica that stands at `after` with `states`; None if none is new.

    Raises:
        PositionMismatchError: a point between is missing.
        HistoryMismatchError: it was made from other content than the replica holds.
        ForkedHistoryError: another point claims the same place.
        OutdatedEpochError: it is of an owner above `epoch`.
        ForeignObjectError: a manifest of something else, or not of its key's position.
        DamagedObjectError: a manifest was altered or cut.
        UnknownFormatError: it was written by a newer Homeport.
    """
    waiting = _waiting(items, after)
    if not waiting:
        return None
    manifest = read_manifest(items, waiting[0])
    if waiting[0].epoch > epoch:
        raise OutdatedEpochError(position=waiting[0], epoch=epoch)
    manifest.check_follows(after, states)
    for other in _rivals(waiting):
        if read_manifest(items, other).previous == after:
            raise ForkedHistoryError(
                first=items.manifest_key(waiting[0]),
                second=items.manifest_key(other),
                previous=after,
            )
    return manifest


def read_manifest(items: ItemStore, position: Position) -> Manifest:
    """
    The manifest of a point, checked to be of this item and position, its objects in their places.

    Raises: as `next_manifest` does for a single manifest.
    """
    key = items.manifest_key(position)
    try:
        manifest = decode_manifest(items.get(key))
    except ObjectMissingError as error:
        raise DamagedObjectError(key=key, found="it is missing") from error
    except UnknownFormatError:
        raise
    except IntegrityError as error:
        raise DamagedObjectError(key=key, found=error.message) from error
    if (manifest.vault, manifest.item) != (items.vault, items.item):
        raise ForeignObjectError(key=key, found=f"it is of item {manifest.item}")
    if manifest.position != position:
        raise ForeignObjectError(key=key, found=f"it is of point {manifest.position}")
    for image in manifest.disks:
        _check_objects(items, image, position)
    return manifest


def land_delta(
    items: ItemStore,
    image: DiskImage,
    *,
    position: Position,
    path: Path,
    backing: str,
    backing_format: str,
    control: Control,
) -> ExtentSet:
    """
    Make the layer of one disk at `path`, and return its change map.

    The layer is written at a partial name and renamed when it is whole and on disk; a file that is
    at `path` already is replaced by the same content, so after a crash it is simply done again.
    `backing` is written into the header as it is. After an error nothing is at either name that
    was not there before.

    Raises:
        DamagedObjectError: the object is missing, altered, cut, or not the manifest's.
        ForeignObjectError: it is of another item, disk or position.
        OSError: this side's disk is full or failed.
    """
    partial = path.with_name(path.name + ".partial")
    meter = Meter(control, total=image.changed, step=MiB)
    with LayerWriter(
        partial, size=image.size, backing=backing, backing_format=backing_format
    ) as writer:

        def take(item: Item) -> None:
            if isinstance(item, DataItem):
                writer.data(item.offset, item.data)
                meter.add(item.length)
            else:
                writer.zero(item.offset, item.length)

        result = take_object(
            items,
            items.delta_key(position, image.disk),
            header=header_of(items, position=position, disk=image.disk, size=image.size),
            digest=image.objects[0].digest,
            take=take,
            control=control,
        )
        writer.finish()
    partial.replace(path)
    sync_path(path.parent)
    return result.changed


def object_header(items: ItemStore, key: str) -> DeltaHeader:
    """
    What an object says of itself; its content is neither read nor checked.

    Raises:
        DamagedObjectError: it cannot be read so far.
    """
    with _damage_named(key):
        return decode_delta(items.stream(key)).header


def take_object(
    items: ItemStore,
    key: str,
    *,
    header: DeltaHeader,
    digest: Digest | None,
    take: Callable[[Item], None],
    control: Control,
) -> DeltaResult:
    """
    Hand the items of an object to `take` while it is downloaded; what the whole of it was.

    What was taken is sure only on return. `header` is what the object must say of itself; `digest`
    is its manifest's, or None while there is no manifest yet.

    Raises:
        DamagedObjectError: it is missing, altered, cut, or its digest is not `digest`.
        ForeignObjectError: it is of another item, disk, size or position.
    """
    with _damage_named(key):
        stream = decode_delta(_paced(items.stream(key), control))
        if stream.header != header:
            raise ForeignObjectError(key=key, found=f"it says of itself {_said(stream.header)}")
        for item in stream:
            take(item)
    if digest is not None and stream.result.digest.hex() != digest:
        raise DamagedObjectError(key=key, found="its content is not what the manifest names")
    return stream.result


@contextmanager
def _damage_named(key: str) -> Iterator[None]:
    """What is wrong with an object while it is read, as `DamagedObjectError`."""
    try:
        yield
    except DeltaFormatError as error:
        raise DamagedObjectError(key=key, found=error.found) from error
    except ObjectMissingError as error:
        raise DamagedObjectError(key=key, found="it is missing") from error
    except ObjectShortError as error:
        raise DamagedObjectError(key=key, found="its end is missing") from error


def _waiting(items: ItemStore, after: Position | None) -> list[Position]:
    """Positions beyond `after` that have a manifest, ascending."""
    found = [
        position_of(key) for key in items.list_keys(f"{POINTS}/") if key.endswith(f"/{MANIFEST}")
    ]
    return sorted(position for position in found if after is None or position > after)


def _rivals(waiting: Sequence[Position]) -> Iterator[Position]:
    """
    Those of the positions behind the first that could claim its place.

    In one epoch that is the next one, as one owner numbers its points in order; an owner begins
    with the first of its epoch. Reading only these keeps a long backlog from being read at every
    step.
    """
    seen = {waiting[0].epoch}
    for index, position in enumerate(waiting[1:]):
        if index == 0 or position.epoch not in seen:
            yield position
        seen.add(position.epoch)


def _check_objects(items: ItemStore, image: DiskImage, position: Position) -> None:
    """Raise unless the manifest names the objects of this disk and position, and their digest."""
    key = items.manifest_key(position)
    joint = joint_digest(tuple(stored.digest for stored in image.objects))
    if joint != image.digest:
        raise DamagedObjectError(key=key, found=f"disk {image.disk} has not its objects' digest")
    keys = [stored.key for stored in image.objects]
    if image.kind is ImageKind.SEED:
        sound = all(name.startswith(items.seed_prefix(position, image.disk)) for name in keys)
    else:
        sound = keys == [items.delta_key(position, image.disk)]
    if not sound:
        raise ForeignObjectError(key=key, found=f"disk {image.disk} is to be taken from {keys[:3]}")


def _paced(chunks: Iterator[bytes], control: Control) -> Iterator[bytes]:
    """The chunks, at the allowed rate, until somebody asks to stop."""
    for chunk in chunks:
        control.check()
        control.pace(len(chunk))
        yield chunk


def _said(header: DeltaHeader) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in sorted(header.facts.items()))
    return f"disk {header.disk} of {header.size} bytes, {facts}"
