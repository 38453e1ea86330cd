"""Files of a fenced machine that nobody may change, and that no crash leaves so for ever."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from homeport.agent import immutable
from homeport.agent.ledgers import UnknownItemError
from homeport.dataplane import flags
from homeport.model import operations as ops
from homeport.model.item import Role
from homeport.model.machine import PowerState
from homeport.model.planning import Way
from homeport.units import KiB, MiB
from tests.crashes import CrashError, Mortal
from tests.world import ITEM, Host, World
from tests.worldchecks import check_files, check_images, check_running

pytestmark = pytest.mark.real


def keeps_flags(folder: Path) -> bool:
    path = folder / "probe"
    path.touch()
    try:
        return flags.set_immutable(path, on=True)
    finally:
        flags.set_immutable(path, on=False)
        path.unlink()


@pytest.fixture
def world() -> Iterator[World]:
    """On a file system with flags: the temporary folder's, or memory."""
    places = [Path(tempfile.mkdtemp(dir=place)) for place in (None, "/dev/shm")]
    root = next(place for place in places if keeps_flags(place))
    world = World(root, formats={"vda": "qcow2", "vdb": "raw"}, size=MiB)
    for host in (world.east, world.west):
        host.immutable = True
        host.restart()
    yield world
    for path in root.rglob("*"):
        flags.set_immutable(path, on=False)
    for place in places:
        shutil.rmtree(place)


def with_layers(world: World) -> World:
    """Protected, and a source with a base, layers that are not landed, and an active overlay."""
    world.write("vda", 0, b"seed" * 1000)
    world.protect()
    world.replicate(2)
    for number in range(2):
        world.write("vdb", number * 20 * KiB, bytes([number + 1]) * 9000)
        world.clock.pass_time(5)
        world.east.one_pass()
    world.write("vda", 300 * KiB, b"never sent" * 100)
    return world


def fenced(world: World) -> World:
    with_layers(world).fail_over()
    return world


def flagged(host: Host) -> set[Path]:
    return {path for path in host.pool.rglob("*") if path.is_file() and flags.is_immutable(path)}


def at_rest(host: Host) -> set[Path]:
    held = host.shelf.peek(ITEM)
    chains = held.ledger.disks
    return {held.path(name) for one in chains for name in one.names if name != one.active}


def check_invariant(host: Host) -> None:
    """No file has a flag that the ledger does not know."""
    known: set[Path] = set()
    with suppress(UnknownItemError):
        held = host.shelf.peek(ITEM)
        known = {held.path(name) for name in held.ledger.immutable}
    assert flagged(host) <= known


class TestFenced:
    def test_base_and_layers_are_immutable_and_the_overlays_are_not(self, world: World) -> None:
        fenced(world)
        assert len(at_rest(world.east)) > 2
        assert flagged(world.east) == at_rest(world.east)
        assert not flagged(world.west)

    @pytest.mark.parametrize("do", [os.unlink, lambda p: os.truncate(p, 0), lambda p: p.open("ab")])
    def test_root_cannot_change_them(self, world: World, do: Callable[[Path], Any]) -> None:
        fenced(world)
        for path in at_rest(world.east):
            with pytest.raises(PermissionError):
                do(path)

    def test_what_they_hold_counts_as_untouched(self, world: World) -> None:
        fenced(world)
        told = world.east.order(ops.AskFacts(item=ITEM))
        assert all(disk.untouched and disk.readable for disk in told.disks)

    def test_flags_taken_away_by_hand_come_back(self, world: World) -> None:
        fenced(world)
        for path in at_rest(world.east):
            flags.set_immutable(path, on=False)
        world.east.guard()
        assert flagged(world.east) == at_rest(world.east)

    def test_a_file_system_without_them_is_told_of_once(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(flags, "set_immutable", lambda path, *, on: False)
        fenced(world)
        assert world.east.guard() == ["flags"]
        assert world.east.guard() == []
        assert not flagged(world.east)

    def test_switched_off_by_the_settings_nothing_is_immutable(self, world: World) -> None:
        world.east.immutable = False
        world.east.restart()
        fenced(world)
        assert not flagged(world.east)
        world.east.guard()
        assert not flagged(world.east)


class TestLifted:
    def test_by_an_undo(self, world: World) -> None:
        with_layers(world)
        truth = world.remembered()
        world.fail_over()
        world.undo(truth)
        assert not flagged(world.east)
        assert world.east.ledger.immutable == ()
        world.write("vda", 0, b"again" * 1000)
        world.replicate(3)
        check_running(world.east, world.remembered())

    @pytest.mark.parametrize("way", [None, Way.DIFFERENTIAL, Way.FULL])
    def test_by_a_reprotect_which_leads_home(self, world: World, way: Way | None) -> None:
        fenced(world)
        world.write("vda", 0, b"west" * 1000)
        world.commit()
        world.reprotect(way=way)
        assert not flagged(world.east)
        world.replicate(3)
        world.fail_over(planned=True)
        assert flagged(world.west) == at_rest(world.west)
        check_running(world.east, world.remembered())

    def test_by_a_release(self, world: World) -> None:
        fenced(world)
        world.commit()
        world.disable()
        assert not flagged(world.east)
        assert not (world.east.pool / "homeport").exists()

    def test_though_the_ledger_that_knew_of_them_was_lost(self, world: World) -> None:
        fenced(world).commit()
        world.east.assign(immutable=())
        assert flagged(world.east)
        world.reprotect()
        assert not flagged(world.east)

    def test_a_flag_left_in_another_role_goes(self, world: World) -> None:
        fenced(world)
        world.east.assign(role=Role.SOURCE)
        world.east.restart()
        assert "flags" in world.east.guard()
        assert not flagged(world.east)


def unfencing(world: World) -> list[tuple[Host, Any]]:
    return [(world.east, ops.Unfence(item=ITEM, epoch=world.epoch + 1, start=False))]


def fencing(world: World) -> list[tuple[Host, Any]]:
    return [(world.east, ops.Fence(item=ITEM, epoch=world.epoch + 1, lock="lock"))]


def preparing(world: World) -> list[tuple[Host, Any]]:
    return [(world.east, world.reprotect_orders()[0])]


def preparing_anew(world: World) -> list[tuple[Host, Any]]:
    return [(world.east, world.reprotect_orders(way=Way.FULL)[0])]


def releasing(world: World) -> list[tuple[Host, Any]]:
    return [(world.east, ops.Release(item=ITEM, epoch=world.epoch, owner=False))]


def committed(world: World) -> World:
    fenced(world).commit()
    return world


CASES: dict[str, tuple[Callable[[World], World], Callable[[World], Any]]] = {
    "fence": (with_layers, fencing),
    "unfence": (fenced, unfencing),
    "prepare-replica": (committed, preparing),
    "prepare-replica by a full copy": (committed, preparing_anew),
    "release": (committed, releasing),
}


@pytest.mark.parametrize(("begin", "given"), CASES.values(), ids=CASES)
def test_no_death_leaves_an_unknown_flag_or_a_file_that_cannot_be_used(
    world: World, begin: Callable[[World], World], given: Callable[[World], Any]
) -> None:
    """Dies at one effect after the other of the same order, the guard at work between the lives."""
    begin(world)
    orders = given(world)
    deaths = 0
    for effect in range(60):
        with suppress(CrashError), Mortal(effect % 11, before=effect % 2 == 0).living():
            for host, order in orders:
                host.order(order)
            break
        deaths += 1
        world.east.restart()
        check_invariant(world.east)
        with suppress(CrashError), Mortal(effect % 3).living():
            world.east.guard()
        world.east.restart()
        check_invariant(world.east)
    for host, order in orders:
        host.order(order)
    assert deaths > 3
    world.east.guard()
    if not world.east.shelf.has(ITEM):
        assert not flagged(world.east)
        return
    expected = at_rest(world.east) if world.east.ledger.role is Role.FENCED else set()
    assert flagged(world.east) == expected
    check_files(world.east)
    check_images(world.east)
    assert world.east.compute.state("web") in {PowerState.OFF, PowerState.RUNNING}


def test_at_rest_is_nothing_but_of_a_fenced_item(world: World) -> None:
    with_layers(world)
    assert immutable.at_rest(world.east.ledger) == ()
    assert immutable.at_rest(world.west.ledger) == ()
    world.fail_over()
    assert immutable.at_rest(world.west.ledger) == ()
    assert immutable.at_rest(world.east.ledger)
