"""What an agent tells before a reprotect, of machines and pools that were changed from outside."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from homeport.agent.ledgers import LEDGER_FILE
from homeport.dataplane.qcow2 import read_map
from homeport.errors import RefusedError
from homeport.model.host import UnknownMachineError
from homeport.model.ids import DiskName
from homeport.model.machine import PowerState
from homeport.model.operations import AskFacts, Fence, Release, SideFacts
from homeport.model.planning import Way
from homeport.units import KiB, MiB
from tests.integration.test_elsewhere import fast, files_in, orders
from tests.integration.test_state_machine import scratch
from tests.machines import disk_xml, qcow2_file, raw_file
from tests.world import ITEM, Host, World

pytestmark = pytest.mark.real

DISKS = ("web-vda", "web-vdb")


@pytest.fixture
def world() -> Iterator[World]:
    world = World(scratch(), formats={"vda": "qcow2", "vdb": "raw"}, size=MiB)
    yield world
    shutil.rmtree(world.root)


@pytest.fixture
def committed(world: World) -> World:
    """Failed over to west; east holds the old disks."""
    world.write("vda", 0, b"seed" * 1000)
    world.protect()
    world.replicate(2)
    world.fail_over()
    world.commit()
    return world


@pytest.fixture
def mounted() -> Iterator[World]:
    """Protected, with east's pool a file system of its own."""
    root = scratch()
    pool = root / "east" / "pool"
    pool.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "homeport", pool], check=True)
    try:
        world = World(root, formats={"vda": "qcow2", "vdb": "raw"}, size=MiB)
        world.protect()
        yield world
    finally:
        if pool.is_mount():
            subprocess.run(["umount", pool], check=True)
        shutil.rmtree(root)


def told(host: Host, pool: str = "") -> SideFacts:
    facts = host.order(AskFacts(item=ITEM, pool=pool))
    assert isinstance(facts, SideFacts)
    return facts


def attach(host: Host, view: str, target: str, path: Path, extra: str = "") -> None:
    machine = host.compute.machines["web"]
    disk = disk_xml(target, path, device="disk", extra=extra)
    text = getattr(machine, view).replace("</devices>", f"{disk}</devices>")
    setattr(machine, view, text)


def detach(host: Host, view: str, target: str) -> None:
    machine = host.compute.machines["web"]
    root = ET.fromstring(getattr(machine, view))
    devices = root.find("devices")
    assert devices is not None
    for disk in devices.findall("disk"):
        if disk.find("target").get("dev") == target:  # type: ignore[union-attr]
            devices.remove(disk)
    setattr(machine, view, ET.tostring(root, encoding="unicode"))


class TestDisksNow:
    @pytest.fixture
    def extra(self, committed: World) -> Path:
        return raw_file(committed.root / "extra.raw", MiB)

    def test_both_sides_have_the_disks_they_had(self, committed: World) -> None:
        assert told(committed.running).disks_now == DISKS
        assert told(committed.standby).disks_now == DISKS

    def test_a_round_trip_later_they_are_still_called_so(self, committed: World) -> None:
        committed.reprotect()
        committed.replicate(3)
        committed.fail_over(planned=True)
        assert told(committed.running).disks_now == DISKS

    @pytest.mark.parametrize("views", [("persistent", "live"), ("persistent",), ("live",)], ids=str)
    def test_a_disk_attached_is_told_whichever_view_has_it(
        self, committed: World, extra: Path, views: tuple[str, ...]
    ) -> None:
        for view in views:
            attach(committed.west, view, "vdc", extra)
        assert told(committed.running).disks_now == ("extra", *DISKS)

    @pytest.mark.parametrize("views", [("persistent", "live"), ("persistent",), ("live",)], ids=str)
    def test_a_disk_detached_is_told_whichever_view_has_it_not(
        self, committed: World, views: tuple[str, ...]
    ) -> None:
        for view in views:
            detach(committed.west, view, "vdb")
        assert told(committed.running).disks_now == ("web-vda",)

    def test_a_medium_is_no_disk(self, committed: World, extra: Path) -> None:
        attach(committed.west, "persistent", "vdc", extra, "<readonly/>")
        attach(committed.west, "live", "vdc", extra, "<readonly/>")
        assert told(committed.running).disks_now == DISKS

    def test_of_a_machine_that_is_gone_there_is_nothing_to_tell(self, committed: World) -> None:
        committed.east.compute.delete("web")
        facts = told(committed.standby)
        assert (facts.machine_state, facts.disks_now) == (PowerState.ABSENT, None)
        with pytest.raises(UnknownMachineError):
            committed.east.compute.sources("web")

    def test_a_machine_that_is_off_has_those_of_its_definition(self, committed: World) -> None:
        committed.west.compute.stop("web", timeout=0)
        detach(committed.west, "persistent", "vda")
        assert told(committed.running).disks_now == ("web-vdb",)

    def test_what_cannot_be_replicated_any_more_is_a_problem_of_the_running_side(
        self, committed: World
    ) -> None:
        for host in (committed.running, committed.standby):
            machine = host.compute.machines["web"]
            text = machine.persistent.replace("<driver ", "<driver cache='unsafe' ")
            machine.persistent = text
        facts = told(committed.running)
        assert facts.disks_now is None
        assert [problem["code"] for problem in facts.problems] == ["UnsupportedMachine"]
        assert told(committed.standby).problems == ()


class TestWritten:
    def test_what_a_guest_has_not_flushed_is_not_told_as_nothing(self, committed: World) -> None:
        told_first = told(committed.running).written
        assert told_first == dict.fromkeys(DISKS, 0)
        top = committed.west.compute.sources("web").live["vda"]
        argv = ["qemu-io", "-t", "writeback", "-f", "qcow2", top]
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as qemu:
            assert qemu.stdin is not None
            assert qemu.stdout is not None
            qemu.stdin.write("write -P 1 0 64k\n")
            qemu.stdin.flush()
            assert "wrote 65536" in qemu.stdout.readline()
            assert read_map(Path(top)).changed.total == 0
            written = told(committed.running).written
            assert written[DISKS[0]] >= 64 * KiB
            assert written[DISKS[1]] == 0
            assert committed.plan().way is Way.EXACT
            qemu.stdin.close()
        assert told(committed.running).written == {DISKS[0]: 64 * KiB, DISKS[1]: 0}


class TestWhereNothingIs:
    def test_a_host_that_never_had_the_item_tells_its_pool(self, world: World) -> None:
        facts = told(world.west, "default")
        assert not facts.tracked
        assert (facts.pool, facts.pool_writable) == ("default", True)
        assert facts.pool_available > 0

    def test_an_emptied_pool_has_nothing_of_the_item_any_more(self, committed: World) -> None:
        shutil.rmtree(committed.east.pool / "homeport")
        facts = told(committed.standby, "default")
        assert (facts.tracked, facts.disks, facts.problems) == (False, (), ())
        assert facts.pool_writable

    def test_a_pool_that_is_not_mounted_is_not_taken_for_gone(self, committed: World) -> None:
        away = committed.east.pool.with_name("away")
        committed.east.pool.rename(away)
        try:
            facts = told(committed.standby, "default")
            assert [problem["code"] for problem in facts.problems] == ["ItemNotHere"]
            assert not facts.pool_writable
        finally:
            away.rename(committed.east.pool)
        assert told(committed.standby, "default").tracked

    def test_nor_one_whose_mount_point_is_there_and_empty(self, mounted: World) -> None:
        east = mounted.east
        assert told(east, "default").tracked
        subprocess.run(["umount", east.pool], check=True)
        assert list(east.pool.iterdir()) == []
        facts = told(east, "default")
        assert [problem["code"] for problem in facts.problems] == ["ItemNotHere"]
        with pytest.raises(RefusedError, match="no ledger"):
            east.order(Release(item=ITEM, epoch=mounted.epoch, owner=True))
        assert east.shelf.has(ITEM)
        east.compute.pools.pop("default")
        assert told(east, "westasr").problems == ()  # nobody waits for it any more

    def test_a_pool_that_was_removed_with_all_in_it_is_gone(self, committed: World) -> None:
        committed.east.compute.pools.pop("default")
        shutil.rmtree(committed.east.pool)
        facts = told(committed.standby, "westasr")
        assert (facts.tracked, facts.problems, facts.pool_writable) == (False, (), False)


def lose_ledger(host: Host) -> None:
    """All that says which files are the item's is gone; the files are not."""
    (item,) = host.shelf.items()
    (host.shelf.peek(item).folder / LEDGER_FILE).unlink()
    host.shelf.means.ledgers.forget(item)


class TestWhatIsInTheWay:
    """What the facts tell of names is what the order would refuse."""

    @staticmethod
    def told(world: World, pool: str, *, new: bool = False) -> tuple[set[str], str]:
        """What stands in a replica's way in the pool, from the facts; the order agrees."""
        definition = told(world.running).definition
        assert definition is not None
        ask = AskFacts(item=ITEM, pool=pool, new_pool=new, name="web", definition=definition)
        facts = world.standby.order(ask)
        prepare, _ = orders(world, pool, new_pool=new)
        if facts.taken or facts.stranger:
            before = files_in(world.standby.pool)
            with pytest.raises(RefusedError) as refused:
                world.standby.order(prepare)
            assert refused.value.code == "NameTaken"
            assert files_in(world.standby.pool) == before
        else:
            world.standby.order(prepare)
        return {Path(path).name for path in facts.taken}, facts.stranger

    def test_disks_whose_ledger_is_lost(self, committed: World) -> None:
        lose_ledger(committed.east)
        assert self.told(committed, "default") == ({"web-vda.qcow2", "web-vdb.raw"}, "")

    @pytest.mark.parametrize(
        "lose", [Path.unlink, lambda path: path.write_bytes(b"{")], ids=["lost", "cut"]
    )
    def test_also_where_the_index_knows_of_it(
        self, committed: World, lose: Callable[[Path], object]
    ) -> None:
        lose(committed.east.shelf.peek(ITEM).folder / LEDGER_FILE)
        committed.east.restart()
        assert self.told(committed, "default") == ({"web-vda.qcow2", "web-vdb.raw"}, "")

    def test_a_replicas_name(self, committed: World) -> None:
        lose_ledger(committed.east)
        pool = committed.east.pool
        (pool / "web-vda.qcow2").rename(pool / "web-vda-ASRReplica.qcow2")
        assert self.told(committed, "default")[0] == {"web-vda-ASRReplica.qcow2", "web-vdb.raw"}

    def test_another_pool_is_free(self, committed: World) -> None:
        lose_ledger(committed.east)
        fast(committed)
        assert self.told(committed, "fast") == (set(), "")

    def test_the_items_own_pool_is_free_while_its_ledger_is_there(self, committed: World) -> None:
        assert self.told(committed, "default") == (set(), "")

    def test_a_file_in_the_pool_that_the_item_moves_to(self, committed: World) -> None:
        (fast(committed) / "web-vdb.raw").write_bytes(b"theirs")
        assert self.told(committed, "fast") == ({"web-vdb.raw"}, "")

    def test_a_file_where_the_folder_would_be(self, committed: World) -> None:
        (fast(committed) / "homeport").write_bytes(b"theirs")
        assert self.told(committed, "fast") == ({"homeport"}, "")

    def test_a_folder_where_a_pool_would_be_made(self, committed: World) -> None:
        lose_ledger(committed.east)
        taken = committed.east.pool.with_name("westasr")
        taken.mkdir()
        (taken / "theirs").write_bytes(b"x")
        assert self.told(committed, "westasr", new=True) == ({"westasr"}, "")

    @pytest.mark.parametrize("lost", [True, False], ids=["ledger lost", "ledger there"])
    def test_a_machine_of_another_kind(self, committed: World, lost: bool) -> None:
        fast(committed)
        if lost:
            lose_ledger(committed.east)
        machine = committed.east.compute.machines["web"]
        committed.east.compute.set_note("web", None)
        uuid = told(committed.running).definition.uuid  # type: ignore[union-attr]
        machine.persistent = machine.persistent.replace(uuid, uuid[::-1])
        assert self.told(committed, "fast") == (set(), "web")

    def test_the_items_own_machine_is_told_without_its_ledger_too(self, committed: World) -> None:
        committed.east.order(Fence(item=ITEM, epoch=committed.epoch, lock="lock"))
        lose_ledger(committed.east)
        definition = told(committed.running).definition
        facts = committed.east.order(
            AskFacts(item=ITEM, pool="x", name="web", definition=definition)
        )
        assert (facts.machine_state, facts.lock, facts.stranger) == (PowerState.OFF, "lock", "")
        assert not facts.tracked


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "no image": lambda path: path.write_bytes(b"x" * 1000),
}


@pytest.mark.parametrize("spoil", UNREADABLE.values(), ids=UNREADABLE)
def test_a_disk_there_and_unreadable_is_told_with_the_reason(
    committed: World, spoil: Callable[[Path], object]
) -> None:
    spoil(committed.east.pool / "web-vda.qcow2")
    facts = {disk.disk: disk for disk in told(committed.standby).disks}
    spoiled = facts[DiskName("web-vda")]
    assert (spoiled.exists, spoiled.readable) == (True, False)
    assert spoiled.reason
    assert facts[DiskName("web-vdb")].readable


def test_a_new_disk_of_a_known_name_is_told_from_it(committed: World) -> None:
    other = committed.root / "elsewhere"
    other.mkdir()
    attach(committed.west, "live", "vdc", qcow2_file(other / "web-vda.qcow2", MiB))
    assert told(committed.running).disks_now == ("web-vda", "web-vda-vdc", "web-vdb")
