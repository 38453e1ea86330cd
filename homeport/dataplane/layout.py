"""
Where an item's objects lie in a cache store, and the few calls that shipping and landing make.

One `ItemStore` is one item's part of one store; nothing above it builds a key. An object is written
once: the same again is fine, other content under a taken key is refused (G5), and replacing what
was found damaged is asked for by name. `docs/formats-store.md` has the layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from blake3 import blake3

from homeport.dataplane.objects import Body, ObjectExistsError
from homeport.dataplane.ports import ObjectStore
from homeport.errors import HomeportError, IntegrityError
from homeport.model.codec import from_json, to_json
from homeport.model.ids import ItemId, VaultId
from homeport.model.position import Position
from homeport.units import MiB

T = TypeVar("T")

VERSION = "v1"
CHUNK = MiB  # read from the store at a time
POINTS, SEEDS, DIGESTS, LANDED, WANTED = "points", "seeds", "digests", "landed", "wanted"
FOLDERS = frozenset((POINTS, SEEDS, DIGESTS, LANDED, WANTED))
MANIFEST = "manifest"
_DELTA = ".delta"


class RepeatedPositionError(IntegrityError):
    """An object of a position is in the store already, with other content."""

    code = "RepeatedPosition"
    default_cause = (
        "The position was shipped before from other data: two writers, or a source that was put "
        "back to an earlier state."
    )
    default_remedy = (
        "Nothing was overwritten. Find out which host ships this item besides this one; then "
        "resync, which begins a new position."
    )

    def __init__(self, *, key: str) -> None:
        super().__init__(f"The object {key!r} exists with other content than is to be shipped.")
        self.key = key


class ForeignObjectError(IntegrityError):
    """An object in the item's place that belongs to something else."""

    code = "ForeignObject"
    default_cause = "It was copied or renamed there, or two vaults share one place in the store."
    default_remedy = (
        "Nothing of it was used. Remove the object, or give each vault a prefix of its own; what "
        "belongs there is asked of the source again."
    )

    def __init__(self, *, key: str, found: str) -> None:
        super().__init__(f"The object {key!r} does not belong there: {found}.")
        self.key, self.found = key, found


class DamagedObjectError(IntegrityError):
    """An object that is missing, cut or altered. Raised from what was found."""

    code = "DamagedObject"
    default_cause = "It was altered, cut or deleted in the cache store, or on its way."
    default_remedy = (
        "Nothing of it was used. It is asked of the source again by itself; if the source no "
        "longer has it, a resync brings the replica up to date."
    )

    def __init__(self, *, key: str, found: str) -> None:
        super().__init__(f"The object {key!r} cannot be used: {found}.")
        self.key, self.found = key, found


@dataclass(frozen=True, slots=True)
class ItemStore:
    """
    One item's objects in one store. Keys taken and given here are below the item's prefix.

    All calls may be made from several threads, and raise what the store raises.
    """

    store: ObjectStore
    vault: VaultId
    item: ItemId

    @property
    def prefix(self) -> str:
        """What every key of the item begins with in the store; ends with a slash."""
        return f"{VERSION}/{_plain(self.vault)}/{_plain(self.item)}/"

    def manifest_key(self, position: Position) -> str:
        """The key of the manifest that makes the point exist."""
        return f"{POINTS}/{position.key}/{MANIFEST}"

    def delta_key(self, position: Position, disk: str) -> str:
        """The key of a disk's delta."""
        return f"{POINTS}/{position.key}/{_plain(disk)}{_DELTA}"

    def seed_prefix(self, position: Position, disk: str) -> str:
        """What the keys of a disk's seed parts begin with."""
        return f"{SEEDS}/{position.key}/{_plain(disk)}/"

    def seed_key(self, position: Position, disk: str, part: int) -> str:
        """The key of one part of a disk's seed."""
        return f"{self.seed_prefix(position, disk)}{part:06d}"

    def digest_key(self, position: Position, disk: str, name: str) -> str:
        """The key of one of the objects that a differential resync exchanges."""
        return f"{DIGESTS}/{position.key}/{_plain(disk)}/{name}"

    def landed_key(self, position: Position) -> str:
        """The key of the word that a point has landed."""
        return f"{LANDED}/{position.key}"

    def wanted_key(self, position: Position) -> str:
        """The key of the word that a point's objects are needed again."""
        return f"{WANTED}/{position.key}"

    def put(self, key: str, body: Body, *, create_only: bool = False) -> None:
        """Store an object; ObjectExistsError if `create_only` and it is there."""
        self.store.put(self.prefix + key, body, create_only=create_only)

    def put_once(self, key: str, body: bytes) -> None:
        """
        Store a small object; the same again has the effect of once.

        Raises:
            RepeatedPositionError: it is there with other content, which stays.
        """
        try:
            self.put(key, body, create_only=True)
        except ObjectExistsError as error:
            if self.get(key) != body:
                raise RepeatedPositionError(key=key) from error

    def get(self, key: str) -> bytes:
        """A small object; ObjectMissingError if it is not there."""
        return self.store.get(self.prefix + key)

    def stream(self, key: str) -> Iterator[bytes]:
        """An object in pieces; ObjectMissingError at the first one if it is not there."""
        return self.store.stream(self.prefix + key, CHUNK)

    def exists(self, key: str) -> bool:
        """Whether the object is there."""
        return self.store.exists(self.prefix + key)

    def list_keys(self, under: str = "") -> Iterator[str]:
        """The keys under a folder of the item ("points/"), or all of them, in order."""
        for facts in self.store.list(self.prefix + under):
            yield facts.key.removeprefix(self.prefix)

    def delete(self, key: str) -> None:
        """Remove an object; absent already is fine."""
        self.store.delete(self.prefix + key)


def position_of(key: str) -> Position:
    """
    The position that the second name of a key is.

    Raises:
        ForeignObjectError: it is none, or not written as positions are.
    """
    names = key.split("/")
    try:
        position = Position.parse(names[1])
    except (IndexError, HomeportError) as error:
        raise ForeignObjectError(key=key, found="its key names no position") from error
    if position.key != names[1]:
        raise ForeignObjectError(key=key, found="its position is not written as Homeport does")
    return position


def sealed(kind: type[T], value: T) -> bytes:
    """A small document with its digest on the first line."""
    body = to_json(kind, value, indent=1)
    return blake3(body).hexdigest().encode() + b"\n" + body


def unsealed(kind: type[T], text: bytes, *, key: str) -> T:
    """
    Read what `sealed` wrote.

    Raises:
        DamagedObjectError: a bit differs, or something is missing.
    """
    digest, _, body = text.partition(b"\n")
    if blake3(body).hexdigest().encode() != digest:
        raise DamagedObjectError(key=key, found="its digest does not match its content")
    return from_json(kind, body)


def _plain(name: str) -> str:
    """The name as a store can hold it: '+' is no letter of keys, and '=' none of names."""
    return name.replace("+", "=")
