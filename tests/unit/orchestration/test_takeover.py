"""The heartbeat by hand, over servers kept in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from homeport.orchestration.takeover import Beats, TakeOver


@dataclass
class MemoryServers:
    """Servers as the database would keep them; `away` makes every call fail."""

    beats: dict[str, float] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    now: float = 0.0
    away: bool = False
    taken: bool = False

    def beat(self, server: str) -> bool:
        if self.away:
            raise OperationalError("beat", None, Exception("gone"))
        if server in self.dead:
            return False
        self.beats[server] = self.now
        return True

    def bury(self, *, silent: timedelta) -> tuple[str, ...]:
        late = {who for who, at in self.beats.items() if self.now - at > silent.total_seconds()}
        self.dead |= late
        return tuple(sorted(self.dead))

    @contextmanager
    def turn(self) -> Iterator[bool]:
        yield not self.taken


@dataclass
class Bench:
    servers: MemoryServers = field(default_factory=MemoryServers)
    taken: list[Sequence[str]] = field(default_factory=list)
    left: int = 0

    def leave(self) -> None:
        self.left += 1

    def join(self, name: str) -> TakeOver:
        made = TakeOver(
            self.servers,
            name,
            beats=Beats(every=1, leave_after=3.5, dead_after=5),
            monotonic=lambda: self.servers.now,
            take_over=self.taken.append,
            leave=self.leave,
        )
        made.beat()
        return made


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_living_server_takes_over_the_dead_ones_in_every_round(bench: Bench) -> None:
    bench.join("a")
    living = bench.join("b")
    for second in range(1, 9):
        bench.servers.now = second
        living.beat()
        living.watch()
    assert bench.taken == [("a",), ("a",), ("a",)]


def test_only_the_one_whose_turn_it_is_takes_over(bench: Bench) -> None:
    bench.join("a")
    living = bench.join("b")
    bench.servers.now, bench.servers.taken = 9, True
    living.watch()
    assert bench.taken == []


def test_a_server_held_for_dead_leaves_and_its_id_never_comes_back(bench: Bench) -> None:
    frozen, living = bench.join("a"), bench.join("b")
    bench.servers.now = 9
    living.watch()
    frozen.beat()
    frozen.beat()
    assert bench.left == 2
    assert "a" in bench.servers.dead


@pytest.mark.parametrize(("silent", "left"), [(3.0, 0), (3.5, 1)])
def test_a_server_that_cannot_beat_leaves_before_it_is_held_for_dead(
    bench: Bench, silent: float, left: int
) -> None:
    server = bench.join("a")
    bench.servers.away, bench.servers.now = True, silent
    server.beat()
    assert bench.left == left
    assert silent < 5
