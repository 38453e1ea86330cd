"""The whole way of an item on real files: there, and home again, by every kind of resync."""

from __future__ import annotations

import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from homeport.errors import RefusedError
from homeport.model.planning import Way
from homeport.model.position import Position
from homeport.units import KiB
from tests.world import ITEM, World

pytestmark = pytest.mark.real


# The other disk is raw in either, so that the long runs alone have a machine of raw disks only.
@pytest.fixture(params=[pytest.param("raw", marks=pytest.mark.long), "qcow2"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(tmp_path, formats={"vda": request.param, "vdb": "raw"})


def protected(world: World) -> World:
    world.write("vda", 0, b"first" * 1000)
    world.write("vdb", 64 * KiB, b"data" * 500)
    world.protect()
    world.replicate()
    return world


def same_everywhere(world: World) -> None:
    """Source and target hold the same bytes at the newest landed point, by qemu-img."""
    position = world.standby.ledger.stands_at
    assert position is not None
    for disk in world.disks:
        assert world.standby.bytes_of(position, disk) == world.remembered()[disk]


def test_a_seed_lands_what_the_guest_had_written(world: World) -> None:
    protected(world)
    same_everywhere(world)


def test_every_listed_point_equals_its_moment(world: World) -> None:
    protected(world)
    remembered = {}
    for step in range(5):
        world.write("vda", step * 8 * KiB, bytes([step + 1]) * 3000)
        world.zero("vdb", 64 * KiB + step * 4 * KiB, 4 * KiB)
        remembered[world.capture()] = world.remembered()
    for position, disks in remembered.items():
        for disk, content in disks.items():
            assert world.standby.bytes_of(position, disk) == content


def test_home_again_after_an_unplanned_failover(world: World) -> None:
    protected(world)
    world.write("vda", 100 * KiB, b"landed" * 100)
    world.capture()
    world.write("vda", 200 * KiB, b"never sent" * 100)
    world.fail_over()
    assert b"never sent" not in world.remembered()["web-vda"]
    world.write("vda", 300 * KiB, b"west" * 100)
    world.commit()
    plan = world.reprotect()
    assert plan.way is Way.EXACT
    world.replicate()
    same_everywhere(world)
    unsent = world.standby.ledger.chain("web-vda").set_aside
    assert len(unsent) == 1
    image = world.standby.shelf.peek(ITEM).path(unsent[0].path)
    raw = image.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(image), str(raw)], check=True)
    assert b"never sent" in raw.read_bytes()
    raw.unlink()

    world.write("vdb", 0, b"on the way home" * 10)
    before = world.remembered()
    world.fail_over(planned=True)
    assert world.running is world.east
    assert world.remembered() == before
    world.commit()
    world.reprotect(keep_machine=False)
    world.replicate()
    same_everywhere(world)
    owner, other = world.disable()
    assert not owner.left
    assert not other.left
    assert sorted(path.name for path in world.west.pool.iterdir()) == []
    assert len(list(world.east.pool.iterdir())) == len(world.disks)


def test_undo_gives_back_the_old_machine(world: World) -> None:
    protected(world)
    world.write("vda", 0, b"not captured" * 10)
    before = world.remembered()
    world.fail_over()
    world.write("vda", 0, b"written after the failover" * 10)
    world.undo(before)
    world.replicate(3)
    same_everywhere(world)
    assert world.remembered() == before
    assert world.standby.ledger.chain("web-vda").set_aside


def test_an_older_point_and_home_again(world: World) -> None:
    protected(world)
    world.write("vda", 0, b"older" * 100)
    older = world.capture()
    world.write("vda", 4 * KiB, b"newer" * 100)
    world.capture()
    world.fail_over(older)
    assert b"newer" not in world.remembered()["web-vda"]
    world.write("vdb", 8 * KiB, b"west" * 10)
    world.commit()
    assert world.reprotect().way is Way.EXACT
    world.replicate()
    same_everywhere(world)


def test_another_point_before_commit(world: World) -> None:
    protected(world)
    world.write("vda", 0, b"older" * 100)
    older = world.capture()
    world.write("vda", 4 * KiB, b"newer" * 100)
    newer = world.capture()
    world.fail_over(older)
    world.write("vda", 12 * KiB, b"tried" * 10)
    world.change_point(newer)
    assert b"newer" in world.remembered()["web-vda"]
    assert b"tried" not in world.remembered()["web-vda"]
    with pytest.raises(RefusedError, match="not listed"):
        world.change_point(Position(1, 999))


@pytest.mark.parametrize("way", [Way.DIFFERENTIAL, Way.FULL])
def test_home_again_by_a_dearer_way(world: World, way: Way) -> None:
    protected(world)
    world.fail_over()
    world.write("vda", 300 * KiB, b"west" * 100)
    world.commit()
    world.reprotect(way=way)
    world.replicate(3)
    same_everywhere(world)


def shape(world: World) -> dict[str, object]:
    """What a person would call the machine's configuration, on the side it runs."""
    disks = [chain.disk for chain in world.running.ledger.disks]
    names = {disk.target: disk.name for disk in disks}
    found = world.running.compute.describe("web", names=names)
    assert [(one.name, one.target, one.size) for one in found.disks] == [
        (one.name, one.target, one.size) for one in disks
    ]
    return {
        "name": (found.name, found.uuid, found.memory, found.vcpus),
        "disks": disks,
        "nics": found.nics,
        "bases": [Path(chain.base).name for chain in world.running.ledger.disks],
        "replicas": [Path(chain.base).name for chain in world.standby.ledger.disks],
        "made": len([one for one in world.running.ledger.made if one.gone_at is None]),
    }


def files_of(world: World) -> set[str]:
    """Names of all files of both sides, without the positions in them."""
    number = re.compile(r"\d{6}-\d{10}")
    return {
        number.sub("#", str(path.relative_to(world.root)))
        for host in (world.east, world.west)
        for path in (host.pool).rglob("*")
        if path.is_file()
    }


@pytest.mark.timeout(300)
def test_five_round_trips_leave_everything_as_the_first_left_it(world: World) -> None:
    protected(world)
    first, shapes, files = shape(world), [], []
    for trip in range(5):
        for _ in range(2):
            world.write("vda", trip * 16 * KiB, bytes([trip + 1]) * 5000)
            world.capture()
            content = world.remembered()
            world.fail_over(planned=True)
            assert world.remembered() == content
            world.write("vdb", trip * 16 * KiB, bytes([trip + 65]) * 5000)
            world.commit()
            assert world.reprotect(keep_machine=world.standby is world.east).way is Way.EXACT
            remembered = {world.running.ledger.newest_captured: world.remembered()}
            world.replicate(3)
            same_everywhere(world)
            for point in world.standby.ledger.points:
                for disk, was in remembered.get(point.position, {}).items():
                    assert world.standby.bytes_of(point.position, disk) == was
        assert world.running is world.east
        world.clock.pass_time(timedelta(days=2).total_seconds())
        world.replicate(3)
        shapes.append(shape(world))
        files.append(files_of(world))
    for one in shapes:
        assert one == first
    for these in files:
        assert these == files[0]
    owner, other = world.disable()
    assert not owner.left
    assert not other.left
