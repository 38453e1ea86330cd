"""
Crashes at every durable effect: where a process may die, counted, and died at.

`EFFECTS` lists every place at which an agent changes something that outlives it. `Mortal` counts
them while something is done, or dies at one: before it has its effect, or after. A dead process
does nothing more, so whatever is tried after the crash dies too, until the patches are taken away.
"""

from __future__ import annotations

import functools
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from homeport.dataplane import flags, points, qcow2_writer
from homeport.providers.compute.memory import MemoryCompute
from homeport.providers.store import folder

EFFECTS: tuple[tuple[Any, str], ...] = (
    (Path, "rename"),
    (Path, "replace"),
    (Path, "unlink"),
    (Path, "rmdir"),
    (os, "link"),
    (os, "truncate"),
    (subprocess, "run"),
    (points, "rewrite_backing"),
    (flags, "set_immutable"),
    (qcow2_writer.LayerWriter, "finish"),
    *(
        (MemoryCompute, name)
        for name in (
            "rotate",
            "set_sources",
            "commit",
            "pivot",
            "create",
            "start",
            "stop",
            "delete",
            "set_note",
            "set_autostart",
            "make_pool",
            "delete_pool",
            "make_network",
            "delete_network",
        )
    ),
    *((folder.FolderStore, name) for name in ("put", "delete")),
)
"""Calls that count as one effect each; what they call themselves is not counted."""


class CrashError(BaseException):
    """The process is gone. No handler of errors may catch it."""


class Mortal:
    """One life of a process: how many effects it had, and at which it ends."""

    def __init__(self, dies_at: int | None = None, *, before: bool = True) -> None:
        self.dies_at, self.before = dies_at, before
        self.effects: list[str] = []
        self.dead = False
        self._lock = threading.Lock()
        self._inside = threading.local()

    def call(self, name: str, act: Callable[[], Any]) -> Any:
        if getattr(self._inside, "effect", False):
            return act()
        with self._lock:
            if self.dead:
                raise CrashError("it is dead already")
            self.effects.append(name)
            ends = len(self.effects) - 1 == self.dies_at
            self.dead = ends and self.before
        if self.dead:
            raise CrashError(f"before {name}")
        self._inside.effect = True
        try:
            result = act()
        finally:
            self._inside.effect = False
        if ends:
            self.dead = True
            raise CrashError(f"after {name}")
        return result

    @contextmanager
    def living(self) -> Iterator[Mortal]:
        """All effects of this process are counted within."""
        with _patched(self):
            yield self


@contextmanager
def _patched(life: Mortal) -> Iterator[None]:
    originals = [(owner, name, getattr(owner, name)) for owner, name in EFFECTS]
    try:
        for owner, name, original in originals:
            setattr(owner, name, _counted(life, name, original))
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def _counted(life: Mortal, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def counted(*args: Any, **kwargs: Any) -> Any:
        return life.call(name, lambda: original(*args, **kwargs))

    return counted
