"""
The items of a host, each opened once: who holds one, and how an operation takes it from the loop.

An operation that claims an item asks the item's loop to stop at its next safe place, waits for its
lock, and gives it back; so a seed of hours does not keep a failover waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from homeport.agent.confirming import revoke
from homeport.agent.held import HeldItem
from homeport.agent.ledgers import UnknownItemError
from homeport.agent.means import Means
from homeport.agent.work import CycleState, Work
from homeport.dataplane.pipeline import Control
from homeport.model.ids import ItemId
from homeport.model.ledger import ItemLedger


class Shelf:
    """Owner of the `HeldItem`s; all methods may be called from any thread."""

    def __init__(self, means: Means) -> None:
        self.means = means
        self._lock = threading.Lock()
        self._held: dict[str, HeldItem] = {}
        self._states: dict[str, CycleState] = {}
        self._claims: dict[str, int] = {}
        self._wakes: dict[str, threading.Event] = {}

    def has(self, item: str) -> bool:
        """Whether this host holds the item."""
        return self.means.ledgers.has(item)

    def items(self) -> list[str]:
        """Ids of the items here."""
        return list(self.means.ledgers.items())

    def peek(self, item: str) -> HeldItem:
        """The item for reading its ledger, a value; UnknownItemError when it is not here."""
        with self._lock:
            if item not in self._held:
                self._held[item] = HeldItem.load(self.means.ledgers, item)
            return self._held[item]

    def state(self, item: str) -> CycleState:
        """What the item's loop last did."""
        with self._lock:
            return self._states.setdefault(item, CycleState())

    def wake(self, item: str) -> threading.Event:
        """Set to have the item's loop look at once."""
        with self._lock:
            return self._wakes.setdefault(item, threading.Event())

    def add(self, item: ItemId, folder: Path, ledger: ItemLedger) -> HeldItem:
        """Begin to hold an item."""
        self.means.ledgers.add(item, folder, ledger)
        with self._lock:
            self._held.pop(item, None)
        return self.peek(item)

    def forget(self, item: str) -> None:
        """Hold the item no longer; its files are the caller's to remove."""
        self.means.ledgers.forget(item)
        revoke(self.means, item)
        with self._lock:
            self._held.pop(item, None)
            self._states.pop(item, None)

    @contextmanager
    def claim(self, item: str, control: Control) -> Iterator[Work]:
        """Take the item from its loop for an operation."""
        held = self.peek(item)
        with self._lock:
            self._claims[item] = self._claims.get(item, 0) + 1
        try:
            with held.lock:
                self._check_held(item, held)
                yield Work(held=held, means=self.means, control=control, state=self.state(item))
        finally:
            with self._lock:
                self._claims[item] -= 1
            self.wake(item).set()

    @contextmanager
    def turn(self, item: str, control: Control) -> Iterator[Work]:
        """Take the item for one pass of its loop; the pass is cancelled when it is claimed."""
        held = self.peek(item)
        interruptible = replace(
            control, cancelled=lambda: control.cancelled() or self._claimed(item)
        )
        with held.lock:
            self._check_held(item, held)
            state = self.state(item)
            yield Work(held=held, means=self.means, control=interruptible, state=state)

    def _check_held(self, item: str, held: HeldItem) -> None:
        """Raise UnknownItemError if the item was released while its lock was waited for."""
        with self._lock:
            if self._held.get(item) is not held:
                raise UnknownItemError(item)

    def _claimed(self, item: str) -> bool:
        with self._lock:
            return self._claims.get(item, 0) > 0
