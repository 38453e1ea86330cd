"""UEFI variables: which ones a point has, and where a machine booted from it has them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport.agent import source
from homeport.dataplane.pipeline import Control
from homeport.model.position import Position
from homeport.providers.compute import domain_xml
from homeport.units import KiB, MiB
from tests.crashes import CrashError, Mortal
from tests.integration.test_state_machine import scratch
from tests.world import ITEM, Host, World
from tests.worldchecks import check_files

pytestmark = pytest.mark.real


@pytest.fixture
def world() -> Iterator[World]:
    """`web` with UEFI firmware whose files are libvirt's choice, protected."""
    world = World(scratch(), formats={"vda": "qcow2"}, size=MiB)
    machine = world.east.compute.machines["web"]
    machine.persistent = machine.persistent.replace("<os>", "<os firmware='efi'>")
    machine.live = machine.persistent
    set_variables(world.east, b"first")
    world.protect()
    world.replicate(2)
    yield world
    shutil.rmtree(world.root)


def own(host: Host) -> Path:
    path = host.compute.variables(host.compute.describe("web"), name="web")
    assert path is not None
    return path


def set_variables(host: Host, content: bytes) -> None:
    own(host).write_bytes(content)


def taken(world: World) -> Position:
    """A point of this moment, not shipped."""
    world.write("vda", 8 * KiB, b"more" * 100)
    with world.running.shelf.claim(ITEM, Control()) as work:
        return source.capture(work)


def test_a_point_has_the_variables_of_its_moment_however_late_it_is_shipped(world: World) -> None:
    points = {}
    for content in (b"second", b"third"):
        set_variables(world.east, content)
        points[content] = taken(world)
    set_variables(world.east, b"after all")
    world.replicate(3)
    world.fail_over(points[b"third"])
    assert own(world.west).read_bytes() == b"third"
    world.change_point(points[b"second"])
    assert own(world.west).read_bytes() == b"second"
    world.change_point(points[b"third"])
    assert own(world.west).read_bytes() == b"third"


def test_a_point_that_was_being_taken_in_a_crash_has_its_own_too(world: World) -> None:
    whole = Mortal()
    with whole.living():
        taken(world)
    set_variables(world.east, b"second")
    with Mortal(whole.effects.index("rotate"), before=False).living(), pytest.raises(CrashError):
        taken(world)
    world.east.restart()
    set_variables(world.east, b"after the crash")
    intent = world.east.ledger.rotating
    assert intent is not None
    world.replicate(2)
    assert world.standby.ledger.points[-1].position > intent.position
    world.fail_over(intent.position)
    assert own(world.west).read_bytes() == b"second"


def test_what_a_point_was_like_is_kept_until_it_has_landed(world: World) -> None:
    point = taken(world)
    kept = world.east.shelf.peek(ITEM).folder / "taken" / point.key
    assert kept.exists()
    world.replicate(2)
    assert not kept.exists()


def test_a_round_trip_brings_them_home_into_the_users_own_file(world: World) -> None:
    home = own(world.east)
    set_variables(world.east, b"from east")
    world.fail_over(planned=True)
    away = own(world.west)
    assert (away.name, away.read_bytes()) == ("web_VARS.fd", b"from east")
    away.write_bytes(b"from west")
    world.commit()
    world.reprotect()
    world.replicate(3)
    world.fail_over(planned=True)
    assert (own(world.east), home.read_bytes()) == (home, b"from west")
    world.commit()
    world.reprotect(keep_machine=False)
    world.replicate(3)
    assert not away.exists()
    check_files(world.west)
    world.disable()
    root = domain_xml.parse(world.east.compute.machines["web"].persistent)
    assert domain_xml.nvram_path(root) is None, "the choice of the file is libvirt's again"
    assert home.read_bytes() == b"from west"
    assert [path for path in world.root.rglob("*.fd") if path != home] == []


def test_an_undone_failover_leaves_the_old_side_its_own(world: World) -> None:
    set_variables(world.east, b"newer than the point")
    before = world.remembered()
    world.fail_over()
    away = own(world.west)
    away.write_bytes(b"from west")
    world.undo(before)
    assert own(world.east).read_bytes() == b"newer than the point"
    assert not away.exists()


def test_a_file_that_the_definition_names_lies_beside_the_disks_there(world: World) -> None:
    machine = world.east.compute.machines["web"]
    home = world.root / "own.fd"
    home.write_bytes(b"named")
    named = f"<os firmware='efi'><nvram>{home}</nvram>"
    machine.persistent = machine.persistent.replace('<os firmware="efi">', named)
    assert own(world.east) == home
    world.replicate(2)
    world.fail_over(planned=True)
    assert own(world.west) == world.west.pool / "web.nvram.fd"
    assert own(world.west).read_bytes() == b"named"
