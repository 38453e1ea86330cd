"""
Unmanaged disks: used in place by the replica, while the machine that is kept has a copy of its own.

Whatever happens, kept machine and replica share no file; the machine gets its disks back, and of
the copy nothing is left.
"""

from __future__ import annotations

import errno
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homeport.agent import unmanaged
from homeport.errors import HomeportError, RefusedError
from homeport.model import operations as ops
from homeport.model.item import Role
from homeport.model.machine import PowerState
from homeport.model.planning import Way
from homeport.units import KiB, MiB
from tests.integration.test_agent_crashes import go_through
from tests.integration.test_state_machine import scratch
from tests.world import ITEM, Host, World, read_image
from tests.worldchecks import check_running, same

pytestmark = pytest.mark.real

FILES = {"web-vda": "web-vda.qcow2", "web-vdb": "web-vdb.raw"}
COPY = "web-vda-OScopy.qcow2"


@pytest.fixture
def world() -> Iterator[World]:
    world = new_world()
    yield world
    shutil.rmtree(world.root)


def new_world() -> World:
    """Protected, its disks unmanaged."""
    world = World(scratch(), formats={"vda": "qcow2", "vdb": "raw"}, size=MiB, unmanaged=True)
    world.write("vda", 0, b"seed" * 1000)
    world.write("vdb", 0, b"data" * 1000)
    world.protect()
    world.replicate(2)
    return world


def committed(world: World) -> dict[str, bytes]:
    """Failed over; what the machine had when it was lost, never all of it sent."""
    world.write("vda", 64 * KiB, b"landed" * 100)
    world.capture()
    world.write("vda", 128 * KiB, b"never landed" * 100)
    world.write("vdb", 128 * KiB, b"nor this" * 100)
    lost = world.remembered()
    world.fail_over()
    world.write("vdb", 256 * KiB, b"west" * 500)
    world.commit()
    return lost


def lands(world: World) -> None:
    world.replicate(3)
    world.write("vda", 300 * KiB, b"more" * 100)
    point = world.capture()
    for disk, content in world.remembered().items():
        same(world.standby.bytes_of(point, disk), content, f"{disk} {point}")


def sources(host: Host) -> dict[str, str]:
    """Each disk's file by target, as the next start would have it."""
    return dict(host.compute.sources("web").persistent)


def files(host: Host) -> set[str]:
    return {path.name for path in host.pool.iterdir() if path.is_file()}


def test_disks_keep_their_names_at_both_sides(world: World) -> None:
    assert files(world.east) == files(world.west) == set(FILES.values())
    for host in (world.east, world.west):
        assert not any(disk.disk.managed for disk in host.ledger.disks)
    lost = committed(world)
    assert files(world.west) == set(FILES.values())
    definition = world.running.order(ops.AskFacts(item=ITEM)).definition
    assert [disk.managed for disk in definition.disks] == [False, False]
    assert lost


def test_a_file_that_has_the_copys_name_is_somebody_elses(world: World) -> None:
    committed(world)
    own = world.east.pool / COPY
    own.write_bytes(b"a person's own")
    prepare, reverse = world.reprotect_orders()
    with pytest.raises(RefusedError) as refused:
        world.east.order(prepare)
    assert (refused.value.code, str(own) in refused.value.message) == ("NameTaken", True)
    assert own.read_bytes() == b"a person's own"
    kept = own.rename(own.with_name("moved away"))
    world.east.order(prepare)
    world.running.order(reverse)
    world.assign_target()
    lands(world)
    world.disable()
    assert kept.read_bytes() == b"a person's own"


def test_a_copy_that_finds_no_room_leaves_none_taken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a full pool pauses are other people's machines."""
    committed(world)
    before = files(world.east)

    def no_room(*_given: Any, **_more: Any) -> None:
        raise OSError(errno.ENOSPC, "no room for the copy")

    prepare, _ = world.reprotect_orders()
    with monkeypatch.context() as patched:
        patched.setattr(unmanaged, "commit_down", no_room)
        with pytest.raises(HomeportError, match="no room"):
            world.east.order(prepare)
    assert files(world.east) == before
    world.east.order(prepare)
    assert (world.east.pool / COPY).exists()


class TestTheMachineIsThere:
    @pytest.fixture
    def lost(self, world: World) -> dict[str, bytes]:
        lost = committed(world)
        world.reprotect()
        return lost

    def test_it_has_a_copy_of_its_os_disk_and_no_other(
        self, world: World, lost: dict[str, bytes]
    ) -> None:
        copy = world.east.pool / COPY
        assert sources(world.east) == {"vda": str(copy)}
        same(read_image(copy, "qcow2"), lost["web-vda"], "the copy")
        assert files(world.east) - {COPY} == set(FILES.values()) | unsent(world.east)
        made = {(one.kind, one.name): one.gone_at for one in world.east.ledger.made}
        assert made["copy", str(copy)] is None

    def test_it_is_kept_off_and_locked(self, world: World, lost: dict[str, bytes]) -> None:
        note = world.east.compute.note("web")
        assert world.east.compute.state("web") is PowerState.OFF
        assert note is not None
        assert (note.may_start, note.lock, note.item) == (False, "lock", ITEM)
        machine = world.east.compute.machines["web"]
        assert not machine.autostart

    def test_the_original_disks_are_the_replica(self, world: World, lost: dict[str, bytes]) -> None:
        lands(world)
        held = world.east.shelf.peek(ITEM)
        assert {chain.name: held.path(chain.base).name for chain in held.ledger.disks} == FILES
        same(read_image(world.east.pool / COPY, "qcow2"), lost["web-vda"], "the copy")

    def test_the_copy_can_be_written_to_and_the_replica_does_not_see_it(
        self, world: World, lost: dict[str, bytes]
    ) -> None:
        lands(world)
        point = world.standby.ledger.points[-1].position
        before = world.standby.bytes_of(point, "web-vda")
        io = ["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 64k", str(world.east.pool / COPY)]
        subprocess.run(io, check=True, capture_output=True)
        same(world.standby.bytes_of(point, "web-vda"), before, "the replica")

    def test_home_again_it_has_its_own_disks_and_the_copy_is_gone(
        self, world: World, lost: dict[str, bytes]
    ) -> None:
        lands(world)
        world.fail_over(planned=True)
        assert set(sources(world.east)) == {"vda", "vdb"}
        assert COPY not in files(world.east)
        check_running(world.east, world.remembered())
        gone = [one.gone_at for one in world.east.ledger.made if one.kind == "copy"]
        assert None not in gone
        world.commit()
        world.reprotect(keep_machine=False)
        lands(world)
        assert COPY not in files(world.west)

    def test_released_it_has_all_its_disks_again(
        self, world: World, lost: dict[str, bytes]
    ) -> None:
        lands(world)
        expected = {
            disk: world.east.bytes_of(world.east.ledger.points[-1].position, disk) for disk in FILES
        }
        _, other = world.disable()
        assert other.left == ()
        assert files(world.east) == set(FILES.values())
        assert not (world.east.pool / "homeport").exists()
        paths = {target: Path(path) for target, path in sources(world.east).items()}
        assert {target: path.name for target, path in paths.items()} == {
            "vda": "web-vda.qcow2",
            "vdb": "web-vdb.raw",
        }
        for disk, name in FILES.items():
            same(read_image(world.east.pool / name, name.partition(".")[2]), expected[disk], name)
        world.east.compute.start("web")

    def test_repeated_the_copy_is_not_made_again(
        self, world: World, lost: dict[str, bytes]
    ) -> None:
        before = (world.east.pool / COPY).stat()
        world.replicate(3)
        world.reprotect()
        after = (world.east.pool / COPY).stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
        lands(world)

    def test_fenced_once_more_by_a_job_that_is_repeated(
        self, world: World, lost: dict[str, bytes]
    ) -> None:
        world.east.order(ops.Fence(item=ITEM, epoch=world.epoch, lock="lock"))
        assert world.east.ledger.role is Role.FENCED
        world.reprotect()
        assert sources(world.east) == {"vda": str(world.east.pool / COPY)}
        same(read_image(world.east.pool / COPY, "qcow2"), lost["web-vda"], "the copy")
        lands(world)

    def test_undefined_from_outside_it_comes_back_without_the_replicas_disks(
        self, world: World, lost: dict[str, bytes]
    ) -> None:
        world.east.compute.delete("web")
        assert world.east.guard()
        assert sources(world.east) == {"vda": str(world.east.pool / COPY)}


def unsent(host: Host) -> set[str]:
    return {name for name in files(host) if "-unsent-" in name}


def test_a_machine_that_is_gone_has_no_copy(world: World) -> None:
    committed(world)
    world.east.compute.delete("web")
    world.reprotect()
    assert COPY not in files(world.east)
    assert "copy" not in {one.kind for one in world.east.ledger.made}
    lands(world)


def test_without_machine_and_disks_replicas_are_made_in_the_account(world: World) -> None:
    committed(world)
    world.east.compute.delete("web")
    for name in FILES.values():
        (world.east.pool / name).unlink()
    assert world.reprotect().way is Way.FULL
    lands(world)
    assert files(world.east) >= set(FILES.values())
    assert not any("ASRReplica" in name for name in files(world.east))


def test_the_recovery_sites_machine_goes_without_a_copy(world: World) -> None:
    committed(world)
    world.reprotect()
    lands(world)
    world.fail_over(planned=True)
    world.commit()
    world.reprotect(keep_machine=False)
    assert world.west.compute.state("web") is PowerState.ABSENT
    assert COPY not in files(world.west)
    lands(world)


def test_the_recovery_sites_machine_that_is_kept_has_one_too(world: World) -> None:
    committed(world)
    world.reprotect()
    lands(world)
    world.fail_over(planned=True)
    content = world.remembered()
    world.commit()
    world.reprotect(keep_machine=True)
    assert sources(world.west) == {"vda": str(world.west.pool / COPY)}
    same(read_image(world.west.pool / COPY, "qcow2"), content["web-vda"], "the copy")
    lands(world)
    _, other = world.disable()
    assert (files(world.west), other.left) == (set(), ())
    assert world.west.compute.state("web") is PowerState.ABSENT


def test_three_round_trips_leave_nothing_behind(world: World) -> None:
    first = dict(sources(world.east))
    for number in range(3):
        world.fail_over(planned=True)
        world.write("vda", 400 * KiB, bytes([65 + number]) * 500)
        world.commit()
        world.reprotect()
        lands(world)
        world.fail_over(planned=True)
        world.commit()
        world.reprotect(keep_machine=False)
        lands(world)
    assert {target: Path(p).parent.parent for target, p in sources(world.east).items()} == {
        target: Path(p).parent.parent for target, p in first.items()
    }
    assert {name for name in files(world.east) if "unsent" not in name} == set(FILES.values())
    world.disable()
    assert files(world.east) == set(FILES.values())
    assert files(world.west) == set()


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_the_copy_is_the_disk_through_all_its_layers(kind: str) -> None:
    """Several layers and the active one, in either format, with room taken for data only."""
    world = World(scratch(), formats={"vda": kind}, size=MiB, unmanaged=True)
    try:
        world.protect()
        world.replicate(2)
        for number in range(4):
            world.write("vda", number * 200 * KiB, bytes([65 + number]) * 3000)
            world.zero("vda", number * 100 * KiB, 8 * KiB)
            world.clock.pass_time(5)
            world.running.one_pass()
        world.write("vda", 900 * KiB, b"the last" * 100)
        expected = world.remembered()["web-vda"]
        world.fail_over()
        world.commit()
        world.reprotect()
        copy = world.east.pool / f"web-vda-OScopy.{kind}"
        same(read_image(copy, kind), expected, "the copy")
        assert copy.stat().st_blocks * 512 < MiB
        assert not list(world.east.pool.glob("*.partial"))
        assert not list(world.east.pool.glob("*.layer"))
    finally:
        shutil.rmtree(world.root)


def test_managed_disks_are_renamed_and_nothing_is_copied() -> None:
    world = World(scratch(), formats={"vda": "qcow2"}, size=MiB)
    try:
        world.protect()
        world.replicate(2)
        world.fail_over()
        world.commit()
        world.reprotect()
        assert files(world.east) == {"web-vda-ASRReplica.qcow2"}
    finally:
        shutil.rmtree(world.root)


# -- deaths --


def outcome(world: World) -> dict[str, Any]:
    host = world.east
    machine = host.compute.machines.get("web")
    copy = host.pool / COPY
    return {
        "files": {str(p.relative_to(host.pool)) for p in host.pool.rglob("*") if p.is_file()},
        "sources": sources(host) if machine else None,
        "note": host.compute.note("web") if machine else None,
        "copy": read_image(copy, "qcow2") if copy.exists() else None,
        "made": host.shelf.has(ITEM)
        and {(one.kind, one.name) for one in host.ledger.made if one.gone_at is None},
    }


Case = tuple[World, Callable[[], Any]]


def reprotecting() -> Case:
    world = new_world()
    committed(world)
    prepare, _ = world.reprotect_orders()
    return world, lambda: world.east.order(prepare)


def failing_back() -> Case:
    world = new_world()
    committed(world)
    world.reprotect()
    world.replicate(3)
    point = world.east.ledger.points[-1].position
    order = ops.Promote(
        item=ITEM,
        epoch=world.epoch + 1,
        position=point,
        machine="web",
        networks={"lan": "lan"},
        guest_timeout=0,
    )
    return world, lambda: world.east.order(order)


def releasing() -> Case:
    world = new_world()
    committed(world)
    world.reprotect()
    world.replicate(3)
    order = ops.Release(item=ITEM, epoch=world.epoch, owner=False)
    return world, lambda: world.east.order(order)


CASES = {"reprotect": reprotecting, "fail back": failing_back, "release": releasing}


@pytest.mark.parametrize("name", CASES)
def test_a_death_here_and_there(name: str) -> None:
    assert go_through(name, CASES[name], every=17, outcome=outcome)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CASES)
def test_a_death_at_every_effect(name: str) -> None:
    assert go_through(name, CASES[name], every=1, outcome=outcome)


def test_an_orders_ways_may_differ_from_disk_to_disk(world: World) -> None:
    """One disk compared, the other by its maps: both used in place."""
    committed(world)
    prepare, reverse = world.reprotect_orders()
    ways = {**prepare.ways, "web-vdb": Way.DIFFERENTIAL.value}
    world.east.order(replace(prepare, ways=ways))
    world.running.order(replace(reverse, ways=ways))
    world.assign_target()
    lands(world)
