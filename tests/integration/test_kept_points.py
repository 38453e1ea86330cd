"""Which points stay: no more than libvirt can start a machine on, and none lost to a clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from homeport.agent import source
from homeport.agent.target import reports
from homeport.model.operations import TestBoot as Boot
from homeport.model.operations import TestCleanup as CleanUp
from homeport.model.policy import ReplicationPolicy
from homeport.model.position import Position
from homeport.units import KiB, MiB
from tests.world import ITEM, Host, ManualClock, World

pytestmark = pytest.mark.real

MOST, NEWEST = 10, 4
SECOND = timedelta(seconds=1)
FOR_EVER = ReplicationPolicy(
    name="all",
    interval=SECOND,
    rpo_target=30 * SECOND,
    keep_all=timedelta(days=9),
    retention=timedelta(days=9),
)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("homeport.agent.target.MOST_LAYERS", MOST)
    monkeypatch.setattr("homeport.model.retention.NEWEST", NEWEST)
    made = World(tmp_path, formats={"vda": "raw"}, size=MiB, policy=FOR_EVER)
    made.protect()
    made.replicate()
    return made


def go_on(world: World, points: int) -> dict[Position, bytes]:
    """So many points of a disk that is written to; what each must hold."""
    held = {}
    for number in range(points):
        world.write("vda", (number * 12 % 900) * KiB, bytes([number % 250 + 1]) * 6000)
        world.replicate(1)
        newest = world.standby.ledger.stands_at
        assert newest is not None
        held[newest] = world.remembered()["web-vda"]
    return held


def layers(host: Host) -> int:
    return max(len(chain.layers) for chain in host.ledger.disks)


def test_points_are_thinned_before_a_machine_could_not_be_started(world: World) -> None:
    held = go_on(world, 3 * MOST)
    points = [point.position for point in world.standby.ledger.points]
    assert len(points) == MOST
    assert layers(world.standby) <= MOST
    assert max(report.depth for report in reports(world.standby.ledger)) <= MOST
    assert points[-NEWEST:] == sorted(held)[-NEWEST:]
    for position in points[3:]:
        assert world.standby.bytes_of(position, "web-vda") == held[position]
    world.fail_over(points[5])
    assert world.remembered()["web-vda"] == held[points[5]]


def test_what_lies_below_a_test_counts_and_is_not_thinned(world: World) -> None:
    go_on(world, MOST + 5)
    tested = world.standby.ledger.points[-5].position
    world.standby.order(Boot(item=ITEM, position=tested, machine="web-test", guest_timeout=0))
    below = [point.position for point in world.standby.ledger.points if point.position <= tested]
    held = go_on(world, 2 * MOST)
    points = [point.position for point in world.standby.ledger.points]
    assert points[: len(below)] == below
    assert points[-NEWEST:] == sorted(held)[-NEWEST:]
    assert layers(world.standby) <= len(below) + NEWEST + 1
    world.standby.order(CleanUp(item=ITEM, machine="web-test"))
    go_on(world, 1)
    assert len(world.standby.ledger.points) == MOST
    assert layers(world.standby) <= MOST


def test_captures_pause_while_the_source_cannot_commit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk so slow that a point is always due before a layer is committed."""
    longest = 4
    monkeypatch.setattr(source, "LONGEST", longest)
    with monkeypatch.context() as slow:
        slow.setattr(source, "compact", lambda *_args, **_more: 0)
        world.replicate(20)
        assert layers(world.running) == longest + 1
    world.write("vda", 0, b"after the pause")
    world.replicate(3)
    assert layers(world.running) <= longest
    newest = world.standby.ledger.stands_at
    assert newest is not None
    assert world.standby.bytes_of(newest, "web-vda") == world.remembered()["web-vda"]


class TestClocks:
    """A clock that is set wrong costs no point."""

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        policy = replace(FOR_EVER, keep_all=timedelta(hours=1), retention=timedelta(hours=2))
        made = World(tmp_path, formats={"vda": "raw"}, size=MiB, policy=policy)
        made.protect()
        made.replicate()
        go_on(made, 4)
        return made

    def apart(self, world: World) -> tuple[ManualClock, ManualClock]:
        """A clock for each side, which run alike until one is set."""
        for host in (world.running, world.standby):
            host.clock = ManualClock(world.clock.now())
            host.restart()
        return world.running.clock, world.standby.clock

    def later(self, world: World, seconds: float = 1.0) -> None:
        """Time passes on both, and a point is due."""
        for host in (world.running, world.standby):
            host.clock.pass_time(seconds)
        world.write("vda", 0, b"later" * 100)
        world.replicate(1)

    @pytest.mark.parametrize("side", ["source", "target"])
    def test_set_ahead_by_years(self, world: World, side: str) -> None:
        before = [point.position for point in world.standby.ledger.points]
        source_clock, target_clock = self.apart(world)
        (source_clock if side == "source" else target_clock).pass_time(9e7)
        self.later(world)
        points = [point.position for point in world.standby.ledger.points]
        assert points[:-1] == before

    def test_time_that_really_passes_ends_them(self, world: World) -> None:
        before = len(world.standby.ledger.points)
        world.clock.pass_time(10 * 3600)
        world.standby.one_pass()
        assert len(world.standby.ledger.points) == before
        go_on(world, 1)
        assert len(world.standby.ledger.points) == 1

    def test_set_back_points_go_on_being_taken(self, world: World) -> None:
        self.apart(world)
        self.later(world)
        source_clock, _ = world.running.clock, world.standby.clock
        source_clock.pass_time(-86400)
        before = world.running.ledger.newest_captured
        self.later(world)
        assert world.running.ledger.newest_captured != before
        assert world.standby.ledger.stands_at == world.running.ledger.newest_captured


def test_chains_get_shorter_though_every_pass_takes_longer_than_the_interval(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A point is due all the while: commits that only ever gave way would never be done."""
    monkeypatch.setattr(source, "GROWN", 4)

    def later() -> datetime:
        world.clock.pass_time(SECOND.total_seconds())
        return world.clock.at

    monkeypatch.setattr(world.clock, "now", later)
    held = go_on(world, 20)
    assert layers(world.running) <= 4 + 2
    assert len(held) == 20
    newest = max(held)
    assert world.standby.bytes_of(newest, "web-vda") == held[newest]
    world.fail_over(planned=True)
    assert world.remembered()["web-vda"] == held[newest]
