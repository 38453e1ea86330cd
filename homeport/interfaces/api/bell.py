"""
The bell: wakes the long polls of agents that have news.

Long polls wait on the event loop, so that an agent costs no thread; whoever commits rings from a
thread of its own. What another server commits, or a ring that was missed, is found by the net: one
question for all waiting hosts every second or so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from homeport.model.ids import HostName


@dataclass(eq=False)
class Ear:
    """One waiting long poll. `revision` is the one its host has."""

    host: HostName
    revision: int
    loop: asyncio.AbstractEventLoop
    rung: asyncio.Event = field(default_factory=asyncio.Event)

    async def heard(self, seconds: float) -> bool:
        """Wait for a ring; False when the time was over first."""
        try:
            await asyncio.wait_for(self.rung.wait(), seconds)
        except TimeoutError:
            return False
        self.rung.clear()
        return True


class Bell:
    """All waiting long polls. Entered and left on the event loop, rung from anywhere."""

    def __init__(self) -> None:
        self._ears: frozenset[Ear] = frozenset()  # replaced, never changed: read from any thread

    @contextmanager
    def ear(self, host: HostName, revision: int) -> Iterator[Ear]:
        """Listen for the host's news; enter before looking, so that none is missed."""
        ear = Ear(host=host, revision=revision, loop=asyncio.get_running_loop())
        self._ears |= {ear}
        try:
            yield ear
        finally:
            self._ears -= {ear}

    def ring(self, hosts: Iterable[HostName]) -> None:
        """Wake the long polls of these hosts."""
        wanted = set(hosts)
        for ear in self._ears:
            if ear.host in wanted and not ear.loop.is_closed():
                ear.loop.call_soon_threadsafe(ear.rung.set)

    def ring_all(self) -> None:
        """Wake everybody, at the end."""
        self.ring([ear.host for ear in self._ears])

    def waiting(self) -> dict[HostName, int]:
        """The waiting hosts with the revision each has."""
        return {ear.host: ear.revision for ear in self._ears}
