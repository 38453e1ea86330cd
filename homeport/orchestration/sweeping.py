"""
Once a day the workflow engine forgets the runs of jobs that ended long ago; the jobs' rows stay.

A run is kept for a while because a person may want to look at it with the engine's own tools. With
several servers each of them does it: what one has removed the others do not find.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from homeport.orchestration.rounds import Rounds

log = structlog.get_logger(__name__)


class RunSweep(Rounds):
    """Forgets ended runs at the start and then every so many seconds."""

    def __init__(
        self,
        forget: Callable[[datetime], int],
        *,
        keep: timedelta,
        every: float,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__(name="run sweep", every=every, at_once=True)
        self._forget = forget
        self._keep = keep
        self._now = now

    def round(self) -> int:
        """Forget what ended longer ago than it is kept; how many runs."""
        forgotten = self._forget(self._now() - self._keep)
        if forgotten:
            log.info("ended runs were forgotten", runs=forgotten, kept=str(self._keep))
        return forgotten
