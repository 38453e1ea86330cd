"""
What becomes of the store between two sites: altered, cut, gone, foreign, out of order.

Each fault is found and named, nothing of it lands, the points that are there stay what they were,
and the source makes good what it still has. Nobody is asked for anything.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from homeport.errors import HomeportError, IntegrityError
from homeport.model.planning import Way
from homeport.model.position import Position
from homeport.units import KiB, MiB
from tests.integration.test_state_machine import scratch
from tests.world import ITEM, World
from tests.worldchecks import check_points

pytestmark = pytest.mark.real

Remembered = dict[Position, dict[str, bytes]]


@pytest.fixture
def world() -> Iterator[World]:
    world = World(scratch(), formats={"vda": "qcow2", "vdb": "raw"}, size=MiB)
    yield world
    shutil.rmtree(world.root)


def objects(world: World, pattern: str) -> list[Path]:
    """Stored objects by a pattern below the item, of the running side's store."""
    return sorted((world.root / world.running.name / "cache").glob(f"v1/*/{ITEM}/{pattern}"))


def three_waiting(world: World) -> Remembered:
    """A protected machine, a landed point, and three more that wait in the store."""
    world.protect()
    world.replicate(2)
    world.write("vda", 0, b"landed" * 1000)
    remembered = {world.capture(): world.remembered()}
    for point in world.standby.ledger.points:
        remembered.setdefault(
            point.position,
            {disk: world.standby.bytes_of(point.position, disk) for disk in world.disks},
        )
    for number in range(3):
        world.write("vda", number * 8 * KiB, bytes([number + 1]) * 6000)
        world.write("vdb", number * 8 * KiB, bytes([number + 1]) * 6000)
        world.clock.pass_time(5)
        world.running.one_pass()
        newest = world.running.ledger.newest_captured
        assert newest is not None
        remembered[newest] = world.remembered()
    return remembered


def flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def from_another_disk(path: Path) -> None:
    other = next(one for one in sorted(path.parent.glob("*.delta")) if one != path)
    path.write_bytes(other.read_bytes())


def from_another_point(path: Path) -> None:
    other = next(one for one in sorted(path.parent.parent.glob(f"*/{path.name}")) if one != path)
    path.write_bytes(other.read_bytes())


FAULTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a flipped bit in a delta": ("points/*/web-vda.delta", flip),
    "a cut delta": ("points/*/web-vda.delta", cut),
    "an empty delta": ("points/*/web-vdb.delta", empty),
    "a missing delta": ("points/*/web-vdb.delta", Path.unlink),
    "a delta of another disk": ("points/*/web-vda.delta", from_another_disk),
    "a delta of another point": ("points/*/web-vda.delta", from_another_point),
    "a flipped bit in a manifest": ("points/*/manifest", flip),
    "a cut manifest": ("points/*/manifest", cut),
    "an empty manifest": ("points/*/manifest", empty),
    "a missing manifest": ("points/*/manifest", Path.unlink),
    "a manifest of another point": ("points/*/manifest", from_another_point),
}


UNSEEN = ("a missing manifest", 2)
"""Nothing tells of the newest point once its manifest is gone; it has a test of its own."""


def until_right(world: World, remembered: Remembered) -> list[HomeportError]:
    """Passes of both sides until the target has the newest point; what was raised on the way."""
    raised: list[HomeportError] = []
    for _ in range(8):
        for host in (world.standby, world.running):
            try:
                host.one_pass()
            except HomeportError as error:
                raised.append(error)
            check_points(world.standby, remembered)
        if world.standby.ledger.stands_at == max(remembered):
            return raised
    raise AssertionError(f"the target stands at {world.standby.ledger.stands_at}: {raised}")


@pytest.mark.parametrize(
    ("fault", "which"),
    [(fault, which) for fault in FAULTS for which in (0, 1, 2) if (fault, which) != UNSEEN],
)
def test_a_fault_is_named_and_made_good(world: World, fault: str, which: int) -> None:
    remembered = three_waiting(world)
    pattern, do = FAULTS[fault]
    do(objects(world, pattern)[-3:][which])
    raised = until_right(world, remembered)
    assert raised
    assert all(isinstance(error, IntegrityError) for error in raised)


def test_a_point_whose_manifest_was_the_last_and_is_gone_is_missed_by_the_next(
    world: World,
) -> None:
    remembered = three_waiting(world)
    objects(world, "points/*/manifest")[-1].unlink()
    world.standby.one_pass()
    assert world.standby.ledger.stands_at == sorted(remembered)[-2]
    world.write("vda", 500 * KiB, b"next" * 100)
    world.clock.pass_time(5)
    world.running.one_pass()
    newest = world.running.ledger.newest_captured
    assert newest is not None
    remembered[newest] = world.remembered()
    assert until_right(world, remembered)


@pytest.mark.parametrize("do", [flip, cut, empty, Path.unlink])
def test_a_damaged_part_of_a_seed_is_shipped_again(
    world: World, do: Callable[[Path], object]
) -> None:
    world.write("vda", 0, b"seed" * 5000)
    world.protect()
    world.running.one_pass()
    remembered = {world.running.ledger.newest_captured: world.remembered()}
    do(objects(world, "seeds/*/web-vda/*")[0])
    assert until_right(world, remembered)  # type: ignore[arg-type]


def test_a_part_of_another_disk_is_shipped_again(world: World) -> None:
    world.write("vda", 0, b"one" * 5000)
    world.write("vdb", 0, b"other" * 5000)
    world.protect()
    world.running.one_pass()
    remembered = {world.running.ledger.newest_captured: world.remembered()}
    other = objects(world, "seeds/*/web-vdb/*")[0].read_bytes()
    objects(world, "seeds/*/web-vda/*")[0].write_bytes(other)
    assert until_right(world, remembered)  # type: ignore[arg-type]


@pytest.mark.parametrize("do", [flip, cut, empty, Path.unlink])
def test_a_damaged_word_that_a_point_has_landed_is_said_again(
    world: World, do: Callable[[Path], object]
) -> None:
    world.protect()
    world.running.one_pass()
    world.standby.one_pass()
    do(objects(world, "landed/*")[-1])
    for _ in range(3):
        world.clock.pass_time(5)
        for host in (world.standby, world.running):
            with suppress(IntegrityError):
                host.one_pass()
    assert world.running.ledger.acknowledged is not None


def test_a_position_repeated_with_other_content_is_refused(world: World) -> None:
    """A source that was put back to an earlier state ships the same position anew."""
    remembered = three_waiting(world)
    waiting = objects(world, "points/*/manifest")[-3].parent
    other = World(scratch(), formats=world.formats, size=MiB)
    try:
        other.protect()
        other.replicate(2)
        for number in range(4):
            other.write("vda", number * 8 * KiB, b"forged" * 100)
            other.clock.pass_time(5)
            other.running.one_pass()
        theirs = objects(other, f"points/{waiting.name}/*")
        assert len(theirs) == len(list(waiting.iterdir()))
        for path in theirs:
            (waiting / path.name).write_bytes(path.read_bytes())
    finally:
        shutil.rmtree(other.root)
    raised = until_right(world, remembered)
    assert raised[0].code == "HistoryMismatch"


def test_what_the_source_no_longer_has_is_repaired_by_a_resync(world: World) -> None:
    """Layers that were committed cannot be shipped again: the difference is compared instead."""
    three_waiting(world)
    for path in objects(world, "points/*/*"):
        path.unlink()
    world.standby.one_pass()
    prepare, reverse = world.reprotect_orders(way=Way.DIFFERENTIAL)
    world.standby.order(prepare)
    world.running.order(reverse)
    world.assign_target()
    assert world.standby.ledger.points  # until the first new one is listed
    world.replicate(3)
    position = world.standby.ledger.stands_at
    assert position is not None
    for disk, content in world.remembered().items():
        assert world.standby.bytes_of(position, disk) == content
