"""
What a comparison finds, while it goes on: shipping begins with the first window that differs.

The comparison works in a thread of its own. What it has found comes out in the disk's order, to be
taken as often as wanted, as a put that failed is repeated: each time from the disk's start on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType

from homeport.dataplane.pipeline import Control
from homeport.dataplane.resync import Comparison
from homeport.model.extent import ExtentSet


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The extents that differ from where the one before ended up to byte `upto` of the disk."""

    upto: int
    extents: ExtentSet


class Findings:
    """
    The findings of one comparison; a context, at whose end the comparison is stopped.

    No thread outlives the context. Taking them waits for the comparison, and raises what ended it:
    see `Comparison.step`; CancelledError.
    """

    def __init__(
        self,
        begin: Callable[[Control], Comparison],
        *,
        control: Control,
        pause: Callable[[], object],
    ) -> None:
        """`begin` makes the comparison, for the reins it is given; `pause` while it must wait."""
        self._left = False
        self._control = replace(control, cancelled=lambda: self._left or control.cancelled())
        self._comparison = begin(self._control)
        self._pause = pause
        self._news = threading.Condition()
        self._known: list[Found] = []
        self._failure: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._compare, name="compare", daemon=True)

    def __enter__(self) -> Findings:
        """Begin to compare."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop comparing; what was found so far is in the store, for the next time."""
        self._left = True
        self._thread.join()

    def __iter__(self) -> Iterator[Found]:
        """All findings from the first on, each as soon as it is known."""
        at = 0
        while found := self._wait_for(at):
            yield found
            at += 1

    def _wait_for(self, number: int) -> Found | None:
        """The finding of that number; None behind the last."""
        with self._news:
            self._news.wait_for(lambda: self._ended or len(self._known) > number)
            if len(self._known) > number:
                return self._known[number]
        if self._failure is not None:
            raise self._failure
        return None

    def _compare(self) -> None:
        try:
            while not self._comparison.done:
                self._control.check()
                if not self._comparison.step():
                    self._pause()
                self._tell()
        except BaseException as error:  # noqa: BLE001 - raised again where findings are taken
            self._failure = error
        finally:
            with self._news:
                self._ended = True
                self._news.notify_all()

    def _tell(self) -> None:
        start = self._known[-1].upto if self._known else 0
        settled = self._comparison.settled
        if settled > start:
            extents = self._comparison.found_between(start, settled)
            with self._news:
                self._known.append(Found(upto=settled, extents=extents))
                self._news.notify_all()
