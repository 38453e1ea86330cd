"""
An item's replication loop: one pass after another, in a thread of its own, server or no server.

A failed pass is told in the item's report and tried again, less often the longer it lasts. Nothing
that a pass needs is in memory only.
"""

from __future__ import annotations

import threading

import structlog

from homeport.agent import source, target
from homeport.agent.aside import expire_unsent
from homeport.agent.shelf import Shelf
from homeport.agent.work import Work
from homeport.dataplane.pipeline import Control
from homeport.errors import CancelledError, HomeportError, TransientError, describe
from homeport.model.item import Role

PASS_PAUSE = (0.25, 2.0)
"""Seconds between passes, at least and at most: a tenth of the policy's interval within them."""
FAILED_PAUSE = (1.0, 15.0)
"""Seconds after a first failed pass, and at most."""

log = structlog.get_logger("homeport.agent")


class ItemLoop:
    """The loop of one item; `stop` ends it at the next safe place."""

    def __init__(self, shelf: Shelf, item: str) -> None:
        self._shelf = shelf
        self._item = item
        self._stopped = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name=f"item-{item[:8]}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, wait: float = 30.0) -> None:
        """End, and wait for it."""
        self._stopped.set()
        self._shelf.wake(self._item).set()
        self._thread.join(wait)

    def _run(self) -> None:
        control = Control(cancelled=self._stopped.is_set)
        while not self._stopped.is_set():
            pause = self._pass(control)
            wake = self._shelf.wake(self._item)
            self._shelf.means.clock.sleep(pause, wake)
            wake.clear()

    def _pass(self, control: Control) -> float:
        """One pass; the seconds to wait after it."""
        state = self._shelf.state(self._item)
        try:
            with self._shelf.turn(self._item, control) as work:
                one_pass(work)
                interval = work.held.ledger.policy.interval.total_seconds()
        except CancelledError:
            return PASS_PAUSE[0]
        except HomeportError as error:
            return self._failed(error)
        except Exception as error:
            log.exception("pass_failed", item=self._item)
            return self._failed(error)
        self._failures = 0
        state.problem = None
        return min(max(interval / 10, PASS_PAUSE[0]), PASS_PAUSE[1])

    def _failed(self, error: Exception) -> float:
        state = self._shelf.state(self._item)
        state.problem = describe(error)
        state.progress = None
        self._failures += 1
        if not isinstance(error, TransientError) or self._failures == 1:
            log.warning("pass_failed", item=self._item, **state.problem)
        return float(min(FAILED_PAUSE[0] * 2 ** min(self._failures - 1, 6), FAILED_PAUSE[1]))


def one_pass(work: Work) -> None:
    """What is due for an item in its present role."""
    role = work.held.ledger.role
    if role in {Role.SOURCE, Role.TARGET} and work.held.ledger.cache is not None:
        expire_unsent(work.held, work.means)
        if role is Role.SOURCE:
            source.cycle(work)
        else:
            target.cycle(work)
