"""
The two sides' notes to each other in the cache store, and the sweeping of what has served.

The target writes `landed/<position>` when a point is in its replica, and `wanted/<position>` when
it needs a point's objects again; the source reads both, commits and sweeps up to what has landed,
and ships again what is wanted. Neither needs the server for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from homeport.dataplane.layout import (
    FOLDERS,
    LANDED,
    MANIFEST,
    WANTED,
    DamagedObjectError,
    ForeignObjectError,
    ItemStore,
    RepeatedPositionError,
    position_of,
    sealed,
    unsealed,
)
from homeport.dataplane.objects import ObjectExistsError
from homeport.model.ids import Digest, DiskName, ItemId, VaultId
from homeport.model.position import Position


@dataclass(frozen=True, kw_only=True, slots=True)
class Acknowledgement:
    """A point is in the target's replica; `states` are its disks' there."""

    vault: VaultId
    item: ItemId
    position: Position
    states: dict[DiskName, Digest]


def acknowledge(items: ItemStore, position: Position, states: Mapping[DiskName, Digest]) -> None:
    """
    Say that the point is in the replica, durably; the same again is fine.

    Raises:
        RepeatedPositionError: it was said before with other states.
    """
    note = Acknowledgement(
        vault=items.vault, item=items.item, position=position, states=dict(sorted(states.items()))
    )
    key, body = items.landed_key(position), sealed(Acknowledgement, note)
    try:
        items.put(key, body, create_only=True)
    except ObjectExistsError as error:
        there = _note_there(items, key)
        if there is None:  # damaged: nobody can have gone by it
            items.put(key, body)
        elif there != note:
            raise RepeatedPositionError(key=key) from error


def acknowledged(items: ItemStore) -> Acknowledgement | None:
    """
    The newest point the target has landed; None if it has landed none.

    Raises:
        DamagedObjectError, ForeignObjectError: the note is not what the target wrote. Nothing may
            be committed or swept then; the target's next point puts a new note.
    """
    newest = max(((position_of(key), key) for key in items.list_keys(f"{LANDED}/")), default=None)
    if newest is None:
        return None
    position, key = newest
    note = unsealed(Acknowledgement, items.get(key), key=key)
    if (note.vault, note.item, note.position) != (items.vault, items.item, position):
        found = f"it is of item {note.item}, point {note.position}"
        raise ForeignObjectError(key=key, found=found)
    return note


def ask_again(items: ItemStore, position: Position) -> None:
    """Ask the source for a point's objects again: one is damaged or missing."""
    items.put(items.wanted_key(position), str(position).encode())


def wanted(items: ItemStore) -> tuple[Position, ...]:
    """The points whose objects the target needs again, oldest first."""
    return tuple(sorted(position_of(key) for key in items.list_keys(f"{WANTED}/")))


def clear_wanted(items: ItemStore, position: Position) -> None:
    """The point's objects have been shipped again."""
    items.delete(items.wanted_key(position))


def sweep(items: ItemStore, *, up_to: Position) -> None:
    """
    Delete the objects of all points up to `up_to`, which has landed; twice is as good as once.

    The word that `up_to` has landed stays, as it is what the next sweep and commit go by. Objects
    whose names are not ours stay too: `leftovers` names them.
    """
    _delete(items, [key for key in items.list_keys() if _has_served(key, up_to)])


def sweep_all(items: ItemStore) -> None:
    """Delete everything under the item's prefix, whatever it is; twice is as good as once."""
    _delete(items, list(items.list_keys()))


def leftovers(items: ItemStore) -> list[str]:
    """The keys that are still there, in the store's own words: what `sweep_all` would delete."""
    return [items.prefix + key for key in items.list_keys()]


def _delete(items: ItemStore, keys: Iterable[str]) -> None:
    """Manifests go first: a point ceases to exist before its objects do."""
    for key in sorted(keys, key=lambda key: (not key.endswith(f"/{MANIFEST}"), key)):
        items.delete(key)


def _has_served(key: str, up_to: Position) -> bool:
    if key.partition("/")[0] not in FOLDERS:
        return False
    try:
        position = position_of(key)
    except ForeignObjectError:
        return False
    return position < up_to if key.startswith(f"{LANDED}/") else position <= up_to


def _note_there(items: ItemStore, key: str) -> Acknowledgement | None:
    """The note in the store; None if it is damaged."""
    try:
        return unsealed(Acknowledgement, items.get(key), key=key)
    except DamagedObjectError:
        return None
