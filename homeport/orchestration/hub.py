"""
The hub: one thread that watches every operation jobs wait for, and the leases of their hosts.

A waiting run sleeps on an event; the hub reads all waited-for operations at once, several times a
second, and wakes those that have ended. Time a host is silent is counted in the hub's own rounds
and by nothing else, so a lease cannot run while no server does: not while it is down, stopped by
a signal, or without its database. After a start everyone has a full lease.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
from sqlalchemy.exc import DBAPIError

from homeport.model.ids import OperationId
from homeport.model.messages import OperationState
from homeport.orchestration.rows import Pulse, Vaults

BATCH = 500
"""Operations read in one question; both databases take more, neither is faster with it."""
LONGEST_ROUND = 1.0
"""Seconds: the most that one round adds to a silence, however long the process stood still."""
UNFINISHED = (OperationState.WAITING, OperationState.RUNNING)

log = structlog.get_logger(__name__)


class StoppedWaitingError(BaseException):
    """
    The server is stopping while a run waits.

    Not an `Exception`: nothing may record it, so that the run is resumed at the same wait.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """Seconds a host may be silent: before it first names an operation, and after."""

    unheard: float
    heard: float

    def of(self, pulse: Pulse) -> float:
        """The one that holds now."""
        return self.heard if pulse.heard else self.unheard


@dataclass(kw_only=True, slots=True)
class Watch:
    """One waited-for operation; only the hub's thread changes it."""

    operation: OperationId
    lease: Lease
    woken: threading.Event = field(default_factory=threading.Event)
    heard: int = -1
    silent: float = 0.0  # seconds of the hub's rounds since `heard` last rose

    def count(self, pulse: Pulse, passed: float) -> None:
        """Take one round into account."""
        self.silent = 0.0 if pulse.heard != self.heard else self.silent + passed
        self.heard = pulse.heard

    def expired(self, pulse: Pulse) -> bool:
        """Whether the host has been silent for longer than its lease."""
        return self.silent >= self.lease.of(pulse)


class Hub:
    """Wakes waiting runs. `start` and `stop` it; `wait` and `pause` are for the runs' threads."""

    def __init__(self, vaults: Vaults, *, interval: float, monotonic: Callable[[], float]) -> None:
        self._vaults = vaults
        self._interval = interval
        self._monotonic = monotonic
        self._last_round = monotonic()
        self._lock = threading.Lock()
        self._by_id: dict[int, Watch] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hub", daemon=True)

    def start(self) -> None:
        """Begin the rounds."""
        self._last_round = self._monotonic()
        self._thread.start()

    def stop(self) -> None:
        """End the rounds; whoever waits is interrupted and leaves no record."""
        self._stopping.set()
        for watch in self._all():
            watch.woken.set()
        if self._thread.is_alive():
            self._thread.join()

    def wait(self, operation: OperationId, lease: Lease) -> None:
        """
        Sleep until the operation has ended or its host is lost.

        Raises:
            StoppedWaitingError: the server stops.
        """
        with self._watching(Watch(operation=operation, lease=lease)) as watch:
            watch.woken.wait()
        if self._stopping.is_set():
            raise StoppedWaitingError

    def pause(self, seconds: float) -> float:
        """
        Sleep, and return the seconds to count for it: time a process stood still is not counted.

        Raises:
            StoppedWaitingError: the server stops.
        """
        before = self._monotonic()
        if self._stopping.wait(seconds):
            raise StoppedWaitingError
        return min(self._monotonic() - before, seconds + LONGEST_ROUND)

    @contextmanager
    def _watching(self, watch: Watch) -> Iterator[Watch]:
        with self._lock:
            self._by_id[id(watch)] = watch
        try:
            yield watch
        finally:
            with self._lock:
                del self._by_id[id(watch)]

    def _all(self) -> list[Watch]:
        with self._lock:
            return list(self._by_id.values())

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            try:
                self.round()
            except DBAPIError as error:
                log.warning("the vault cannot be read; leases stand still", error=str(error.orig))
            except Exception:
                log.exception("a round of the hub failed")

    def round(self) -> None:
        """Look once at everything waited for. Public so that tests can make time pass."""
        now = self._monotonic()
        passed = min(now - self._last_round, LONGEST_ROUND)
        self._last_round = now
        watches = self._all()
        for start in range(0, len(watches), BATCH):
            self._look(watches[start : start + BATCH], passed)

    def _look(self, watches: Sequence[Watch], passed: float) -> None:
        with self._vaults.read() as rows:
            pulses = rows.operation_rows.pulses([watch.operation for watch in watches])
        for watch in watches:
            pulse = pulses.get(watch.operation)
            if pulse is None or pulse.state not in UNFINISHED:
                watch.woken.set()
                continue
            watch.count(pulse, passed)
            if pulse.withdrawable or watch.expired(pulse):
                self._end(watch, pulse)

    def _end(self, watch: Watch, pulse: Pulse) -> None:
        """What ends without its host's word: the row decides whether it was heard meanwhile."""
        with self._vaults.write() as rows:
            if pulse.withdrawable and rows.operation_rows.withdraw(watch.operation):
                return
            if watch.expired(pulse):
                reason = (
                    f"Its agent was not heard for {watch.silent:.0f} s while the server listened."
                )
                rows.operation_rows.lose(watch.operation, heard=watch.heard, reason=reason)
