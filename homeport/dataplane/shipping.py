"""
Shipping: from what changed at the source to a point in the cache store.

The source's agent calls one `ship_...` a disk, in any order, and `ship_manifest` when all of them
are there: that makes the point exist. Everything may be repeated after a crash: what is in the
store already and is the same is kept, other content is refused. Objects are encoded while they are
put, so neither memory nor scratch space grows with the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from homeport.dataplane.delta import (
    DataItem,
    DeltaEncoding,
    DeltaFormatError,
    DeltaHeader,
    DeltaResult,
    Item,
    ZeroItem,
    decode_delta,
    encode_delta,
)
from homeport.dataplane.findings import Found
from homeport.dataplane.layout import ItemStore, RepeatedPositionError
from homeport.dataplane.objects import ObjectExistsError
from homeport.dataplane.pipeline import Control, Meter
from homeport.dataplane.qcow2 import SUBCLUSTER, LayerReader
from homeport.model.extent import ExtentSet
from homeport.model.ids import Digest, DiskName
from homeport.model.manifest import (
    DiskImage,
    ImageKind,
    Manifest,
    StoredObject,
    encode_manifest,
    joint_digest,
    next_state,
)
from homeport.model.position import Position
from homeport.units import MiB

Read: TypeAlias = Callable[[int, int], bytes]
"""Guest bytes by offset and length, as of `ChainReader.read`; zero where nothing was written."""

Pieces: TypeAlias = Iterable[tuple[int, bytes]]
"""Guest offset and bytes, ascending and disjoint; whole blocks, up to 1 MiB each."""

Scan: TypeAlias = Callable[[ExtentSet], Pieces]
"""All data of the extents, as of `ChainReader.scan`: it reads ahead, which `Read` cannot."""

_PIECE = MiB  # read at a time: what a frame of a delta takes


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipped:
    """One disk of a point as it is in the store, and the extents it decides."""

    image: DiskImage
    map: ExtentSet


def ship_layer(
    items: ItemStore,
    *,
    position: Position,
    disk: DiskName,
    layer: Path,
    size: int,
    before: Digest | None,
    control: Control,
    replace: bool = False,
) -> Shipped:
    """
    Ship what a closed layer holds: its data and its zero extents.

    `size` is the disk's at the point; `before` the disk's state at the point before. Nothing
    changed is a delta like any other. `replace` puts the object whatever is there: for one that
    was found damaged.

    Raises:
        RepeatedPositionError: the position holds other content for this disk.
        UnsupportedQcow2Error: the layer needs QEMU to be read; use `ship_difference`.
        Qcow2FormatError, OSError: the layer cannot be read.
    """
    with LayerReader(layer) as reader:
        data = _whole_blocks(reader.map.data, size)
        zero = _whole_blocks(reader.map.zero, size) - data
        taken = _known(partial(_scanned, reader, size), data, zero, control)
        return _ship(
            items, taken, position=position, disk=disk, size=size, before=before, replace=replace
        )


def ship_difference(
    items: ItemStore,
    *,
    position: Position,
    disk: DiskName,
    read: Read,
    extents: ExtentSet,
    size: int,
    before: Digest | None,
    control: Control,
    allocated: ExtentSet | None = None,
    replace: bool = False,
) -> Shipped:
    """
    Ship the content of `extents` as a reader of the chain sees it: an exact or other resync.

    Extents are widened to whole 4 KiB. Runs of zeroes become zero extents; what is not in
    `allocated`, where given, is known to be zero and is not read. Otherwise as `ship_layer`.
    """
    wanted = _whole_blocks(extents, size)
    holes = wanted - _whole_blocks(allocated, size) if allocated is not None else ExtentSet.empty()
    taken = _known(partial(_pieces, read), wanted - holes, holes, control)
    return _ship(
        items, taken, position=position, disk=disk, size=size, before=before, replace=replace
    )


def ship_found(
    items: ItemStore,
    *,
    position: Position,
    disk: DiskName,
    read: Read,
    findings: Iterable[Found],
    size: int,
    control: Control,
    replace: bool = False,
) -> Shipped:
    """
    Ship what a comparison finds, while it goes on: a differential resync.

    `findings` can be taken again and again. Nothing is put before the first extent that differs is
    known, or that none does. Progress is told of the disk. Otherwise as `ship_difference`; what
    ended the comparison ends this.
    """
    alike = 0
    for found in findings:
        if found.extents:
            break
        alike = found.upto
        control.progress(alike, size)

    def taken() -> Iterator[Item]:
        pieces = _as_found(read, findings, size, control, told=alike)
        return items_of_pieces(pieces, ExtentSet.empty(), control, done=_unseen)

    return _ship(
        items, taken, position=position, disk=disk, size=size, before=None, replace=replace
    )


def ship_manifest(items: ItemStore, manifest: Manifest) -> None:
    """
    Make the point exist; all its objects are in the store by now.

    Raises:
        RepeatedPositionError: the position has another manifest.
    """
    items.put_once(items.manifest_key(manifest.position), encode_manifest(manifest))


def reship_manifest(items: ItemStore, manifest: Manifest) -> None:
    """Put a manifest again over one that was found damaged or missing."""
    items.put(items.manifest_key(manifest.position), encode_manifest(manifest))


def data_items(
    read: Read, data: ExtentSet, zero: ExtentSet, control: Control, *, done: Callable[[int], None]
) -> Iterator[Item]:
    """
    The items of a delta, ascending, read as they are taken.

    `data` and `zero` are disjoint; otherwise as `items_of_pieces`.
    """
    return items_of_pieces(_pieces(read, data), zero, control, done=done)


def items_of_pieces(
    pieces: Pieces, zero: ExtentSet, control: Control, *, done: Callable[[int], None]
) -> Iterator[Item]:
    """
    The items of a delta, ascending, `pieces` being taken one by one.

    `zero` has no byte of a piece; `done` is told the bytes of each item. Stops where the control
    says so; paced before each piece is handed on.
    """
    for item in _merged(pieces, zero):
        control.check()
        if isinstance(item, DataItem):
            control.pace(item.length)
        yield item
        done(item.length)


def put_encoded(
    items: ItemStore, key: str, encode: Callable[[], DeltaEncoding], *, replace: bool
) -> DeltaResult:
    """
    Put a delta object under a key that is taken at most once; what it turned out to be.

    Where the key is taken, what is there is read and compared with what would be put: the same is
    kept. A damaged object is put anew, as nobody can have used it.

    Raises:
        RepeatedPositionError: a sound object with other content is there.
    """
    body = _Repeatable(encode)
    try:
        items.put(key, body, create_only=not replace)
    except ObjectExistsError as error:
        there = _result_there(items, key)
        if there is None:
            items.put(key, body)
        else:
            ours = body.result()
            if there.digest != ours.digest:
                raise RepeatedPositionError(key=key) from error
            return there
    return body.result()


def _known(
    scan: Scan, data: ExtentSet, zero: ExtentSet, control: Control
) -> Callable[[], Iterator[Item]]:
    """Items whose extents are all known before; `data` and `zero` are disjoint and whole blocks."""

    def taken() -> Iterator[Item]:
        meter = Meter(control, total=data.total + zero.total, step=MiB)
        return items_of_pieces(scan(data), zero, control, done=meter.add)

    return taken


def _ship(
    items: ItemStore,
    taken: Callable[[], Iterator[Item]],
    *,
    position: Position,
    disk: DiskName,
    size: int,
    before: Digest | None,
    replace: bool,
) -> Shipped:
    header = header_of(items, position=position, disk=disk, size=size)
    key = items.delta_key(position, disk)
    result = put_encoded(items, key, lambda: encode_delta(header, taken()), replace=replace)
    stored = stored_object(key, result)
    image = image_of(
        ImageKind.DELTA,
        (stored,),
        disk=disk,
        size=size,
        changed=result.data_bytes,
        before=before,
    )
    return Shipped(image=image, map=result.changed)


def header_of(items: ItemStore, *, position: Position, disk: str, size: int) -> DeltaHeader:
    """What an object says of itself, so that it is known for foreign elsewhere."""
    facts = {"vault": items.vault, "item": items.item, "position": str(position)}
    return DeltaHeader(disk=disk, size=size, facts=facts)


def stored_object(
    key: str, result: DeltaResult, *, start: int = 0, length: int = 0
) -> StoredObject:
    """The object as a manifest names it."""
    digest = Digest(result.digest.hex())
    return StoredObject(
        key=key, size=result.stored_bytes, digest=digest, start=start, length=length
    )


def image_of(
    kind: ImageKind,
    objects: tuple[StoredObject, ...],
    *,
    disk: DiskName,
    size: int,
    changed: int,
    before: Digest | None,
) -> DiskImage:
    """One disk of a point, its digest and state computed from its objects."""
    joint = joint_digest(tuple(stored.digest for stored in objects))
    return DiskImage(
        disk=disk,
        kind=kind,
        size=size,
        changed=changed,
        objects=objects,
        digest=joint,
        state=next_state(before, joint),
    )


def _result_there(items: ItemStore, key: str) -> DeltaResult | None:
    """What the object in the store is; None if it is damaged."""
    try:
        stream = decode_delta(items.stream(key))
        for _ in stream:
            pass
    except DeltaFormatError:
        return None
    return stream.result


class _Repeatable:
    """An object's body that is encoded anew each time it is read: a put may be repeated."""

    def __init__(self, encode: Callable[[], DeltaEncoding]) -> None:
        self._encode = encode
        self._result: DeltaResult | None = None  # of the last complete reading

    def __iter__(self) -> Iterator[bytes]:
        encoding = self._encode()
        yield from encoding
        self._result = encoding.result

    def result(self) -> DeltaResult:
        """What the body is; it is encoded for that only if it never was."""
        if self._result is None:
            for _ in self:
                pass
        if self._result is None:
            raise RuntimeError("a delta that was encoded has a result")
        return self._result


def _pieces(read: Read, data: ExtentSet) -> Pieces:
    """What `read` gives for the extents, cut where frames of a delta are likely to be."""
    return ((extent.start, read(extent.start, extent.length)) for extent in data.split(_PIECE))


def _as_found(
    read: Read, findings: Iterable[Found], size: int, control: Control, *, told: int
) -> Pieces:
    """What `read` gives for all that is found, as it is found; progress once a MiB of the disk."""
    for found in findings:
        for offset, body in _pieces(read, _whole_blocks(found.extents, size)):
            yield offset, body
            if offset >= told + MiB:
                told = offset
                control.progress(told, size)
        if found.upto > told:
            told = found.upto
            control.progress(told, size)


def _unseen(count: int) -> None:
    """Progress is told otherwise."""
    del count


def _scanned(reader: LayerReader, size: int, data: ExtentSet) -> Pieces:
    """A layer's data; where the disk was made longer since, zeroes fill its last block."""
    for offset, body in reader.scan(data):
        short = -len(body) % SUBCLUSTER
        yield offset, body + bytes(min(short, size - offset - len(body)))


def _whole_blocks(extents: ExtentSet, size: int) -> ExtentSet:
    return extents.aligned(SUBCLUSTER).clipped(size)


def _merged(pieces: Pieces, zero: ExtentSet) -> Iterator[Item]:
    """Pieces and zero extents in one ascending run."""
    waiting = iter(zero)
    gap = next(waiting, None)
    for offset, body in pieces:
        while gap is not None and gap.start < offset:
            yield ZeroItem(gap.start, gap.length)
            gap = next(waiting, None)
        yield DataItem(offset, body)
    while gap is not None:
        yield ZeroItem(gap.start, gap.length)
        gap = next(waiting, None)
