"""
The in-memory twin of a cache store: for tests, for the data plane's own simulations, never for use.

It keeps every promise of the port that does not need a disk, and is as strict as the strictest
store about keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Lock

from homeport.dataplane.objects import (
    SMALL_LIMIT,
    Body,
    KeyRefusedError,
    ObjectExistsError,
    ObjectFacts,
    ObjectMissingError,
    ObjectShortError,
    ObjectTooLargeError,
    check_key,
    check_prefix,
    check_range,
    pieces_of,
    regroup,
)


def ticking(start: datetime = datetime(2000, 1, 1, tzinfo=UTC)) -> Callable[[], datetime]:
    """A clock that is one second later each time it is asked, so that tests repeat exactly."""
    moments = (start + timedelta(seconds=n) for n in range(2**31))
    return lambda: next(moments)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stored:
    body: bytes
    modified_at: datetime


@dataclass(frozen=True)
class MemoryStore:
    """Objects in a dict. `clock` says when an object was put; without one it ticks by the put."""

    clock: Callable[[], datetime] = field(default_factory=ticking)
    name: str = "memory://"
    _objects: dict[str, _Stored] = field(default_factory=dict, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def put(self, key: str, body: Body, *, create_only: bool = False) -> None:
        """Store the body; see the port."""
        check_key(key)
        whole = b"".join(pieces_of(body))  # outside the lock: reading the pieces may take long
        with self._lock:
            self._check_alone(key)
            if create_only and key in self._objects:
                raise ObjectExistsError(key=key, store=self.name)
            self._objects[key] = _Stored(body=whole, modified_at=self.clock())

    def get(self, key: str) -> bytes:
        """The whole object; see the port."""
        body = self._find(key).body
        if len(body) > SMALL_LIMIT:
            raise ObjectTooLargeError(
                key=key, store=self.name, limit=SMALL_LIMIT, remedy="Stream it."
            )
        return body

    def stream(self, key: str, chunk: int, *, start: int = 0) -> Iterator[bytes]:
        """The object in pieces; see the port."""
        body = self._find(key).body
        if start > len(body):
            raise ObjectShortError(key=key, store=self.name, start=start, length=0)
        yield from regroup((body[start:],), chunk)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """The bytes of a range; see the port."""
        check_range(start, length)
        part = self._find(key).body[start : start + length]
        if len(part) < length:
            raise ObjectShortError(key=key, store=self.name, start=start, length=length)
        return part

    def head(self, key: str) -> ObjectFacts:
        """The object's facts; see the port."""
        return _facts(key, self._find(key))

    def exists(self, key: str) -> bool:
        """Whether the object is there; see the port."""
        check_key(key)
        with self._lock:
            return key in self._objects

    def list(self, prefix: str = "") -> Iterator[ObjectFacts]:
        """The facts of all objects beneath the prefix, in order; see the port."""
        bare = check_prefix(prefix)
        beneath = f"{bare}/" if bare else ""
        with self._lock:
            found = [item for item in self._objects.items() if item[0].startswith(beneath)]
        return (_facts(key, stored) for key, stored in sorted(found, key=lambda item: item[0]))

    def delete(self, key: str) -> None:
        """Remove the object; see the port."""
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)

    def _find(self, key: str) -> _Stored:
        check_key(key)
        with self._lock:
            stored = self._objects.get(key)
        if stored is None:
            raise ObjectMissingError(key=key, store=self.name)
        return stored

    def _check_alone(self, key: str) -> None:
        above = {key[:at] for at, letter in enumerate(key) if letter == "/"}
        if above & self._objects.keys() or any(o.startswith(f"{key}/") for o in self._objects):
            raise KeyRefusedError(key, "Another object lies above or beneath it.")


def _facts(key: str, stored: _Stored) -> ObjectFacts:
    return ObjectFacts(key=key, size=len(stored.body), modified_at=stored.modified_at)
