"""
A recovery point's manifest: what the point claims, and what may follow what.

The manifest is put into the cache store last and is what makes the point exist there; beside the
landed layers it is what makes the point bootable with nothing but the target site's files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from blake3 import blake3

from homeport.errors import IntegrityError
from homeport.model.codec import from_json, to_json
from homeport.model.ids import Digest, DiskName, ItemId, VaultId
from homeport.model.machine import MachineDefinition
from homeport.model.position import Position, PositionMismatchError

MANIFEST_FORMAT = 1


class Consistency(StrEnum):
    """What may be concluded of the file systems in a point."""

    CRASH = "crash-consistent"
    APP = "app-consistent"


class ImageKind(StrEnum):
    """
    What a disk's objects hold.

    SEED is the whole disk; DELTA the changes since the point before, whose state it continues;
    REPAIR what a comparison found to differ, on a disk whose history proves nothing any more.
    """

    SEED = "seed"
    DELTA = "delta"
    REPAIR = "repair"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject:
    """One object of the cache store; `digest` is that of its uncompressed content."""

    key: str  # below the item's prefix
    size: int  # stored bytes
    digest: Digest
    start: int = 0  # seed parts: the range of the disk they cover
    length: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskImage:
    """One disk's part of a point. `state` proves the whole history of the disk up to it."""

    disk: DiskName
    kind: ImageKind
    size: int  # virtual bytes at this point
    changed: int  # bytes of data the objects carry, uncompressed
    objects: tuple[StoredObject, ...]
    digest: Digest  # over the objects' digests, in order
    state: Digest


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What makes a point exist. `previous` is None exactly for a first seed."""

    vault: VaultId
    item: ItemId
    position: Position
    previous: Position | None
    taken_at: datetime
    consistency: Consistency
    machine: MachineDefinition
    disks: tuple[DiskImage, ...]
    reason: str = ""  # why not app-consistent although asked; which resync and why
    final: bool = False  # the machine was shut down before it: nothing can follow in this epoch
    format: int = MANIFEST_FORMAT

    @property
    def states(self) -> Mapping[DiskName, Digest]:
        """The state digest of each disk at this point."""
        return {image.disk: image.state for image in self.disks}

    def image(self, disk: str) -> DiskImage:
        """The image of that disk; KeyError if the point has none."""
        for image in self.disks:
            if image.disk == disk:
                return image
        raise KeyError(disk)

    def check_follows(self, position: Position | None, states: Mapping[DiskName, Digest]) -> None:
        """
        Raise unless this point may be landed on a replica standing at `position` with `states`.

        Raises:
            PositionMismatchError: it starts elsewhere.
            HistoryMismatchError: it starts there, but from other content.
        """
        if self.previous != position:
            raise PositionMismatchError(expected=position, found=self.previous)
        if position is not None and self.position <= position:
            raise PositionMismatchError(expected=position, found=self.position)
        for image in self.disks:
            before = states.get(image.disk) if image.kind is ImageKind.DELTA else None
            if image.kind is ImageKind.DELTA and before is None:
                raise HistoryMismatchError(image.disk, self.position)
            if next_state(before, image.digest) != image.state:
                raise HistoryMismatchError(image.disk, self.position)


class HistoryMismatchError(IntegrityError):
    """A point that starts from other content than the replica holds."""

    code = "HistoryMismatch"

    def __init__(self, disk: str, position: Position) -> None:
        super().__init__(
            f"Point {position} of disk {disk} was not made from what the replica holds.",
            cause="Its state digest does not continue the replica's: another history, or an "
            "altered manifest.",
        )
        self.disk = disk
        self.position = position


class UnknownFormatError(IntegrityError):
    """A manifest of a format this version does not know."""

    code = "UnknownFormat"

    def __init__(self, found: int) -> None:
        super().__init__(
            f"The manifest has format {found}; this version reads up to {MANIFEST_FORMAT}.",
            cause="It was written by a newer Homeport.",
            remedy="Upgrade this side; nothing was changed.",
        )
        self.found = found


def next_state(before: Digest | None, digest: Digest) -> Digest:
    """state(n) = BLAKE3(state(n-1), digest of delta n); a seed starts a chain of its own."""
    chained = blake3(bytes.fromhex(before) if before else b"seed")
    chained.update(bytes.fromhex(digest))
    return Digest(chained.hexdigest())


def joint_digest(digests: tuple[Digest, ...]) -> Digest:
    """The digest over several objects' digests, in order: what `DiskImage.digest` holds."""
    joint = blake3()
    for digest in digests:
        joint.update(bytes.fromhex(digest))
    return Digest(joint.hexdigest())


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as stored: its digest on the first line, then JSON."""
    body = to_json(Manifest, manifest, indent=1)
    return blake3(body).hexdigest().encode() + b"\n" + body


def decode_manifest(text: bytes) -> Manifest:
    """
    Read what `encode_manifest` wrote.

    Raises:
        IntegrityError: altered or cut, or of a newer format (UnknownFormatError).
    """
    digest, _, body = text.partition(b"\n")
    if blake3(body).hexdigest().encode() != digest:
        raise IntegrityError(
            "A manifest's digest does not match its content.",
            code="ManifestAltered",
            cause="It was altered or cut after it was written.",
        )
    manifest = from_json(Manifest, body)
    if manifest.format > MANIFEST_FORMAT:
        raise UnknownFormatError(manifest.format)
    return manifest
