"""
Several servers on one PostgreSQL: each beats, and a living one takes over a dead one's runs.

This is only for speed. What keeps a slow server from doing harm is that every effect is a row with
a key, and the epoch. A server that cannot beat leaves at once, so that it claims no new jobs under
an id that the others hold for dead; an id never comes back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy.exc import DBAPIError

from homeport.orchestration.rows import Servers

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Beats:
    """Seconds: between beats, without one until a server leaves, and until it is held for dead."""

    every: float = 5.0
    leave_after: float = 10.0
    dead_after: float = 15.0


class TakeOver:
    """The heartbeat of this server, and its watch over the others."""

    def __init__(
        self,
        servers: Servers,
        server: str,
        *,
        beats: Beats,
        monotonic: Callable[[], float],
        take_over: Callable[[Sequence[str]], None],
        leave: Callable[[], None],
    ) -> None:
        self._servers = servers
        self._server = server
        self._beats = beats
        self._monotonic = monotonic
        self._take_over = take_over
        self._leave = leave
        self._last_beat = monotonic()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(act,), name=name, daemon=True)
            for name, act in (("beat", self.beat), ("take-over", self.watch))
        ]

    def start(self) -> None:
        """The first beat, before any job may run under this id; then the rounds."""
        self._servers.beat(self._server)
        self._last_beat = self._monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the rounds; the others will hold this server for dead in time."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def beat(self) -> None:
        """Say that this server lives; leave if it was declared dead, or could not say so."""
        try:
            living = self._servers.beat(self._server)
        except DBAPIError as error:
            log.warning("no heartbeat", error=str(error.orig))
            living = self._monotonic() - self._last_beat < self._beats.leave_after
        else:
            self._last_beat = self._monotonic()
        if not living:
            log.error("this server was declared dead, and ends itself", server=self._server)
            self._leave()

    def watch(self) -> None:
        """In every round, for all the dead: a take-over that failed half way is made good."""
        dead = self._servers.bury(silent=timedelta(seconds=self._beats.dead_after))
        if dead:
            with self._servers.turn() as mine:
                if mine:
                    self._take_over(dead)

    def _repeat(self, act: Callable[[], None]) -> None:
        while not self._stopping.wait(self._beats.every):
            try:
                act()
            except Exception:
                log.exception("a round of the heartbeat failed")
