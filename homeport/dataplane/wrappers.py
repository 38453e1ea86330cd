"""
Behaviour added around an object store: each wrapper has the port's own shape and an `inner` one.

Wiring stacks them, the outermost first: `RetryingStore(LimitedStore(MeteredStore(bucket)))` repeats
what failed, at the allowed rate, and counts what was really sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import zip_longest
from threading import Lock
from typing import TypeVar

from homeport.dataplane.objects import (
    Body,
    ObjectExistsError,
    ObjectFacts,
    ObjectReplacedError,
    can_repeat,
    pieces_of,
    regroup,
)
from homeport.dataplane.ports import ObjectStore
from homeport.errors import TransientError
from homeport.units import MiB

_T = TypeVar("_T")

_COMPARED = 1 * MiB
"""Read at a time when an object is compared with what was to be put."""


@dataclass(frozen=True)
class RetryingStore:
    """
    Repeats what failed transiently, waiting each of `delays` in turn; then the error goes on.

    A body that can be read only once is put once. A stream goes on where it broke off, a listing
    after the last key. When a create-only put fails transiently and its repeat finds the key taken,
    the first try may have done it: if the object there has just this content the put succeeded. So
    a body that must have one winner names its writer.
    """

    inner: ObjectStore
    delays: Sequence[timedelta]
    sleep: Callable[[timedelta], None]

    def put(self, key: str, body: Body, *, create_only: bool = False) -> None:
        """Store the body, repeatedly where it can be read again; see the port."""
        if not can_repeat(body):
            self.inner.put(key, body, create_only=create_only)
            return
        tries = 0

        def once() -> None:
            nonlocal tries
            tries += 1
            try:
                self.inner.put(key, body, create_only=create_only)
            except ObjectExistsError:
                if tries == 1 or not _holds(self.inner, key, body):
                    raise

        self._repeat(once)

    def get(self, key: str) -> bytes:
        """The whole object; see the port."""
        return self._repeat(lambda: self.inner.get(key))

    def stream(self, key: str, chunk: int, *, start: int = 0) -> Iterator[bytes]:
        """
        The object in pieces; see the port.

        An object replaced between a break and going on is not noticed here; digests over the whole
        tell.
        """
        at = start
        left = iter(self.delays)
        while True:
            try:
                for piece in self.inner.stream(key, chunk, start=at):
                    at += len(piece)
                    left = iter(self.delays)
                    yield piece
            except ObjectReplacedError:
                raise
            except TransientError as error:
                self._wait(left, error)
            else:
                return

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """The bytes of a range; see the port."""
        return self._repeat(lambda: self.inner.get_range(key, start, length))

    def head(self, key: str) -> ObjectFacts:
        """The object's facts; see the port."""
        return self._repeat(lambda: self.inner.head(key))

    def exists(self, key: str) -> bool:
        """Whether the object is there; see the port."""
        return self._repeat(lambda: self.inner.exists(key))

    def list(self, prefix: str = "") -> Iterator[ObjectFacts]:
        """The facts of all objects beneath the prefix, each once; see the port."""
        last = ""
        left = iter(self.delays)
        while True:
            try:
                for facts in self.inner.list(prefix):
                    if facts.key > last:
                        last = facts.key
                        left = iter(self.delays)
                        yield facts
            except TransientError as error:
                self._wait(left, error)
            else:
                return

    def delete(self, key: str) -> None:
        """Remove the object; see the port."""
        self._repeat(lambda: self.inner.delete(key))

    def _repeat(self, call: Callable[[], _T]) -> _T:
        left = iter(self.delays)
        while True:
            try:
                return call()
            except TransientError as error:
                self._wait(left, error)

    def _wait(self, left: Iterator[timedelta], error: TransientError) -> None:
        """Wait the next of the delays; with none left, the error goes on."""
        delay = next(left, None)
        if delay is None:
            raise error
        self.sleep(delay)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreCounts:
    """What went through a store since it was opened; calls by the port's names, failed ones too."""

    calls: dict[str, int]
    bytes_put: int
    bytes_read: int


@dataclass(frozen=True)
class MeteredStore:
    """Counts calls and bytes; a body put twice counts twice, as it was sent twice."""

    inner: ObjectStore
    _calls: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    _bytes: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def counts(self) -> StoreCounts:
        """What was counted up to now."""
        with self._lock:
            return StoreCounts(
                calls=dict(self._calls),
                bytes_put=self._bytes.get("put", 0),
                bytes_read=self._bytes.get("read", 0),
            )

    def put(self, key: str, body: Body, *, create_only: bool = False) -> None:
        """Store the body, counting its bytes as they are pulled; see the port."""
        self._call("put")
        if isinstance(body, bytes):
            self._moved("put", len(body))
        self.inner.put(key, _tapped(body, self._put_bytes), create_only=create_only)

    def get(self, key: str) -> bytes:
        """The whole object; see the port."""
        self._call("get")
        return self._read(self.inner.get(key))

    def stream(self, key: str, chunk: int, *, start: int = 0) -> Iterator[bytes]:
        """The object in pieces; see the port."""
        self._call("stream")
        yield from map(self._read, self.inner.stream(key, chunk, start=start))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """The bytes of a range; see the port."""
        self._call("get_range")
        return self._read(self.inner.get_range(key, start, length))

    def head(self, key: str) -> ObjectFacts:
        """The object's facts; see the port."""
        self._call("head")
        return self.inner.head(key)

    def exists(self, key: str) -> bool:
        """Whether the object is there; see the port."""
        self._call("exists")
        return self.inner.exists(key)

    def list(self, prefix: str = "") -> Iterator[ObjectFacts]:
        """The facts of all objects beneath the prefix; see the port."""
        self._call("list")
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        """Remove the object; see the port."""
        self._call("delete")
        self.inner.delete(key)

    def _call(self, name: str) -> None:
        with self._lock:
            self._calls[name] = self._calls.get(name, 0) + 1

    def _moved(self, way: str, size: int) -> None:
        with self._lock:
            self._bytes[way] = self._bytes.get(way, 0) + size

    def _put_bytes(self, size: int) -> None:
        self._moved("put", size)

    def _read(self, piece: bytes) -> bytes:
        self._moved("read", len(piece))
        return piece


@dataclass(frozen=True)
class LimitedStore:
    """
    Moves at most `rate` bytes a second, both ways together and over all threads.

    `clock` gives seconds that never go back. Bytes are paid for one after the other: a large piece
    goes at once and the next one waits until the rate is kept.
    """

    inner: ObjectStore
    rate: int
    clock: Callable[[], float]
    sleep: Callable[[timedelta], None]
    _free_at: list[float] = field(default_factory=lambda: [0.0], init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError(f"the rate must be positive, not {self.rate}")

    def put(self, key: str, body: Body, *, create_only: bool = False) -> None:
        """Store the body, its pieces pulled at the rate; see the port."""
        if isinstance(body, bytes):
            self._spend(len(body))
        self.inner.put(key, _tapped(body, self._spend), create_only=create_only)

    def get(self, key: str) -> bytes:
        """The whole object; see the port."""
        return self._paid(self.inner.get(key))

    def stream(self, key: str, chunk: int, *, start: int = 0) -> Iterator[bytes]:
        """The object in pieces, at the rate; see the port."""
        yield from map(self._paid, self.inner.stream(key, chunk, start=start))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """The bytes of a range; see the port."""
        return self._paid(self.inner.get_range(key, start, length))

    def head(self, key: str) -> ObjectFacts:
        """The object's facts; see the port."""
        return self.inner.head(key)

    def exists(self, key: str) -> bool:
        """Whether the object is there; see the port."""
        return self.inner.exists(key)

    def list(self, prefix: str = "") -> Iterator[ObjectFacts]:
        """The facts of all objects beneath the prefix; see the port."""
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        """Remove the object; see the port."""
        self.inner.delete(key)

    def _paid(self, piece: bytes) -> bytes:
        self._spend(len(piece))
        return piece

    def _spend(self, size: int) -> None:
        with self._lock:  # taken for the sum only: the waiting is each thread's own
            now = self.clock()
            start = max(now, self._free_at[0])
            self._free_at[0] = start + size / self.rate
        if start > now:
            self.sleep(timedelta(seconds=start - now))


@dataclass(frozen=True, slots=True)
class _Tapped:
    """A body whose pieces are reported as they are pulled; can be read again if the body can."""

    body: Body
    report: Callable[[int], None]

    def __iter__(self) -> Iterator[bytes]:
        for piece in pieces_of(self.body):
            self.report(len(piece))
            yield piece


def _tapped(body: Body, report: Callable[[int], None]) -> Body:
    """`body` reporting its pieces; bytes stay bytes, and an iterator an iterator."""
    if isinstance(body, bytes):
        return body
    tapped = _Tapped(body, report)
    return tapped if can_repeat(body) else iter(tapped)


def _holds(store: ObjectStore, key: str, body: Body) -> bool:
    """Whether the object under `key` has just the content of `body`."""
    there = store.stream(key, _COMPARED)
    return all(a == b for a, b in zip_longest(there, regroup(pieces_of(body), _COMPARED)))
