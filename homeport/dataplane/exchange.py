"""
The objects through which two sides compare a disk: their names, and reading them with care.

`resync` has the conversation itself. Whoever finds an object damaged removes it: all of them can be
made again by whoever wrote them, from disks that do not change meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from homeport.dataplane.digest import BlockDigests, decode_digests
from homeport.dataplane.layout import DIGESTS, DamagedObjectError, ItemStore, position_of, unsealed
from homeport.dataplane.objects import ObjectMissingError
from homeport.errors import IntegrityError
from homeport.model.extent import ExtentSet
from homeport.model.ids import DiskName
from homeport.model.position import Position

T = TypeVar("T")

ASKED, HELD, COARSE_TOLD, SAME = "asked", "held", "coarse", "same"
DIFFER, FINE_TOLD, FOUND = "differ", "fine", "found"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the running side wants compared; windows are counted in `window` bytes."""

    disk: DiskName
    size: int
    window: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """The objects of one comparison."""

    items: ItemStore
    position: Position
    disk: DiskName

    def key(self, name: str) -> str:
        """The key below the item."""
        return self.items.digest_key(self.position, self.disk, name)

    def names(self) -> set[str]:
        """The names of all that is there by now."""
        keys = self.items.list_keys(self.key("").removesuffix("/"))
        return {key.rpartition("/")[2] for key in keys}

    def asked(self) -> Asked:
        """The running side's question."""
        return self.read(ASKED, partial(unsealed, Asked, key=self.key(ASKED)))

    def put(self, name: str, body: bytes) -> None:
        """Both disks are immutable, so a repeat puts the same."""
        self.items.put(self.key(name), body)

    def read(self, name: str, decode: Callable[[bytes], T]) -> T:
        """What is in an object; a damaged one is removed, so that its writer makes it again."""
        try:
            return decode(b"".join(self.items.stream(self.key(name))))
        except IntegrityError as error:
            self.items.delete(self.key(name))
            raise DamagedObjectError(key=self.key(name), found=error.message) from error
        except ObjectMissingError as error:  # removed by the other side since it was listed
            raise DamagedObjectError(key=self.key(name), found="it is missing") from error

    def digests(self, name: str, like: BlockDigests) -> BlockDigests:
        """Digests that can be compared with `like`; others are removed as damaged ones are."""
        found = self.read(name, decode_digests)
        if (found.size, found.block, found.within) != (like.size, like.block, like.within):
            self.items.delete(self.key(name))
            raise DamagedObjectError(key=self.key(name), found="it is of other blocks than asked")
        return found


def newest_question(items: ItemStore, disk: DiskName) -> Exchange | None:
    """The newest comparison asked for; older ones were given up."""
    positions = {position_of(key) for key in items.list_keys(f"{DIGESTS}/")}
    for position in sorted(positions, reverse=True):
        if items.exists(items.digest_key(position, disk, ASKED)):
            return Exchange(items, position, disk)
    return None


def windows_of(extents: ExtentSet, window: int) -> list[int]:
    """The numbers of the windows that the extents touch."""
    numbers: list[int] = extents.blocks(window).tolist()
    return numbers


def window_extent(window: int, asked: Asked) -> ExtentSet:
    """The bytes of one window."""
    return ExtentSet.of(window * asked.window, asked.window).clipped(asked.size)


def name_of(kind: str, window: int) -> str:
    """The name of one window's object of a kind."""
    return f"{kind}-{window:06d}"
