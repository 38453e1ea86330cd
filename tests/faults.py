"""
Planned faults: a store that fails the n-th call as told.

Used as a context manager, it fails the test when a planned fault was never reached: a test that
misses its fault proves nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Lock
from types import TracebackType
from typing import Literal, Self, TypeVar

from homeport.dataplane.objects import Body, ObjectFacts, StoreUnreachableError
from homeport.dataplane.ports import ObjectStore

_T = TypeVar("_T")


def unreachable() -> Exception:
    return StoreUnreachableError(store="memory://", cause="A planned fault.")


@dataclass(frozen=True)
class Fault:
    """
    Fail the `nth` call (from 1) of `call`, `before` it has any effect or `after` it had all.

    For `stream` and `list`, `after` means after `pieces` of them were given.
    """

    call: str
    nth: int = 1
    when: Literal["before", "after"] = "before"
    error: Callable[[], Exception] = unreachable
    pieces: int = 1


@dataclass
class FaultyStore:
    """An object store that fails as planned; everything else is done by `inner`."""

    inner: ObjectStore
    faults: tuple[Fault, ...]
    _made: Counter[str] = field(default_factory=Counter, init=False)
    _reached: set[Fault] = field(default_factory=set, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        missed = [fault for fault in self.faults if fault not in self._reached]
        if kind is None and missed:
            raise AssertionError(f"planned faults were never reached: {missed}")

    def put(self, key: str, body: Body, *, create_only: bool = False) -> None:
        self._do("put", lambda: self.inner.put(key, body, create_only=create_only))

    def get(self, key: str) -> bytes:
        return self._do("get", lambda: self.inner.get(key))

    def stream(self, key: str, chunk: int, *, start: int = 0) -> Iterator[bytes]:
        return self._give("stream", lambda: self.inner.stream(key, chunk, start=start))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self._do("get_range", lambda: self.inner.get_range(key, start, length))

    def head(self, key: str) -> ObjectFacts:
        return self._do("head", lambda: self.inner.head(key))

    def exists(self, key: str) -> bool:
        return self._do("exists", lambda: self.inner.exists(key))

    def list(self, prefix: str = "") -> Iterator[ObjectFacts]:
        return self._give("list", lambda: self.inner.list(prefix))

    def delete(self, key: str) -> None:
        self._do("delete", lambda: self.inner.delete(key))

    def _due(self, call: str) -> Fault | None:
        with self._lock:
            self._made[call] += 1
            for fault in self.faults:
                if (fault.call, fault.nth) == (call, self._made[call]):
                    return fault
        return None

    def _fail(self, fault: Fault) -> Exception:
        self._reached.add(fault)
        return fault.error()

    def _do(self, call: str, act: Callable[[], _T]) -> _T:
        fault = self._due(call)
        if fault and fault.when == "before":
            raise self._fail(fault)
        result = act()
        if fault:
            raise self._fail(fault)
        return result

    def _give(self, call: str, act: Callable[[], Iterator[_T]]) -> Iterator[_T]:
        fault = self._due(call)
        if fault and fault.when == "before":
            raise self._fail(fault)
        for count, piece in enumerate(act()):
            if fault and count == fault.pieces:
                raise self._fail(fault)
            yield piece
        if fault:
            raise self._fail(fault)
