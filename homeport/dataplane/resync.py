"""
Differential resync: what differs between two disks, found by digests alone, over the cache store.

The running side asks (`Comparison`); the old side answers whenever it has time (`answer_digests`).
Both work through the disk in windows of 4 GiB at the same time, and every answer is an object with
a name, so either side may die anywhere and go on with what is there. The extents found are shipped
meanwhile (`findings`, `shipping.ship_found`).

    running side                                     old side
    asked: my disk's size               ------->
                                        <-------     held: the MiB in which my disk has data
    (digests a window itself)           <-------     coarse-000000: a digest for each of its MiB
    differ-000000: the MiB that differ  ------->
                                        <-------     fine-000000: a digest for each 4 KiB of those
    found-000000: the result, kept so that it is not found twice; same-000000 where nothing differs

Neither side reads holes, and neither reads a byte twice save in the MiB that differ. At most
`_AHEAD` windows of own digests are kept, so memory does not follow the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from homeport.dataplane.digest import (
    COARSE,
    FINE,
    BlockDigests,
    Read,
    differing,
    digest_blocks,
    encode_digests,
)
from homeport.dataplane.exchange import (
    ASKED,
    COARSE_TOLD,
    DIFFER,
    FINE_TOLD,
    FOUND,
    HELD,
    SAME,
    Asked,
    Exchange,
    name_of,
    newest_question,
    window_extent,
    windows_of,
)
from homeport.dataplane.layout import DamagedObjectError, ItemStore, RepeatedPositionError, sealed
from homeport.dataplane.pipeline import Control
from homeport.model.changemap import decode_map, encode_map
from homeport.model.extent import ExtentSet, union_of
from homeport.model.ids import DiskName
from homeport.model.planning import WINDOW
from homeport.model.position import Position

_AHEAD = 16  # windows the running side digests before the other side's are there: 1 MiB of digests


class ReadableDisk(Protocol):
    """A disk as its guest sees it."""

    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from `offset` on; called by several threads."""

    def allocated(self) -> ExtentSet:
        """The bytes that may be other than zero."""

    def close(self) -> None:
        """Give everything back."""


class Comparison:
    """The running side of one disk's comparison, one step at a time."""

    def __init__(
        self,
        items: ItemStore,
        *,
        position: Position,
        disk: DiskName,
        read: Read,
        size: int,
        allocated: ExtentSet,
        control: Control,
        window: int = WINDOW,
    ) -> None:
        """Nothing is read or put before the first step."""
        if window <= 0 or window % COARSE:
            raise ValueError(f"a window is a multiple of {COARSE} bytes, not {window}")
        self._exchange = Exchange(items, position, disk)
        self._asked = Asked(disk=disk, size=size, window=window)
        self._digest = partial(
            digest_blocks, _reined(read, control), size=size, allocated=allocated
        )
        self._allocated = allocated.clipped(size)
        self._there: set[str] = set()  # names seen or put; listed again when nothing else is to do
        self._held: ExtentSet | None = None  # where the other side has data, once it has said so
        self._open: list[int] = []  # windows not compared to the end, once `_held` is known
        self._ours: dict[int, BlockDigests] = {}  # coarse, of windows the other side is behind in
        self._differ: dict[int, ExtentSet] = {}  # put, and not answered yet
        self._fine: dict[int, BlockDigests] = {}  # of one such window: at most 16 MiB
        self._found: dict[int, ExtentSet] = {}

    @property
    def done(self) -> bool:
        """Whether every window has been compared."""
        return self._held is not None and not self._open

    @property
    def settled(self) -> int:
        """Bytes from the disk's start up to the first window that is not compared to the end."""
        if self._held is None:
            return 0
        return min(self._open) * self._asked.window if self._open else self._asked.size

    def found_between(self, start: int, end: int) -> ExtentSet:
        """What differs in the windows that begin in this part of the disk and are compared."""
        window = self._asked.window
        return union_of(
            found for number, found in self._found.items() if start <= number * window < end
        )

    def step(self) -> bool:
        """
        Do one window's next piece of work; False if everything left waits for the other side.

        Raises:
            RepeatedPositionError: at this position a disk of another size is being compared.
            DamagedObjectError: an object was altered or cut. It has been removed, so that its
                writer makes it again: step on, or try again later.
            OSError: the disk cannot be read.
        """
        try:
            if self._held is not None and self._advance_any():
                return True
            self._look()
            return self._advance_any()
        except DamagedObjectError:
            self._there = set()  # what was removed is not there any more
            raise

    def _look(self) -> None:
        """See what is there by now; the question is put where it is not, or was found damaged."""
        self._there = self._exchange.names()
        if ASKED not in self._there:
            self._exchange.items.put_once(self._exchange.key(ASKED), sealed(Asked, self._asked))
        elif self._held is None:
            self._go_on_from(self._exchange.asked())

    def _go_on_from(self, asked: Asked) -> None:
        """Keep to the windows of the question that is there; one about another disk is refused."""
        if (asked.disk, asked.size) != (self._asked.disk, self._asked.size):
            raise RepeatedPositionError(key=self._exchange.key(ASKED))
        self._asked = asked

    def _advance_any(self) -> bool:
        if self._held is None and HELD in self._there:
            self._held = self._exchange.read(HELD, decode_map)
            self._open = windows_of(self._allocated | self._held, self._asked.window)
            return True
        return any(self._advance(window) for window in self._candidates())

    def _candidates(self) -> list[int]:
        if self._held is not None:
            return list(self._open)
        return windows_of(self._allocated, self._asked.window)

    def _advance(self, window: int) -> bool:
        """Whether there was something to do in the window."""
        if self._held is not None:
            if name_of(SAME, window) in self._there:
                return self._close(window, ExtentSet.empty())
            if name_of(FOUND, window) in self._there:
                return self._close(window, self._exchange.read(name_of(FOUND, window), decode_map))
            if window in self._differ or name_of(DIFFER, window) in self._there:
                return self._refine(window)
            if self._is_told(window, self._held):
                return self._compare(window)
        if window not in self._ours and len(self._ours) < _AHEAD:
            self._ours[window] = self._digest(block=COARSE, within=self._within(window))
            return True
        return False

    def _is_told(self, window: int, held: ExtentSet) -> bool:
        """Whether the other side's digests are known; where it has no data they need no object."""
        within = held.within(window * self._asked.window, self._asked.window)
        return not within or name_of(COARSE_TOLD, window) in self._there

    def _compare(self, window: int) -> bool:
        within = self._within(window)
        ours = self._ours.pop(window, None) or self._digest(block=COARSE, within=within)
        if name_of(COARSE_TOLD, window) in self._there:
            theirs = self._exchange.digests(name_of(COARSE_TOLD, window), ours)
        else:
            theirs = self._digest(block=COARSE, within=within, allocated=ExtentSet.empty())
        differ = differing(ours, theirs)
        if not differ:
            self._put(name_of(SAME, window), b"")
            return self._close(window, differ)
        self._differ[window] = differ
        self._put(name_of(DIFFER, window), encode_map(differ))
        return True

    def _refine(self, window: int) -> bool:
        name = name_of(DIFFER, window)
        if window not in self._differ:
            self._differ[window] = self._exchange.read(name, decode_map)
        elif name not in self._there:  # the other side found it damaged
            self._put(name, encode_map(self._differ[window]))
        if name_of(FINE_TOLD, window) not in self._there:
            return self._digest_ahead(window)
        ours = self._fine.pop(window, None) or self._fine_digests(window)
        found = differing(ours, self._exchange.digests(name_of(FINE_TOLD, window), ours))
        self._put(name_of(FOUND, window), encode_map(found))
        return self._close(window, found)

    def _digest_ahead(self, window: int) -> bool:
        """Digest the fine level while the other side does; of one window at a time."""
        if self._fine:
            return False
        self._fine[window] = self._fine_digests(window)
        return True

    def _fine_digests(self, window: int) -> BlockDigests:
        return self._digest(block=FINE, within=self._differ[window])

    def _close(self, window: int, found: ExtentSet) -> bool:
        self._found[window] = found
        self._open.remove(window)
        self._differ.pop(window, None)
        self._ours.pop(window, None)
        self._fine.pop(window, None)
        return True

    def _put(self, name: str, body: bytes) -> None:
        self._exchange.put(name, body)
        self._there.add(name)

    def _within(self, window: int) -> ExtentSet:
        return window_extent(window, self._asked)


def answer_digests(
    items: ItemStore,
    *,
    disk: DiskName,
    open_reader: Callable[[], ReadableDisk],
    control: Control,
) -> bool:
    """
    Give the running side what it has asked for by now; whether there was anything to do.

    To be called again and again while a resync is awaited. The disk is opened only if something is
    missing, and closed again. What was answered is not answered twice, also after a crash. While
    the digests of a large disk are made, questions that come up are answered in between.

    Raises:
        DamagedObjectError: a question was altered; it was removed and will be put again.
        OSError: the disk cannot be read.
    """
    exchange = newest_question(items, disk)
    if exchange is None:
        return False
    names = exchange.names()
    asked = exchange.asked()
    if not _missing(exchange, asked, names):
        return False
    reader = open_reader()
    try:
        _answer(exchange, asked, reader, control)
    finally:
        reader.close()
    return True


def _answer(exchange: Exchange, asked: Asked, reader: ReadableDisk, control: Control) -> None:
    """Answer until nothing is missing, fine questions first: the other side waits for those."""
    allocated = reader.allocated().clipped(min(reader.size, asked.size))
    digest = partial(
        digest_blocks,
        _reined(_as_long(reader, asked.size), control),
        size=asked.size,
        allocated=allocated,
    )
    while missing := _missing(exchange, asked, exchange.names()):
        control.check()
        kind, window = missing[0]
        if kind == HELD:
            held = allocated.aligned(COARSE).clipped(asked.size)
            exchange.put(HELD, encode_map(held))
            continue
        if kind == FINE_TOLD:
            block, within = FINE, exchange.read(name_of(DIFFER, window), decode_map)
        else:
            block, within = COARSE, window_extent(window, asked)
        exchange.put(name_of(kind, window), encode_digests(digest(block=block, within=within)))


def _missing(exchange: Exchange, asked: Asked, names: set[str]) -> list[tuple[str, int]]:
    """The answers that are not there, in the order they are to be given; `held` has window 0."""
    if HELD not in names:
        return [(HELD, 0)]
    asked_fine = sorted(name for name in names if name.startswith(f"{DIFFER}-"))
    fine = [(FINE_TOLD, int(name.partition("-")[2])) for name in asked_fine]
    fine = [(kind, window) for kind, window in fine if name_of(FOUND, window) not in names]
    held = exchange.read(HELD, decode_map)
    coarse = [
        (COARSE_TOLD, window)
        for window in windows_of(held, asked.window)
        if not {name_of(SAME, window), name_of(DIFFER, window)} & names
    ]
    return [one for one in (*fine, *coarse) if name_of(*one) not in names]


def _reined(read: Read, control: Control) -> Read:
    """`read` at the allowed rate, until somebody asks to stop."""

    def reined(offset: int, length: int) -> bytes:
        control.check()
        control.pace(length)
        return read(offset, length)

    return reined


def _as_long(reader: ReadableDisk, size: int) -> Read:
    """`reader` as a disk of `size` bytes: what it does not have is zero."""

    def read(offset: int, length: int) -> bytes:
        inside = max(min(length, min(reader.size, size) - offset), 0)
        return reader.read(offset, inside).ljust(length, b"\0") if inside else bytes(length)

    return read
