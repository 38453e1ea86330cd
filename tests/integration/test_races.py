"""What the guard, a person and an operation do to one item in each other's gaps."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homeport.agent.held import HeldItem
from homeport.agent.reporting import report_item
from homeport.dataplane import flags
from homeport.errors import RefusedError
from homeport.model import operations as ops
from homeport.model.ledger import ItemLedger
from homeport.model.machine import PowerState
from tests.integration.test_elsewhere import release, reprotect
from tests.integration.test_immutable import world
from tests.servers_libvirt import wait_until
from tests.world import ITEM, Host, World
from tests.worldchecks import check_running

__all__ = ["world"]
pytestmark = pytest.mark.real


def committed(world: World) -> World:
    world.write("vda", 0, b"seed" * 1000)
    world.protect()
    world.replicate(2)
    world.fail_over()
    world.commit()
    return world


def pool(world: World, name: str) -> None:
    world.east.compute.make_pool(name, world.root / name)


def guarded_at_every_gap(host: Host, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The guard comes by whenever another ledger has just become the item's."""
    add, rounds = host.shelf.add, []

    def added(*given: Any) -> Any:
        held = add(*given)
        rounds.append(host.guard())
        return held

    monkeypatch.setattr(host.shelf, "add", added)
    return rounds


def test_disks_that_are_left_again_can_be_removed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(world)
    pool(world, "second")
    pool(world, "third")
    reprotect(world, "second")
    rounds = guarded_at_every_gap(world.east, monkeypatch)
    reprotect(world, "third")
    assert ["flags"] in rounds, "the guard made the old disks immutable in between"
    assert not [path for path in world.root.rglob("*") if flags.is_immutable(path)]
    world.replicate(3)
    release(world, world.east)
    assert not (world.east.pool / "homeport").exists()


def test_a_start_that_waited_for_a_fence_is_refused(world: World) -> None:
    world.protect()
    world.replicate(2)
    world.east.compute._hooks = False  # libvirtd has not read them yet
    world.east.compute.stop("web", timeout=0)
    refused: list[RefusedError] = []

    def starts() -> None:
        try:
            world.east.order(ops.MachineName(name="web"), "start-machine")
        except RefusedError as error:
            refused.append(error)

    person = threading.Thread(target=starts)
    held = world.east.shelf.peek(ITEM)
    with held.lock:
        person.start()
        wait_until(lambda: world.east.shelf._claimed(ITEM))
        world.east.order(ops.Fence(item=ITEM, epoch=2))
    person.join()
    assert world.east.compute.state("web") is PowerState.OFF
    assert [error.code for error in refused] == ["MachineLocked"]


def test_a_failback_that_is_undone_leaves_the_users_own_machine(world: World) -> None:
    committed(world)
    world.reprotect()
    world.replicate(2)
    own = world.east.ledger.definition.uuid
    before = world.remembered()
    world.fail_over(planned=True)
    world.write("vda", 9000, b"undone" * 100)
    world.undo(before)
    note = world.east.compute.note("web")
    assert note is not None
    assert (world.east.compute.state("web"), note.may_start) == (PowerState.OFF, False)
    assert world.east.guard() == []
    world.write("vda", 70000, b"west goes on" * 100)
    world.replicate(2)
    truth = world.remembered()
    world.fail_over(planned=True)
    check_running(world.east, truth)
    assert world.east.compute.machines["web"].facts().uuid == own


def test_what_was_not_kept_goes_again_with_an_undo(world: World) -> None:
    committed(world)
    world.reprotect(keep_machine=False)
    world.replicate(2)
    before = world.remembered()
    world.fail_over(planned=True)
    world.undo(before)
    assert world.east.compute.state("web") is PowerState.ABSENT
    assert world.east.guard() == []


class Hurried(HeldItem):
    """An item that another thread changes after so many looks at its ledger."""

    def __init__(self, folder: Path, looks: int, before: ItemLedger, after: ItemLedger) -> None:
        self.looks = itertools.chain(itertools.repeat(before, looks), itertools.repeat(after))
        super().__init__(folder, before)

    @property
    def ledger(self) -> ItemLedger:
        return next(self.looks)

    @ledger.setter
    def ledger(self, _ledger: ItemLedger) -> None:
        pass


def test_a_report_is_of_one_moment(world: World) -> None:
    world.protect()
    world.replicate(3)
    host = world.west
    held, before = host.shelf.peek(ITEM), host.ledger
    after = replace(
        before,
        points=before.points[:-1],
        disks=tuple(replace(chain, layers=chain.layers[:-1]) for chain in before.disks),
    )
    for looks in range(8):
        host.shelf._held[ITEM] = Hurried(held.folder, looks, before, after)
        told = [point.position for point in report_item(host.shelf, ITEM).points]
        assert told in ([one.position for one in ledger.points] for ledger in (before, after))


def test_the_guard_tells_of_nothing_it_saw_before_a_fence(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.protect()
    world.replicate(2)
    seen = world.east.compute.inventory()
    world.east.order(ops.Fence(item=ITEM, epoch=2))
    stale = iter([seen])
    fresh = world.east.compute.inventory
    monkeypatch.setattr(world.east.compute, "inventory", lambda: next(stale, None) or fresh())
    world.east.guard()
    assert report_item(world.east.shelf, ITEM).problem is None


@pytest.mark.parametrize("life", ["the same", "another"])
@pytest.mark.parametrize("linked", [False, True])
def test_nothing_is_done_for_an_item_whose_pool_is_away(
    world: World, linked: bool, life: str
) -> None:
    """Also by a process that has its ledger in memory, and where the pool is named by a link."""
    pool = world.east.pool
    committed(world)
    prepare, _ = world.reprotect_orders()
    if linked:
        link = pool.with_name("link")
        link.symlink_to(pool)
        world.east.compute.pools["default"] = link
    away = pool.rename(pool.with_name("away"))
    if life == "another":
        world.east.restart()
    for order in (ops.Release(item=ITEM, epoch=world.epoch, owner=False), prepare):
        with pytest.raises(RefusedError) as refused:
            world.east.order(order)
        assert refused.value.code == "ItemNotHere"
        assert world.east.shelf.has(ITEM)
        assert not pool.exists()
    away.rename(pool)
    world.disable()
    assert {path.name for path in pool.iterdir()} == {"web-vda.qcow2", "web-vdb.raw"}


def test_what_was_put_right_is_not_shown_for_as_long_as_a_clock_was_wrong(world: World) -> None:
    world.protect()
    world.clock.pass_time(30 * 86400)
    del world.east.compute.machines["web"]
    world.east.guard()
    assert report_item(world.east.shelf, ITEM).problem is not None
    world.clock.pass_time(-30 * 86400)
    assert report_item(world.east.shelf, ITEM).problem is None
