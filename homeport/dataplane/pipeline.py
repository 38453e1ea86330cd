"""
How long work over blocks is steered: stopped, paced, watched, and spread over a few threads.

Whoever ships, lands, seeds or compares takes a `Control` and asks it at every safe place, that is
where nothing is half done. `for_each` is the one way to work on several pieces at a time: bounded,
its input pulled lazily, the first failure ends the rest, and no thread outlives the call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from homeport.errors import CancelledError

T = TypeVar("T")


def _never() -> bool:
    return False


def _unwatched(done: int, total: int) -> None:  # noqa: ARG001 - the shape of `Control.progress`
    return


def _unpaced(count: int) -> None:  # noqa: ARG001 - the shape of `Control.pace`
    return


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """
    The reins of one piece of work. All three may be called from several threads at once.

    `cancelled` is asked often and must be cheap. `progress` gets bytes done and bytes in all, both
    of the disk and not of the wire. `pace` is told how many bytes are about to be moved, and waits
    as long as a rate limit wants; it must return soon once cancelled.
    """

    cancelled: Callable[[], bool] = _never
    progress: Callable[[int, int], None] = _unwatched
    pace: Callable[[int], None] = _unpaced

    def check(self) -> None:
        """
        Go on, or stop here.

        Raises:
            CancelledError: somebody asked for it.
        """
        if self.cancelled():
            raise CancelledError("The work was stopped because somebody asked for it.")

    def quiet(self) -> Control:
        """The same reins without progress: for a part whose whole is reported elsewhere."""
        return replace(self, progress=_unwatched)


class Meter:
    """
    Adds up what several threads have done, and reports the sum through a control.

    With a `step`, sums less than that beyond the last one told are kept back, save the whole: for
    scattered blocks of 4 KiB a report each costs more than the block.
    """

    def __init__(self, control: Control, *, total: int, done: int = 0, step: int = 0) -> None:
        self._control, self._total, self._step = control, total, step
        self._done = self._told = done
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """`count` more bytes are done; sums are reported in ascending order."""
        with self._lock:
            self._done += count
            if self._done - self._told >= self._step or self._done >= self._total:
                self._told = self._done
                self._control.progress(min(self._done, self._total), self._total)


def for_each(
    inputs: Iterable[T], work: Callable[[T, Control], None], *, workers: int, control: Control
) -> None:
    """
    Do `work` on every input with at most `workers` threads; return when all of it is done.

    The iterator of `inputs` belongs to this call and is never asked by two threads at once. `work`
    gets a control that is also cancelled when another piece has failed; what it raises then is
    dropped, and the first failure is raised here after the last thread has ended.

    Raises:
        CancelledError: asked for before everything was done.
        Exception: whatever `work` or the input raised first.
    """
    if workers < 1:
        raise ValueError(f"at least one worker is needed, not {workers}")
    _Pool(inputs, work, control).run(workers)


class _End:
    """What the input gives when nothing is left."""


_END = _End()


class _Pool(Generic[T]):
    """One call of `for_each`; `_failure` is set once, under the lock, and ends all threads."""

    def __init__(
        self, inputs: Iterable[T], work: Callable[[T, Control], None], control: Control
    ) -> None:
        self._inputs: Iterator[T] = iter(inputs)
        self._work = work
        self._outer = control
        self._inner = replace(control, cancelled=self._stopped)
        self._lock = threading.Lock()
        self._failure: BaseException | None = None

    def run(self, workers: int) -> None:
        threads = [threading.Thread(target=self._drain, daemon=True) for _ in range(workers - 1)]
        for thread in threads:
            thread.start()
        try:
            self._drain()  # the caller is a worker too: its interrupts and limits stay its own
        finally:
            for thread in threads:
                thread.join()
        if self._failure is not None:
            raise self._failure

    def _stopped(self) -> bool:
        return self._failure is not None or self._outer.cancelled()

    def _drain(self) -> None:
        try:
            while True:
                with self._lock:
                    if self._failure is not None:
                        return
                    self._outer.check()
                    taken = next(self._inputs, _END)
                if isinstance(taken, _End):
                    return
                self._work(taken, self._inner)
        except BaseException as error:  # noqa: BLE001 - raised again by `run`, in the caller
            with self._lock:
                self._failure = self._failure or error
