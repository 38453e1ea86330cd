"""Small disks, layers and points in a cache store, for the tests of shipping and landing."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from homeport.dataplane.landing import land_delta
from homeport.dataplane.layout import ItemStore
from homeport.dataplane.pipeline import Control
from homeport.dataplane.ports import ObjectStore
from homeport.dataplane.qcow2 import ChainReader, LayerWriter
from homeport.dataplane.shipping import Shipped, ship_layer, ship_manifest
from homeport.model.extent import Extent, ExtentSet
from homeport.model.ids import Digest, DiskName, ItemId, VaultId
from homeport.model.machine import DiskDefinition, DiskFormat, Firmware, MachineDefinition
from homeport.model.manifest import Consistency, DiskImage, Manifest
from homeport.model.position import Position
from homeport.providers.store.memory import MemoryStore
from homeport.units import KiB, MiB

SIZE = 10 * MiB + 512
BLOCK = 4 * KiB
DISK = DiskName("root")
FREE = Control()
SEEDED = Digest("5e" * 32)


def items_of(
    item: str = "vm-1", *, vault: str = "east", store: ObjectStore | None = None
) -> ItemStore:
    return ItemStore(store or MemoryStore(), VaultId(vault), ItemId(item))


def at(sequence: int, epoch: int = 1) -> Position:
    return Position(epoch, sequence)


def random_bytes(length: int, seed: object = 0) -> bytes:
    return random.Random(repr(seed)).randbytes(length)


def write_layer(
    path: Path, data: Mapping[int, bytes], zero: tuple[Extent, ...] = (), *, size: int = SIZE
) -> Path:
    """A layer with this data and these zero extents; its base is named, and need not exist."""
    pieces: list[tuple[int, bytes | int]] = [
        *data.items(),
        *((extent.start, extent.length) for extent in zero),
    ]
    with LayerWriter(path, size=size, backing="base.raw", backing_format="raw") as writer:
        for offset, piece in sorted(pieces, key=lambda one: one[0]):
            if isinstance(piece, int):
                writer.zero(offset, piece)
            else:
                writer.data(offset, piece)
        writer.finish()
    return path


def sparse(path: Path, data: Mapping[int, bytes], *, size: int = SIZE) -> Path:
    """A raw disk with this data and holes elsewhere."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset, body in data.items():
            file.seek(offset)
            file.write(body)
    return path


def raw_reader(path: Path) -> ChainReader:
    return ChainReader([path], base_format="raw")


def content(*paths: Path) -> bytes:
    """The whole disk as its guest sees it; the last path is raw."""
    with ChainReader(paths, base_format="raw") as reader:
        return reader.read(0, reader.size)


def machine(size: int = SIZE) -> MachineDefinition:
    return MachineDefinition(
        name="db",
        uuid="6a1e2b54-0000-4000-8000-000000000001",
        memory=256 * MiB,
        vcpus=1,
        firmware=Firmware.BIOS,
        disks=(DiskDefinition(name=DISK, target="vda", format=DiskFormat.RAW, size=size),),
        nics=(),
        domain_xml="<domain/>",
    )


def manifest_of(
    items: ItemStore, position: Position, previous: Position | None, *images: DiskImage
) -> Manifest:
    return Manifest(
        vault=items.vault,
        item=items.item,
        position=position,
        previous=previous,
        taken_at=datetime(2026, 1, 1, tzinfo=UTC),
        consistency=Consistency.CRASH,
        machine=machine(),
        disks=images,
    )


@dataclass
class Source:
    """A source that ships a layer a point; it keeps what the target must come to hold."""

    items: ItemStore
    folder: Path
    position: Position | None = None
    state: Digest = SEEDED
    maps: dict[Position, ExtentSet] = field(default_factory=dict)
    layers: dict[Position, Path] = field(default_factory=dict)

    def ship(
        self, position: Position, data: Mapping[int, bytes] | None = None, *zero: Extent
    ) -> Manifest:
        """One point with one disk, its manifest put."""
        layer = write_layer(
            self.folder / f"source-{position}.qcow2",
            data
            if data is not None
            else {position.sequence * BLOCK: random_bytes(BLOCK, position)},
            zero,
        )
        shipped = self.ship_disk(position, layer)
        manifest = manifest_of(self.items, position, self.position, shipped.image)
        ship_manifest(self.items, manifest)
        self.position, self.state = position, shipped.image.state
        self.maps[position], self.layers[position] = shipped.map, layer
        return manifest

    def ship_disk(self, position: Position, layer: Path, *, replace: bool = False) -> Shipped:
        return ship_layer(
            self.items,
            position=position,
            disk=DISK,
            layer=layer,
            size=SIZE,
            before=self.state,
            control=FREE,
            replace=replace,
        )


def land(items: ItemStore, manifest: Manifest, path: Path, *, control: Control = FREE) -> ExtentSet:
    return land_delta(
        items,
        manifest.disks[0],
        position=manifest.position,
        path=path,
        backing="base.raw",
        backing_format="raw",
        control=control,
    )


def stored(items: ItemStore, key: str) -> bytes:
    return items.store.get(items.prefix + key)


def overwrite(items: ItemStore, key: str, body: bytes) -> None:
    items.store.put(items.prefix + key, body)


def flipped(body: bytes, place: float) -> bytes:
    """`body` with one bit turned, `place` from 0 (its first byte) to 1 (its last)."""
    index = min(int(len(body) * place), len(body) - 1)
    return body[:index] + bytes([body[index] ^ 0x10]) + body[index + 1 :]
