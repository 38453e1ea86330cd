"""Deleting a machine of the user's own: which files stay, and which go when that is asked."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homeport.agent.ledgers import LEDGER_FILE
from homeport.agent.shelf import Shelf
from homeport.errors import RefusedError
from homeport.model.machine import PowerState
from homeport.model.machine_orders import DeletedMachine, DeleteMachine
from homeport.units import MiB
from tests.integration.test_state_machine import scratch
from tests.machines import disk_xml, machine_xml, overlay, qcow2_file, raw_file
from tests.world import ITEM, World

pytestmark = pytest.mark.real

UUIDS = ("0" * 31 + "{}").format
OWN, OTHER = "own", "other"


@pytest.fixture
def world() -> Iterator[World]:
    """East has an item's machine `web`, and `own` with two disks, which runs."""
    world = World(scratch(), formats={"vda": "qcow2"}, size=MiB)
    world.protect()
    raw_file(world.east.pool / "own-vda.raw", MiB)
    qcow2_file(world.east.pool / "own-vdb.qcow2", MiB)
    define(world, OWN, vda="own-vda.raw", vdb="own-vdb.qcow2")
    world.east.compute.start(OWN)
    yield world
    shutil.rmtree(world.root)


def define(world: World, name: str, extra: str = "", **disks: str) -> None:
    lines = [
        disk_xml(target, world.east.pool / file, format=file.rpartition(".")[2], extra=extra)
        for target, file in disks.items()
    ]
    world.east.compute.define(machine_xml(*lines, name=name, uuid=UUIDS(len(name))))


def delete(world: World, *, disks: bool) -> tuple[set[str], dict[str, str]]:
    """What went, and what stayed with the reason; the machine is gone, and all is as it is told."""
    told = world.east.order(DeleteMachine(name=OWN, disks=disks))
    assert isinstance(told, DeletedMachine)
    assert told.kept is not None
    assert world.east.compute.state(OWN) is PowerState.ABSENT
    assert not any(Path(path).exists() for path in told.removed)
    assert all(Path(path).exists() for path in told.kept)
    names = {Path(path).name for path in told.removed}
    return names, {Path(path).name: reason for path, reason in told.kept.items()}


def test_its_disks_stay(world: World) -> None:
    assert delete(world, disks=False) == (set(), {"own-vda.raw": "", "own-vdb.qcow2": ""})


def test_its_disks_go_when_that_is_asked(world: World) -> None:
    others = set(world.east.pool.rglob("*")) - set(world.east.pool.glob("own-*"))
    assert delete(world, disks=True) == ({"own-vda.raw", "own-vdb.qcow2"}, {})
    assert set(world.east.pool.rglob("*")) == others


def shared_with_another(world: World) -> str:
    define(world, OTHER, vdc="own-vda.raw")
    return "the machine other has it too"


def below_another(world: World) -> str:
    folder = world.root / "elsewhere"
    folder.mkdir()
    top = overlay(folder / "top.qcow2", world.east.pool / "own-vda.raw", "raw", MiB)
    middle = overlay(folder / "middle.qcow2", top, "qcow2", MiB)
    lines = disk_xml("vda", middle, format="qcow2")
    world.east.compute.define(machine_xml(lines, name=OTHER, uuid=UUIDS(7)))
    return "the machine other has it too"


def below_an_image_beside_it(world: World) -> str:
    above = overlay(world.east.pool / "snap.qcow2", world.east.pool / "own-vda.raw", "raw", MiB)
    return f"{above} stands on it"


def below_a_layer_without_a_ledger(world: World) -> str:
    folder = world.east.pool / "homeport" / "gone.00000000"
    folder.mkdir()
    above = overlay(folder / "layer", world.east.pool / "own-vda.raw", "raw", MiB)
    return f"{above} stands on it"


def a_link(world: World) -> str:
    path = world.east.pool / "own-vda.raw"
    path.rename(world.root / "real.raw")
    path.symlink_to(world.root / "real.raw")
    return "it is not a file"


@pytest.mark.parametrize(
    "needs",
    [
        shared_with_another,
        below_another,
        below_an_image_beside_it,
        below_a_layer_without_a_ledger,
        a_link,
    ],
)
def test_what_is_needed_stays_although_asked(world: World, needs: Callable[[World], str]) -> None:
    reason = needs(world)
    assert delete(world, disks=True) == ({"own-vdb.qcow2"}, {"own-vda.raw": reason})


def test_a_disk_that_the_items_disk_is_too_stays(world: World) -> None:
    define(world, OWN, vda="web-vda.qcow2", vdb="own-vdb.qcow2")
    kept = {"web-vda.qcow2": "the item web has it too"}
    assert delete(world, disks=True) == ({"own-vdb.qcow2"}, kept)


@pytest.mark.parametrize("mark", ["<readonly/>", "<shareable/>"])
def test_what_is_read_only_or_shared_stays(world: World, mark: str) -> None:
    define(world, OWN, mark, vda="own-vda.raw")
    removed, kept = delete(world, disks=True)
    assert removed == set()
    assert "read-only" in kept["own-vda.raw"]


def test_with_a_ledger_that_cannot_be_read_nothing_goes(world: World) -> None:
    (world.east.shelf.peek(ITEM).folder / LEDGER_FILE).write_text("{")
    world.east.shelf = Shelf(world.east.shelf.means)
    removed, kept = delete(world, disks=True)
    assert removed == set()
    assert all("can be read" in reason for reason in kept.values())


def test_a_machine_of_an_item_is_refused_with_its_disks_too(world: World) -> None:
    with pytest.raises(RefusedError) as refused:
        world.east.order(DeleteMachine(name="web", disks=True))
    assert refused.value.code == "MachineLocked"
    assert (world.east.pool / "web-vda.qcow2").exists()


def test_a_machine_that_cannot_be_undefined_keeps_its_disks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_machine: str) -> None:
        raise RefusedError("no", code="Saved", remedy="x")

    monkeypatch.setattr(world.east.compute, "delete", refuses)
    with pytest.raises(RefusedError, match="no"):
        world.east.order(DeleteMachine(name=OWN, disks=True))
    assert len(list(world.east.pool.glob("own-*"))) == 2
