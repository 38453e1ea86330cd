"""The one place where time is asked for. Everything else is given a `Clock`."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Time, as the code below the wiring sees it."""

    def now(self) -> datetime:
        """The moment, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean anything."""

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> bool:
        """Wait; True when `wake` was set meanwhile."""


def has_passed(span: timedelta, *, since: datetime, now: datetime) -> bool:
    """Whether it is so long ago; what lies ahead was written before the clock was set back."""
    return not timedelta(0) <= now - since < span


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """The moment, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> bool:
        """Wait; True when `wake` was set meanwhile."""
        if wake is not None:
            return wake.wait(seconds)
        time.sleep(seconds)
        return False
