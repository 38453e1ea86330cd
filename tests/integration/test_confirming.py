"""After a host's boot: nothing starts that the server has not confirmed, and then what should."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homeport.agent.confirming import after_boot, confirm, is_start_due, owned, start_again
from homeport.dataplane.pipeline import Control
from homeport.model import operations as ops
from homeport.model.ids import VaultId
from homeport.model.item import Role
from homeport.model.machine import PowerState
from homeport.model.messages import Assignment
from homeport.units import MiB
from tests.integration.test_state_machine import scratch
from tests.world import ITEM, Host, World

pytestmark = pytest.mark.real


@pytest.fixture
def world() -> Iterator[World]:
    world = World(scratch(), formats={"vda": "raw"}, size=MiB)
    for host in (world.east, world.west):
        host.confirmed = world.root / host.name / "run"
        host.restart()
    yield world
    shutil.rmtree(world.root)


def marks(host: Host) -> list[str]:
    assert host.confirmed is not None
    return [path.name for path in host.confirmed.glob("*")]


def boot(host: Host) -> None:
    """The host's power was cut: what is in memory is gone, machines and marks."""
    for name in host.compute.machines:
        host.compute.stop(name, timeout=0)
    shutil.rmtree(Path(str(host.confirmed)))
    host.restart()


def assignment(world: World, role: Role, **changes: Any) -> Assignment:
    facts: dict[str, Any] = {
        "item": ITEM,
        "name": "web",
        "vault": VaultId("vault-1"),
        "role": role,
        "epoch": world.epoch,
        "policy": world.policy,
        "cache": world.east.cache,
    }
    return Assignment(**{**facts, **changes})


def started(host: Host) -> bool:
    """What the agent does when the server has confirmed the item."""
    after_boot(host.shelf.means, ITEM)
    assert is_start_due(host.shelf.means, ITEM)
    with host.shelf.claim(ITEM, Control()) as work:
        found = start_again(work)
    assert not is_start_due(host.shelf.means, ITEM)
    return found


def protected(world: World, *, autostart: bool = True) -> World:
    world.east.compute.set_autostart("web", on=autostart)
    world.protect()
    world.replicate(2)
    return world


def test_a_side_that_owns_a_machine_has_its_mark_and_no_other(world: World) -> None:
    protected(world)
    assert (marks(world.east), marks(world.west)) == ([ITEM], [])
    world.fail_over()
    assert (marks(world.east), marks(world.west)) == ([], [ITEM])
    world.undo(world.remembered())
    assert marks(world.east) == [ITEM]


def test_the_notes_of_machines_that_may_run_ask_for_it(world: World) -> None:
    protected(world)
    for host in (world.east, world.west):
        note = host.compute.note("web") if host.compute.machines else None
        assert note is None or (note.confirm and note.may_start)
    world.fail_over()
    note = world.west.compute.note("web")
    assert note is not None
    assert note.confirm


def test_a_release_takes_it_away(world: World) -> None:
    protected(world)
    world.disable()
    assert (marks(world.east), marks(world.west)) == ([], [])


@pytest.mark.parametrize("autostart", [True, False])
def test_after_a_boot_it_starts_if_the_user_had_it_so(world: World, autostart: bool) -> None:
    protected(world, autostart=autostart)
    boot(world.east)
    assert marks(world.east) == []
    assert started(world.east) is autostart
    here = world.east.compute.state("web")
    assert here is (PowerState.RUNNING if autostart else PowerState.OFF)
    after_boot(world.east.shelf.means, ITEM)
    assert not is_start_due(world.east.shelf.means, ITEM), "once a boot"


def test_one_that_is_confirmed_for_the_first_time_stays_as_it_is(world: World) -> None:
    protected(world)
    world.east.assign(confirmed=False)
    boot(world.east)
    assert not started(world.east)
    assert world.east.compute.state("web") is PowerState.OFF
    boot(world.east)
    assert started(world.east)


def test_one_that_runs_already_is_left(world: World) -> None:
    protected(world)
    boot(world.east)
    world.east.compute.start("web")
    assert not started(world.east)


def test_the_servers_word_counts_where_it_is_not_older_than_the_ledger(world: World) -> None:
    protected(world)
    ledger = world.east.ledger
    assert owned(ledger, assignment(world, Role.SOURCE))
    assert owned(ledger, assignment(world, Role.SOURCE, epoch=world.epoch + 1))
    assert not owned(ledger, assignment(world, Role.SOURCE, epoch=world.epoch - 1))
    assert not owned(ledger, assignment(world, Role.FENCED, epoch=world.epoch + 1))
    assert not owned(world.west.ledger, assignment(world, Role.SOURCE))
    world.east.order(ops.Fence(item=ITEM, epoch=world.epoch + 1))
    assert not owned(world.east.ledger, assignment(world, Role.SOURCE, epoch=world.epoch + 1))


def test_without_a_folder_for_marks_none_is_put(world: World) -> None:
    world.east.confirmed = None
    world.east.restart()
    protected(world)
    assert not confirm(world.east.shelf.means, ITEM)
    after_boot(world.east.shelf.means, ITEM)
    assert not is_start_due(world.east.shelf.means, ITEM)
