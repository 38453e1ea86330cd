"""
Whether a point is whole: its files, their structure, and the digests that prove their bytes.

A landed layer holds exactly what its delta held, so the delta's content digest can be computed from
it again and compared with what manifest or ledger name. A merged layer, or a base that took layers
in, has no such digest; their structure and change maps are checked, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from pathlib import Path

from homeport.dataplane.delta import DeltaHeader, encode_delta
from homeport.dataplane.pipeline import Control
from homeport.dataplane.points import backing_of
from homeport.dataplane.qcow2 import ChainReader, LayerReader, UnsupportedQcow2Error
from homeport.dataplane.qcow2_chain import BaseFormat
from homeport.dataplane.shipping import data_items
from homeport.errors import HomeportError, IntegrityError
from homeport.model.changemap import decode_map
from homeport.model.extent import ExtentSet, union_of
from homeport.model.ids import Digest
from homeport.model.ledger import DiskChain
from homeport.model.manifest import joint_digest, next_state
from homeport.model.position import Position
from homeport.rescue.finding import FoundDisk, FoundItem, FoundPoint

Progress = Callable[[str], None]
"""Told what is being looked at, for people who wait."""


class Depth(Enum):
    """How closely points are looked at."""

    STRUCTURE = "structure"  # files, headers, maps: as fast as the maps can be read
    CONTENT = "content"  # every byte of every layer, against its digest


class PointDamagedError(IntegrityError):
    """The point that was asked for is damaged; `instead` is the next older whole one, if any."""

    code = "PointDamaged"

    def __init__(self, point: Position, problems: Sequence[str], instead: Position | None) -> None:
        offer = f"Take the next older one that is whole: --point {instead}." if instead else ""
        super().__init__(
            f"Point {point} is damaged: {'; '.join(problems)}.",
            cause="A file was altered, cut, moved or removed after the point had landed.",
            remedy=offer or "No older point is whole. Look for another copy of the files named.",
        )
        self.point, self.problems, self.instead = point, tuple(problems), instead


class NoWholePointError(IntegrityError):
    """Nothing here can be trusted."""

    code = "NoWholePoint"

    def __init__(self, item: str, found: Mapping[Position, Verdict]) -> None:
        each = "; ".join(
            f"{position}: {verdict.problems[0]}" for position, verdict in found.items()
        )
        super().__init__(
            f"{item} has no whole point here.",
            cause=each or "No point has landed, or all were pruned.",
            remedy="Keep all files. Look for another copy of those named, or at the other site.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """
    What a look at a point came to. `problems` mean damage; `notes` are worth knowing.

    `proved` counts files whose every byte was compared with a digest, `files` all of them.
    """

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    proved: int = 0
    files: int = 0

    @property
    def whole(self) -> bool:
        """Nothing speaks against it."""
        return not self.problems


def silent(_words: str) -> None:
    """Tell nobody."""


@dataclass
class Prover:
    """
    Looks at an item's points. What a layer came to is remembered, as points share most of theirs.

    `progress` is told what is being looked at.
    """

    item: FoundItem
    depth: Depth
    progress: Progress = silent
    _known: dict[tuple[Path, Position | None], LayerFacts] = field(default_factory=dict)

    def check(self, point: FoundPoint) -> Verdict:
        """Look at one point. Damage is told, never raised."""
        problems, notes, proved, files = list(point.problems), list[str](), 0, 0
        for disk in point.disks:
            files += len(disk.files)
            if disk.problem:
                problems.append(disk.problem)
                continue
            look = _Disk(prover=self, point=point, disk=disk)
            try:
                look.structure()
                if self.depth is Depth.CONTENT and not look.problems:
                    look.content()
            except (HomeportError, OSError) as error:
                look.problems.append(f"disk {disk.disk.name}: {error}")
            problems += look.problems
            notes += look.notes
            proved += look.proved
        told = tuple(dict.fromkeys(notes))
        return Verdict(problems=tuple(problems), notes=told, proved=proved, files=files)

    def choose(
        self, position: Position | None = None
    ) -> tuple[FoundPoint, Verdict, dict[Position, Verdict]]:
        """
        The point asked for, or the newest whole one; with it, the damaged ones passed over.

        Raises:
            NotFoundError: there is no such point.
            PointDamagedError: it is damaged; the error names the next older whole one.
            NoWholePointError: none was named, and none is whole.
        """
        passed: dict[Position, Verdict] = {}
        for point in [self.item.point(position)] if position else self.item.points:
            verdict = self.check(point)
            if verdict.whole:
                return point, verdict, passed
            passed[point.position] = verdict
        if position is None:
            raise NoWholePointError(self.item.name, passed)
        raise PointDamagedError(position, passed[position].problems, self._older(position))

    def _older(self, position: Position) -> Position | None:
        older = (one for one in self.item.points if one.position < position)
        return next((one.position for one in older if self.check(one).whole), None)

    def layer(self, path: Path, below: Position | None) -> LayerFacts:
        """What a layer holds, read once."""
        key = (path, below)
        if key not in self._known:
            self.progress(f"{path.parent.name}: {path.name}")
            with LayerReader(path) as reader:
                self._known[key] = LayerFacts(
                    changed=reader.map.changed, digest=content_digest(reader)
                )
        return self._known[key]


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """A layer's change map and the content digest of the delta it would be."""

    changed: ExtentSet
    digest: Digest


@dataclass
class _Disk:
    """One disk's look: what was found is gathered here."""

    prover: Prover
    point: FoundPoint
    disk: FoundDisk
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    proved: int = 0

    @property
    def item(self) -> FoundItem:
        """The item the point is of."""
        return self.prover.item

    def content(self) -> None:
        """Every layer against its digest, the base against its stamp."""
        for index, path in enumerate(self.disk.files[:-1]):
            self._layer(index, path)
        self._base(self.disk.files[-1])

    def _problem(self, words: str) -> None:
        self.problems.append(f"disk {self.disk.disk.name}: {words}")

    def structure(self) -> None:
        """Headers, tables and sizes; what a header names is compared with what the ledger says."""
        files = self.disk.files
        try:
            with ChainReader(files, base_format=self._base_format()) as chain:
                size = chain.size
        except UnsupportedQcow2Error as error:
            self.notes.append(f"disk {self.disk.disk.name}: only QEMU can read it: {error}")
            return
        wanted = self._size()
        if size != wanted:
            self._problem(f"{files[0].name} is of {size} bytes, the point of {wanted}")
        for path, below in pairwise(files):
            named = backing_of(path)
            if named != below and not (named and named.exists() and named.samefile(below)):
                self.notes.append(f"{path.name} names {named} below itself; the ledger is followed")

    def _base_format(self) -> BaseFormat:
        return "raw" if self.disk.base_format == "raw" else "qcow2"

    def _size(self) -> int:
        if self.point.manifest:
            return self.point.manifest.image(self.disk.disk.name).size
        return self.disk.disk.size

    def _layer(self, index: int, path: Path) -> None:
        """A layer against its digest, where it still holds one delta; else against the maps."""
        below, at = self.disk.positions[index + 1], self.disk.positions[index]
        facts = self.prover.layer(path, below)
        self._map(facts.changed, path, below, at)
        proof = self._proof(facts.digest, below, at)
        if proof:
            self.proved += 1
        elif proof is False:
            self._problem(f"the bytes of {path.name} are not those of point {at}")

    def _proof(self, digest: Digest, below: Position | None, at: Position | None) -> bool | None:
        """True: proved. False: other bytes than were landed. None: merged, so nothing says."""
        manifest = self.item.manifests.get(at) if at else None
        name = self.disk.disk.name
        if manifest and manifest.image(name).digest == digest:
            return True
        state, before = self._state(at), self._state(below)
        if state is not None and state in (next_state(before, digest), next_state(None, digest)):
            return True
        if manifest:
            return False if manifest.previous == below else None
        return False if self._neighbours(below, at) else None

    def _neighbours(self, below: Position | None, at: Position | None) -> bool:
        """Whether nothing was ever between the two, as far as the ledger remembers."""
        past = [one.position for one in self.item.ledger.past] if self.item.ledger else []
        return below in past and at in past and past.index(at) - past.index(below) == 1

    def _state(self, at: Position | None) -> Digest | None:
        """The disk's state digest at a position, from the ledger or a manifest."""
        chain = self._chain()
        if chain and at is not None:
            if at == chain.base_at and chain.base_state:
                return chain.base_state
            for layer in (*chain.layers, *chain.beyond):
                if layer.position == at and layer.state:
                    return layer.state
        manifest = self.item.manifests.get(at) if at else None
        return manifest.states.get(self.disk.disk.name) if manifest else None

    def _chain(self) -> DiskChain | None:
        return self.item.ledger.chain(self.disk.disk.name) if self.item.ledger else None

    def _map(
        self, changed: ExtentSet, path: Path, below: Position | None, at: Position | None
    ) -> None:
        """What a layer holds against the kept change maps of the points that went into it."""
        ledger = self.item.ledger
        if ledger is None or below is None or at is None:
            return
        covered = [one.position for one in ledger.past if below < one.position <= at]
        maps = [
            self.item.folder / "maps" / f"{position.key}.{self.disk.disk.name}"
            for position in covered
        ]
        if not maps or not all(one.exists() for one in maps):
            return
        try:
            known = union_of([decode_map(one.read_bytes()) for one in maps])
        except HomeportError as error:
            self.notes.append(
                f"a change map of {path.name} is damaged, which no point needs: {error}"
            )
            return
        if known.clipped(changed.end or known.end) != changed.clipped(changed.end or known.end):
            self._problem(f"{path.name} does not hold what its change maps say")

    def _base(self, path: Path) -> None:
        """The base has no digest of its own; whether somebody has written to it can be seen."""
        chain = self._chain()
        if chain is None or chain.base_stamp is None:
            return
        facts = path.stat()
        seen = (facts.st_size, facts.st_mtime_ns)
        committing = self.item.ledger is not None and self.item.ledger.committing is not None
        if committing or seen == (chain.base_stamp.size, chain.base_stamp.mtime_ns):
            return
        if facts.st_ino == chain.base_stamp.inode:
            self.notes.append(f"{path.name} was written to after Homeport's last write to it")
        else:
            self.notes.append(f"{path.name} is a copy: its bytes cannot be proved")


def content_digest(reader: LayerReader) -> Digest:
    """The content digest of the delta that a layer holds, as shipping and landing compute it."""
    header = DeltaHeader(disk="", size=reader.map.header.size)
    items = data_items(
        reader.read, reader.map.data, reader.map.zero, Control(), done=lambda _count: None
    )
    encoding = encode_delta(header, items)
    for _ in encoding:
        pass
    return joint_digest((Digest(encoding.result.digest.hex()),))
