from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count

import pytest

from homeport.dataplane.pipeline import Control, Meter, for_each
from homeport.errors import CancelledError


def test_a_control_goes_on_until_somebody_cancels() -> None:
    asked = False
    control = Control(cancelled=lambda: asked)
    control.check()
    asked = True
    with pytest.raises(CancelledError, match="asked"):
        control.check()


def test_a_quiet_control_is_cancelled_and_paced_but_not_watched() -> None:
    seen: list[tuple[int, int]] = []
    paced: list[int] = []
    control = Control(progress=lambda *sums: seen.append(sums), pace=paced.append)
    control.quiet().progress(1, 2)
    control.quiet().pace(7)
    assert (seen, paced) == ([], [7])


def test_a_meter_reports_sums_that_never_pass_the_total() -> None:
    seen: list[tuple[int, int]] = []
    meter = Meter(Control(progress=lambda *sums: seen.append(sums)), total=10, done=3)
    for step in (3, 3, 3):
        meter.add(step)
    assert seen == [(6, 10), (9, 10), (10, 10)]


def test_a_meter_with_a_step_keeps_small_sums_back_but_tells_the_whole() -> None:
    seen: list[tuple[int, int]] = []
    meter = Meter(Control(progress=lambda *sums: seen.append(sums)), total=10, step=4)
    for done in (3, 3, 3, 1):
        meter.add(done)
    assert seen == [(6, 10), (10, 10)]


@pytest.mark.parametrize("workers", [1, 2, 7], ids="{} workers".format)
def test_every_input_is_worked_on_once(workers: int) -> None:
    done: list[int] = []
    for_each(range(50), lambda number, _: done.append(number), workers=workers, control=Control())
    assert sorted(done) == list(range(50))


def test_no_worker_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        for_each((), lambda *_: None, workers=0, control=Control())


def test_as_many_work_at_a_time_as_there_are_workers_and_no_more() -> None:
    meeting = threading.Barrier(3)
    inside, most = 0, 0
    lock = threading.Lock()

    def work(_: int, _control: Control) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        meeting.wait(10)  # only passed when three are here at once
        with lock:
            inside -= 1

    for_each(range(9), work, workers=3, control=Control())
    assert most == 3


def test_input_is_pulled_only_as_workers_come_free() -> None:
    pulled = 0

    def numbers() -> Iterator[int]:
        nonlocal pulled
        for number in range(5):
            pulled += 1
            yield number

    behind: list[int] = []
    for_each(numbers(), lambda n, _: behind.append(pulled - n), workers=1, control=Control())
    assert behind == [1] * 5


@pytest.mark.parametrize("checks", [True, False], ids=["asks its control", "just ends"])
def test_the_first_failure_ends_the_rest_and_is_raised(checks: bool) -> None:
    before = threading.active_count()
    failing = threading.Event()
    begun: list[int] = []

    def work(number: int, control: Control) -> None:
        begun.append(number)
        if number == 0:
            failing.set()
            raise OSError("disk failed")
        failing.wait(10)
        while not control.cancelled():
            pass
        if checks:
            control.check()

    with pytest.raises(OSError, match="disk failed"):
        for_each(range(1000), work, workers=2, control=Control())
    assert len(begun) <= 2
    assert threading.active_count() == before  # no thread outlives the call


def test_what_the_input_raises_is_raised() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise OSError("the listing broke")

    done: list[int] = []
    with pytest.raises(OSError, match="listing broke"):
        for_each(numbers(), lambda n, _: done.append(n), workers=2, control=Control())
    assert done == [1]


def test_work_that_raises_stop_iteration_is_not_taken_for_the_end() -> None:
    def work(_: int, _control: Control) -> None:
        raise StopIteration

    with pytest.raises(StopIteration):
        for_each(range(3), work, workers=1, control=Control())


def test_cancelling_stops_before_the_next_piece() -> None:
    done: list[int] = []
    control = Control(cancelled=lambda: len(done) >= 3)
    with pytest.raises(CancelledError):
        for_each(count(), lambda number, _: done.append(number), workers=1, control=control)
    assert done == [0, 1, 2]
