"""
What a server does again and again beside its requests: a thread of its own, until it is stopped.

A round that fails is logged and the next one comes: a database that is away for a minute, or a
mistake in one round, must not end what nobody would miss until it is needed.
"""

from __future__ import annotations

import threading

import structlog
from sqlalchemy.exc import DBAPIError

log = structlog.get_logger(__name__)


class Rounds:
    """Calls its own `round` every so many seconds; with `at_once` the first comes at the start."""

    def __init__(self, *, name: str, every: float, at_once: bool = False) -> None:
        self._name = name
        self._every = every
        self._at_once = at_once
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def round(self) -> object:
        """One round."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin the rounds."""
        self._thread.start()

    def stop(self) -> None:
        """End them, a round that is under way first; a job that one began goes on as any other."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        if self._at_once:
            self._try()
        while not self._stopping.wait(self._every):
            self._try()

    def _try(self) -> None:
        try:
            self.round()
        except DBAPIError as error:
            log.warning("a round waits for the database", of=self._name, error=str(error.orig))
        except Exception:
            log.exception("a round failed", of=self._name)
