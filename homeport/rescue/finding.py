"""
What a folder holds: items, their points, and the files of each disk at each point.

The ledger says which file stands on which. Where it is missing or damaged, the points' manifests
and the layers' own headers say the same: a layer is named after its point, and names what it stands
on. Damage is noted at the point it concerns and never ends the search.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from homeport.dataplane.points import backing_of
from homeport.dataplane.qcow2 import read_header
from homeport.errors import HomeportError, NotFoundError
from homeport.model.codec import from_json
from homeport.model.ledger import ItemLedger
from homeport.model.machine import DiskDefinition, MachineDefinition
from homeport.model.manifest import Manifest, decode_manifest
from homeport.model.position import Position

LEDGER_FILE, POINTS, ITEMS = "ledger.json", "points", "homeport"
LAYER_SUFFIX, REPLICA_SUFFIX = ".qcow2", "-ASRReplica"
CHAIN_LIMIT = 1000
"""Files in a chain at most: more is a header that names a file above itself."""


class NothingFoundError(NotFoundError):
    """A folder in which nothing of Homeport's lies."""

    code = "NothingToRescue"

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"There is no item of Homeport's in {folder}.",
            cause="Neither it nor its folder 'homeport' has a ledger or points of an item.",
            remedy="Name a storage pool, or an item's own folder in POOL/homeport.",
        )
        self.folder = folder


class UnknownItemError(NotFoundError):
    """The folder has items, but not the one that was named, or several and none was named."""

    code = "ItemNotHere"

    def __init__(self, folder: Path, name: str | None, names: list[str]) -> None:
        super().__init__(
            f"{folder} has no item {name}." if name else f"{folder} has several items.",
            cause=f"It has: {', '.join(names)}.",
            remedy="Name one of them with --item.",
        )
        self.names = names


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundDisk:
    """One disk of a point. `files` are top first; empty, with `problem` set, when some is gone."""

    disk: DiskDefinition
    files: tuple[Path, ...]
    positions: tuple[Position | None, ...]  # of each file; None where it is not known
    problem: str = ""

    @property
    def base_format(self) -> str:
        """Of the last file; all above it are qcow2."""
        return self.disk.format.value


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundPoint:
    """A point with its files. `problems` are those seen without opening the disks."""

    position: Position
    taken_at: datetime | None
    consistency: str
    machine: MachineDefinition
    disks: tuple[FoundDisk, ...]
    manifest: Manifest | None
    label: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundItem:
    """An item's folder. `points` are newest first; without a ledger `problem` says why."""

    folder: Path
    name: str
    item: str
    points: tuple[FoundPoint, ...]
    ledger: ItemLedger | None = None
    problem: str = ""
    manifests: Mapping[Position, Manifest] = field(default_factory=dict)

    def point(self, position: Position) -> FoundPoint:
        """
        The point at a position.

        Raises:
            NotFoundError: there is none.
        """
        for point in self.points:
            if point.position == position:
                return point
        raise NotFoundError(
            f"{self.name} has no point {position} here.",
            code="NoSuchPoint",
            cause="It was pruned, or has never landed at this site.",
            remedy="Choose one from the list: homeport rescue DIR",
        )


def find_items(folder: Path) -> tuple[FoundItem, ...]:
    """
    The items below a pool's folder, its `homeport` folder, or an item's own.

    Raises:
        NothingFoundError: there is none.
    """
    found = tuple(read_item(path.resolve()) for path in _item_folders(folder))
    if not found:
        raise NothingFoundError(folder)
    return found


def find_item(folder: Path, name: str | None) -> FoundItem:
    """
    The item by its name, id or folder; the only one if it is not named.

    Raises:
        NothingFoundError: there is none at all.
        UnknownItemError: it is not among those there are.
    """
    items = find_items(folder)
    fitting = [
        one for one in items if name is None or name in (one.name, one.item, one.folder.name)
    ]
    if len(fitting) != 1:
        raise UnknownItemError(folder, name, [one.folder.name for one in items])
    return fitting[0]


def _item_folders(folder: Path) -> Iterator[Path]:
    if _is_item(folder):
        yield folder
        return
    for parent in (folder / ITEMS, folder):
        if parent.is_dir():
            yield from (path for path in sorted(parent.iterdir()) if _is_item(path))


def _is_item(folder: Path) -> bool:
    return (folder / LEDGER_FILE).is_file() or (folder / POINTS).is_dir()


def read_item(folder: Path) -> FoundItem:
    """An item's folder, read whole; what is damaged in it is noted, not raised."""
    ledger, problem = _read_ledger(folder)
    manifests, damaged = _read_manifests(folder)
    if ledger:
        points = _points_by_ledger(folder, ledger, manifests, damaged)
        name, item = ledger.name, str(ledger.item)
    else:
        points = [_point_by_headers(folder, one) for one in manifests.values()]
        name = folder.name.rpartition(".")[0] or folder.name
        item = next((str(one.item) for one in manifests.values()), "")
    return FoundItem(
        folder=folder,
        name=name,
        item=item,
        points=tuple(sorted(points, key=lambda point: point.position, reverse=True)),
        ledger=ledger,
        problem=problem,
        manifests=manifests,
    )


def _read_ledger(folder: Path) -> tuple[ItemLedger | None, str]:
    try:
        return from_json(ItemLedger, (folder / LEDGER_FILE).read_bytes()), ""
    except FileNotFoundError:
        return None, "the ledger is missing: manifests and the layers' own headers are used"
    except (HomeportError, OSError) as error:
        return None, f"the ledger cannot be read, so manifests and headers are used: {error}"


def _read_manifests(folder: Path) -> tuple[dict[Position, Manifest], dict[Position, str]]:
    """Manifests by position, and for those that cannot be used: why."""
    found: dict[Position, Manifest] = {}
    damaged: dict[Position, str] = {}
    for path in sorted((folder / POINTS).glob("*")):
        try:
            position = Position.parse(path.name)
        except HomeportError:
            continue  # a partial file of a landing that did not end
        try:
            manifest = decode_manifest(path.read_bytes())
        except (HomeportError, OSError) as error:
            damaged[position] = f"its manifest: {error}"
            continue
        if manifest.position != position:
            damaged[position] = f"its manifest is that of point {manifest.position}"
        else:
            found[position] = manifest
    return found, damaged


def _points_by_ledger(
    folder: Path,
    ledger: ItemLedger,
    manifests: Mapping[Position, Manifest],
    damaged: Mapping[Position, str],
) -> list[FoundPoint]:
    points = []
    for record in ledger.points:
        manifest = manifests.get(record.position)
        problems = [] if manifest else [damaged.get(record.position, "its manifest is missing")]
        if manifest and (manifest.vault, manifest.item) != (ledger.vault, ledger.item):
            problems.append(f"its manifest is of item {manifest.item}")
        points.append(
            FoundPoint(
                position=record.position,
                taken_at=record.taken_at,
                consistency=record.consistency.value,
                machine=manifest.machine if manifest else ledger.definition,
                disks=tuple(
                    _disk_by_ledger(folder, ledger, disk.name, record.position)
                    for disk in ledger.definition.disks
                ),
                manifest=manifest,
                label=record.label,
                problems=tuple(problems),
            )
        )
    return points


def _disk_by_ledger(folder: Path, ledger: ItemLedger, name: str, position: Position) -> FoundDisk:
    chain = ledger.chain(name)
    at = {layer.path: layer.position for layer in (*chain.layers, *chain.beyond)}
    try:
        names = chain.chain_at(position)
    except KeyError:
        gone = f"disk {name}: the ledger names no file of this point"
        return FoundDisk(disk=chain.disk, files=(), positions=(), problem=gone)
    files = tuple(Path(os.path.normpath(folder / one)) for one in names)
    missing = [path for path in files if not path.exists()]
    return FoundDisk(
        disk=chain.disk,
        files=files,
        positions=tuple(at.get(one, chain.base_at) for one in names),
        problem=f"disk {name}: {missing[0]} is missing" if missing else "",
    )


def _point_by_headers(folder: Path, manifest: Manifest) -> FoundPoint:
    return FoundPoint(
        position=manifest.position,
        taken_at=manifest.taken_at,
        consistency=manifest.consistency.value,
        machine=manifest.machine,
        disks=tuple(
            _disk_by_headers(folder, disk, manifest.position) for disk in manifest.machine.disks
        ),
        manifest=manifest,
    )


def _disk_by_headers(folder: Path, disk: DiskDefinition, position: Position) -> FoundDisk:
    try:
        files = _files_by_headers(folder, disk, position)
    except (HomeportError, OSError) as error:
        return FoundDisk(disk=disk, files=(), positions=(), problem=f"disk {disk.name}: {error}")
    return FoundDisk(disk=disk, files=files, positions=tuple(_position_of(one) for one in files))


def _files_by_headers(folder: Path, disk: DiskDefinition, position: Position) -> tuple[Path, ...]:
    """From the layer named after the point; from the base, if the point is older than any layer."""
    own = folder / disk.name / f"{position.key}{LAYER_SUFFIX}"
    if own.exists():
        return tuple(_chain_below(own))
    layers = sorted((folder / disk.name).glob(f"??????-??????????{LAYER_SUFFIX}"))
    if layers and layers[0].name < own.name:
        raise FileNotFoundError(f"{own} is missing")
    if layers:
        return tuple(_chain_below(layers[0]))[-1:]
    pool = folder.parent.parent
    names = (f"{disk.name}{REPLICA_SUFFIX}{disk.suffix}", f"{disk.name}{disk.suffix}")
    for name in names:
        if (pool / name).exists():
            return (pool / name,)
    raise FileNotFoundError(f"neither {own} nor {pool / names[0]} is there")


def _chain_below(top: Path) -> Iterator[Path]:
    """
    A layer and the files below it, as their headers name them.

    A raw base ends it whatever its bytes are: they are the guest's, and may look like a header.
    """
    path = top
    for _ in range(CHAIN_LIMIT):
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing")
        yield path
        below, below_format = backing_of(path), read_header(path).backing_format
        if below is None:
            return
        if below_format != "qcow2":
            if not below.exists():
                raise FileNotFoundError(f"{below} is missing")
            yield below
            return
        path = below
    raise FileNotFoundError(f"{top} stands on itself")


def _position_of(path: Path) -> Position | None:
    try:
        return Position.parse(path.stem)
    except HomeportError:
        return None
