"""When ended runs are forgotten: at the start, then every so often, and whatever goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import OperationalError

from homeport.orchestration.sweeping import RunSweep

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def sweep(forget: Callable[[datetime], int]) -> RunSweep:
    return RunSweep(forget, keep=timedelta(days=30), every=0.01, now=lambda: NOW)


def test_what_ended_longer_ago_than_it_is_kept_is_forgotten() -> None:
    asked: list[datetime] = []

    def forget(before: datetime) -> int:
        asked.append(before)
        return 7

    assert sweep(forget).round() == 7
    assert asked == [datetime(2026, 1, 30, tzinfo=UTC)]


@pytest.mark.parametrize(
    "error", [OperationalError("x", None, Exception("away")), RuntimeError("odd")], ids=repr
)
def test_a_round_that_fails_is_not_the_last(error: Exception) -> None:
    rounds, again = [], threading.Event()

    def forget(_before: datetime) -> int:
        rounds.append(1)
        if len(rounds) == 1:
            raise error
        again.set()
        return 0

    running = sweep(forget)
    running.start()
    assert again.wait(10)
    running.stop()
    assert "run sweep" not in {thread.name for thread in threading.enumerate()}


def test_one_that_never_began_is_stopped() -> None:
    sweep(lambda _before: 0).stop()
