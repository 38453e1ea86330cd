"""A disk that was made longer while nothing was replicated, and the full copy after that."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from homeport.agent import target
from homeport.model.ids import DiskName
from homeport.model.planning import Way
from homeport.units import KiB, MiB
from tests.integration.test_state_machine import scratch
from tests.world import ITEM, World

pytestmark = pytest.mark.real


@pytest.fixture(params=["with data", "empty"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Failed over and committed; `vda` is qcow2 and `vdb` raw."""
    world = World(scratch(), formats={"vda": "qcow2", "vdb": "raw"}, size=MiB)
    world.protect()
    world.replicate(2)
    world.fail_over()
    world.commit()
    if request.param == "with data":
        for dev in ("vda", "vdb"):
            world.write(dev, 8 * KiB, b"written away from home" * 100)
    yield world
    shutil.rmtree(world.root)


def grow(world: World, dev: str, more: int = 4 * KiB) -> None:
    world.truth[dev].extend(bytes(more))
    world.running.compute.resize("web", dev, len(world.truth[dev]))


def arrives(world: World) -> None:
    world.replicate(3)
    position = world.standby.ledger.stands_at
    assert position is not None
    for disk, content in world.remembered().items():
        assert world.standby.bytes_of(position, disk) == content, disk


@pytest.mark.parametrize("grown", [("vda",), ("vdb",), ("vda", "vdb")], ids="+".join)
def test_a_full_copy_takes_the_size_it_has_now(world: World, grown: tuple[str, ...]) -> None:
    prepare, reverse = world.reprotect_orders(way=Way.FULL)
    for dev in grown:  # after the review, when the old side has been told another size
        grow(world, dev)
    world.standby.order(prepare)
    world.running.order(reverse)
    world.assign_target()
    arrives(world)


def test_what_an_attempt_has_begun_is_begun_anew(world: World) -> None:
    """It was cut short with its bases made and nothing recorded; then the disks grew."""
    world.reprotect(way=Way.FULL)
    held = world.standby.shelf.peek(ITEM)
    for chain in held.ledger.disks:
        assert not held.path(chain.base).exists()
        held.path(chain.base).write_bytes(bytes(MiB))
    for dev in ("vda", "vdb"):
        grow(world, dev)
    world.reprotect(way=Way.FULL)
    arrives(world)


def test_parts_of_an_attempt_that_have_landed_are_landed_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next attempt's bases are opened with what the first has left, should they be there."""
    world.write("vdb", 0, b"a part at least")
    world.reprotect(way=Way.FULL)
    with monkeypatch.context() as early:
        early.setattr(target, "land_all", lambda _work: None)  # killed before the manifest
        world.replicate(1)
    held = world.standby.shelf.peek(ITEM)
    assert list(held.folder.glob("seed-landed-web-vdb-*"))
    kept = held.path(held.ledger.chain(DiskName("web-vdb")).base).read_bytes()
    assert kept.startswith(b"a part at least")
    grow(world, "vdb")
    prepare, reverse = world.reprotect_orders(way=Way.FULL)
    world.standby.order(prepare)
    held.path(held.ledger.chain(DiskName("web-vdb")).base).write_bytes(kept)
    world.running.order(reverse)
    world.assign_target()
    arrives(world)
    assert not list(held.folder.glob("seed-*"))
