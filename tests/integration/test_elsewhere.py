"""
Replicas in another pool than the old disks', in one that is made, and networks that are made.

What was made is in the ledger before it is, goes with the item, and stays where somebody else uses
it; the old disks are left as they are, byte by byte and name by name.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homeport.agent.definitions import KEPT_FILE
from homeport.agent.ledgers import LEDGER_FILE
from homeport.agent.moving import LEFT_FILE
from homeport.agent.oddities import WORDS
from homeport.dataplane.pipeline import Control
from homeport.errors import RefusedError
from homeport.model import operations as ops
from homeport.model.item import Role
from homeport.model.machine import PowerState
from homeport.model.planning import Way
from homeport.units import KiB, MiB
from tests.integration.test_agent_crashes import Stage, go_through
from tests.integration.test_state_machine import scratch
from tests.machines import NIC, machine_xml
from tests.world import ITEM, VAULT, Host, World, read_image
from tests.worldchecks import check_running, same

pytestmark = pytest.mark.real

FILES = {"web-vda": "web-vda.qcow2", "web-vdb": "web-vdb.raw"}


@pytest.fixture
def world() -> Iterator[World]:
    world = committed()
    yield world
    shutil.rmtree(world.root)


def committed() -> World:
    """Failed over to west with writes in east that never arrived; committed; west went on."""
    world = World(scratch(), formats={"vda": "qcow2", "vdb": "raw"}, size=MiB)
    world.write("vda", 0, b"seed" * 1000)
    world.protect()
    world.replicate(2)
    world.write("vdb", 8 * KiB, b"landed" * 100)
    world.capture()
    world.write("vda", 80 * KiB, b"never landed" * 100)
    world.before = world.remembered()  # type: ignore[attr-defined]
    world.fail_over()
    world.write("vdb", 200 * KiB, b"west" * 500)
    world.commit()
    return world


def old_content(world: World) -> dict[str, bytes]:
    """The disks as the machine had them when it was lost in east."""
    content: dict[str, bytes] = world.before  # type: ignore[attr-defined]
    return content


def orders(world: World, pool: str, **changes: Any) -> tuple[ops.PrepareReplica, ops.Reverse]:
    """A reprotect by a full copy into a pool of east."""
    running = world.running.order(ops.AskFacts(item=ITEM))
    ways = dict.fromkeys(world.disks, Way.FULL.value)
    prepare = ops.PrepareReplica(
        item=ITEM,
        name="web",
        vault=VAULT,
        epoch=world.epoch,
        common=None,
        ways=ways,
        definition=running.definition,
        pool=pool,
        lock="lock",
    )
    reverse = ops.Reverse(
        item=ITEM,
        epoch=world.epoch,
        common=None,
        ways=ways,
        cache=world.running.cache,
        policy=world.policy,
    )
    return replace(prepare, **changes), reverse


def reprotect(world: World, pool: str, **changes: Any) -> ops.ReplicaFacts:
    prepare, reverse = orders(world, pool, **changes)
    facts = world.standby.order(prepare)
    assert isinstance(facts, ops.ReplicaFacts)
    world.running.order(reverse)
    world.assign_target()
    return facts


def release(world: World, host: Host, **changes: Any) -> ops.LedgerFacts:
    order = ops.Release(item=ITEM, epoch=world.epoch, owner=host is world.running)
    facts = host.order(replace(order, **changes))
    assert isinstance(facts, ops.LedgerFacts)
    return facts


def fast(world: World) -> Path:
    path = world.east.pool.with_name("fast")
    world.east.compute.make_pool("fast", path)
    return path


def lose_pool(world: World) -> None:
    """The pool of the old disks is removed with all that is in it."""
    world.east.compute.pools.pop("default")
    shutil.rmtree(world.east.pool)


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def same_disks(folder: Path, content: dict[str, bytes], *, end: str = "") -> None:
    for disk, name in FILES.items():
        kind = name.partition(".")[2]
        path = folder / f"{disk}{end}.{kind}"
        same(read_image(path, kind), content[disk], str(path))


def lands(world: World) -> None:
    """The new direction's points are right, and the machine's disks too."""
    world.replicate(3)
    world.write("vda", 300 * KiB, b"more" * 100)
    point = world.capture()
    for disk, content in world.remembered().items():
        same(world.standby.bytes_of(point, disk), content, f"{disk} {point}")
    check_running(world.running, world.remembered())


def codes(error: pytest.ExceptionInfo[RefusedError]) -> str:
    return error.value.code


class TestAPoolThatIsGone:
    def test_a_new_one_is_made_beside_the_others(self, world: World) -> None:
        beside = world.root / "pools" / "other"
        lose_pool(world)
        world.east.compute.make_pool("other", beside)
        world.east.compute.delete("web")
        facts = reprotect(world, "westasr", new_pool=True)
        path = beside.with_name("westasr")
        assert world.east.compute.pools == {"other": beside, "westasr": path}
        assert f"made: storage account westasr in {path}" in facts.actions
        made = {(one.kind, one.name): one.reason for one in world.east.ledger.made}
        assert "gone" in made["pool", "westasr"]
        lands(world)
        same_disks(path, known_base(world), end="-ASRReplica")

    def test_without_any_other_it_is_where_the_last_one_was(self, world: World) -> None:
        lose_pool(world)
        world.east.compute.delete("web")
        reprotect(world, "westasr", new_pool=True)
        assert world.east.compute.pools == {"westasr": world.east.pool.with_name("westasr")}

    def test_twice_is_once(self, world: World) -> None:
        lose_pool(world)
        world.east.compute.delete("web")
        prepare, _ = orders(world, "westasr", new_pool=True)
        world.east.order(prepare)
        before = world.east.ledger
        world.east.restart()
        world.east.order(prepare)
        assert world.east.ledger.made == before.made
        assert list(world.east.compute.pools) == ["westasr"]

    def test_it_goes_with_the_item(self, world: World) -> None:
        lose_pool(world)
        world.east.compute.delete("web")
        reprotect(world, "westasr", new_pool=True)
        world.replicate(3)
        facts = release(world, world.east)
        assert (facts.left, facts.kept) == ((), ())
        assert world.east.compute.pools == {}
        assert not world.east.pool.with_name("westasr").exists()

    @pytest.mark.parametrize("user", ["a file", "another item"])
    def test_one_that_is_used_stays_and_is_told(self, world: World, user: str) -> None:
        lose_pool(world)
        world.east.compute.delete("web")
        reprotect(world, "westasr", new_pool=True)
        path = world.east.compute.pools["westasr"]
        if user == "a file":
            (path / "theirs.raw").write_bytes(b"x")
        else:
            (path / "homeport" / "other.01234567").mkdir()
        facts = release(world, world.east)
        assert facts.left == ()
        assert facts.kept == (f"storage account westasr in {path}, which is in use",)
        assert world.east.compute.pools == {"westasr": path}
        assert path.is_dir()

    def test_the_machine_that_is_still_there_is_kept_and_comes_home(self, world: World) -> None:
        lose_pool(world)
        facts = reprotect(world, "westasr", new_pool=True)
        assert "kept and locked until failback: web" in facts.actions
        note = world.east.compute.note("web")
        assert note is not None
        assert (note.may_start, note.lock) == (False, "lock")
        lands(world)
        world.fail_over(planned=True)
        check_running(world.east, world.remembered())
        world.commit()
        kept = release(world, world.east).kept
        path = world.east.compute.pools["westasr"]
        assert any("westasr" in word for word in kept)
        same_disks(path, world.remembered())

    def test_a_machine_of_another_kind_keeps_its_name(self, world: World) -> None:
        lose_pool(world)
        world.east.compute.set_note("web", None)
        prepare, _ = orders(world, "westasr", new_pool=True)
        with pytest.raises(RefusedError) as caught:
            world.east.order(prepare)
        assert codes(caught) == "NameTaken"
        assert world.east.compute.pools == {}

    def test_a_folder_that_somebody_uses_is_not_taken(self, world: World) -> None:
        lose_pool(world)
        world.east.compute.delete("web")
        taken = world.east.pool.with_name("westasr")
        taken.mkdir()
        (taken / "theirs").write_bytes(b"x")
        prepare, _ = orders(world, "westasr", new_pool=True)
        with pytest.raises(RefusedError, match="not empty") as caught:
            world.east.order(prepare)
        assert codes(caught) == "NameTaken"
        assert [path.name for path in taken.iterdir()] == ["theirs"]

    def test_one_that_is_neither_there_nor_to_be_made_is_refused(self, world: World) -> None:
        lose_pool(world)
        prepare, _ = orders(world, "nowhere")
        with pytest.raises(RefusedError) as caught:
            world.east.order(prepare)
        assert codes(caught) == "PoolMissing"

    def test_an_item_whose_pool_is_gone_is_released(self, world: World) -> None:
        lose_pool(world)
        assert release(world, world.east) == ops.LedgerFacts(made=0, left=())
        assert not world.east.shelf.has(ITEM)


def spoil(ledger: Path) -> None:
    ledger.write_bytes(ledger.read_bytes()[:-9])


@pytest.mark.parametrize("lose", [Path.unlink, spoil], ids=["lost", "cut"])
@pytest.mark.parametrize("side", ["running", "standby"])
def test_without_its_ledger_an_item_is_forgotten_and_no_file_goes(
    world: World, side: str, lose: Callable[[Path], object]
) -> None:
    """The layers of a machine that runs lie there too: nobody can tell which they are."""
    host: Host = getattr(world, side)
    folder = host.shelf.peek(ITEM).folder
    lose(folder / LEDGER_FILE)
    host.restart()
    before = files_in(host.pool)
    (left,) = release(world, host).left
    assert (left.kind, left.name) == ("folder", str(folder))
    assert files_in(host.pool) == before
    assert not host.shelf.has(ITEM)
    assert release(world, host) == ops.LedgerFacts(made=0, left=())


def known_base(world: World) -> dict[str, bytes]:
    """What the first full copy of the direction brought: the oldest point there is."""
    host = world.standby
    first = host.ledger.disks[0].base_at
    assert first is not None
    return {disk: host.bytes_of(first, disk) for disk in world.disks}


class TestNetworks:
    def test_those_missing_are_made_isolated_and_go_with_the_item(self, world: World) -> None:
        prepare, _ = world.reprotect_orders()
        prepare = replace(prepare, new_networks=("lan-asr", "dmz-asr"))
        facts = world.east.order(prepare)
        assert "made: network lan-asr, isolated" in facts.actions
        names = [network.name for network in world.east.compute.inventory().networks]
        assert names == ["lan", "lan-asr", "dmz-asr"]
        assert world.east.order(prepare).actions == tuple(
            action
            for action in facts.actions
            if not action.startswith(("made", "web-", "switched"))
        )
        kept = release(world, world.east).kept
        assert not any("network" in word for word in kept)
        assert [network.name for network in world.east.compute.inventory().networks] == ["lan"]

    def test_one_that_is_there_is_not_ours(self, world: World) -> None:
        prepare, _ = world.reprotect_orders()
        world.east.order(replace(prepare, new_networks=("lan",)))
        assert "network" not in {one.kind for one in world.east.ledger.made}
        release(world, world.east)
        assert [network.name for network in world.east.compute.inventory().networks] == ["lan"]

    def test_one_that_a_machine_is_on_stays_and_is_told(self, world: World) -> None:
        prepare, _ = world.reprotect_orders()
        world.east.order(replace(prepare, new_networks=("lan-asr",)))
        card = NIC.format(kind="network", source="<source network='lan-asr'/>")
        world.east.compute.define(
            machine_xml(name="theirs", uuid="0a2d0c6f-6a3c-4a0f-9f0a-3f5f2d6c0001", devices=card)
        )
        facts = release(world, world.east)
        assert "network lan-asr, which machines are on" in facts.kept
        assert facts.left == ()


class TestAnotherPool:
    def test_the_old_disks_stay_where_and_as_they_are(self, world: World) -> None:
        path = fast(world)
        before = files_in(world.east.pool)
        facts = reprotect(world, "fast")
        assert f"kept where and as they are: the old disks in {world.east.pool}" in facts.actions
        lands(world)
        after = files_in(world.east.pool)
        ours = {LEDGER_FILE, LEFT_FILE, KEPT_FILE}
        disks = {name: body for name, body in before.items() if Path(name).name not in ours}
        assert disks == {name: after[name] for name in disks}
        assert {Path(name).name for name in after.keys() - disks.keys()} == {LEFT_FILE, KEPT_FILE}
        assert {file.name for file in path.iterdir()} == {
            "web-vda-ASRReplica.qcow2",
            "web-vdb-ASRReplica.raw",
            "homeport",
        }

    def test_home_again_it_runs_from_the_new_pool(self, world: World) -> None:
        path = fast(world)
        reprotect(world, "fast")
        lands(world)
        world.fail_over(planned=True)
        check_running(world.east, world.remembered())
        world.commit()
        facts = release(world, world.east)
        same_disks(path, world.remembered())
        same_disks(world.east.pool, old_content(world))
        assert {file.name for file in world.east.pool.iterdir()} == set(FILES.values())
        assert any("old disks" in word for word in facts.kept)
        named = world.east.compute.sources("web").persistent.values()
        assert sorted(named) == [str(path / name) for name in sorted(FILES.values())]
        assert facts.left == ()

    def test_on_the_side_that_does_not_run_it_both_stay_the_users(self, world: World) -> None:
        path = fast(world)
        reprotect(world, "fast")
        lands(world)
        before = {
            disk: world.east.bytes_of(world.east.ledger.points[-1].position, disk) for disk in FILES
        }
        release(world, world.east)
        same_disks(path, before)
        same_disks(world.east.pool, old_content(world))
        assert world.east.compute.state("web") is PowerState.OFF

    def test_given_up_before_it_is_whole_the_old_disks_are_the_machines(self, world: World) -> None:
        path = fast(world)
        reprotect(world, "fast")
        facts = release(world, world.east)
        same_disks(world.east.pool, old_content(world))
        assert {file.name for file in world.east.pool.iterdir()} == set(FILES.values())
        assert list(path.iterdir()) == []
        named = world.east.compute.sources("web").persistent.values()
        assert {Path(name).parent for name in named} == {world.east.pool}
        assert facts.left == ()
        assert world.east.compute.pools["fast"] == path

    def test_back_to_the_first_pool_before_it_is_whole(self, world: World) -> None:
        path = fast(world)
        reprotect(world, "fast")
        world.running.one_pass()
        reprotect(world, "default")
        assert world.east.ledger.role is Role.TARGET
        assert world.east.shelf.peek(ITEM).folder.parent.parent == world.east.pool
        assert list(path.iterdir()) == []
        lands(world)

    def test_once_it_is_whole_the_first_pools_disks_are_in_the_way_back(self, world: World) -> None:
        fast(world)
        reprotect(world, "fast")
        lands(world)
        before = world.east.ledger
        prepare, _ = orders(world, "default")
        with pytest.raises(RefusedError, match="Homeport's") as caught:
            world.east.order(prepare)
        assert codes(caught) == "NameTaken"
        assert world.east.ledger == before

    def test_a_third_pool_leaves_nothing_in_the_second(self, world: World) -> None:
        second, third = fast(world), world.root / "third"
        world.east.compute.make_pool("third", third)
        reprotect(world, "fast")
        reprotect(world, "third")
        assert list(second.iterdir()) == []
        assert third == world.east.shelf.peek(ITEM).folder.parent.parent
        lands(world)
        release(world, world.east)
        same_disks(world.east.pool, old_content(world))

    def test_twice_is_once(self, world: World) -> None:
        fast(world)
        prepare, _ = orders(world, "fast")
        first = world.east.order(prepare)
        before = world.east.ledger
        world.east.restart()
        again = world.east.order(prepare)
        assert world.east.ledger == before
        assert set(again.actions) <= set(first.actions)

    def test_of_the_recovery_site_they_go_with_the_item(self, world: World) -> None:
        """The disks there were made by Homeport: they are kept only until the item is released."""
        world.reprotect()
        lands(world)
        world.fail_over(planned=True)
        world.commit()
        path = world.west.pool.with_name("fast")
        world.west.compute.make_pool("fast", path)
        reprotect(world, "fast", keep_machine=False)
        assert world.west.compute.state("web") is PowerState.ABSENT
        assert {file.suffix for file in world.west.pool.iterdir()} == {".qcow2", ".raw", ""}
        lands(world)
        facts = release(world, world.west)
        assert list(world.west.pool.iterdir()) == list(path.iterdir()) == []
        assert (facts.left, facts.kept) == ((), ())

    def test_disks_that_would_be_brought_on_are_not_moved(self, world: World) -> None:
        fast(world)
        before = world.east.ledger
        prepare, _ = world.reprotect_orders()
        with pytest.raises(RefusedError) as caught:
            world.east.order(replace(prepare, pool="fast"))
        assert codes(caught) == "PoolFixedByDisks"
        assert world.east.ledger == before

    def test_files_of_others_in_it_are_not_touched(self, world: World) -> None:
        path = fast(world)
        (path / "web-vda.qcow2").write_bytes(b"theirs")
        before = world.east.ledger
        prepare, _ = orders(world, "fast")
        with pytest.raises(RefusedError) as caught:
            world.east.order(prepare)
        assert codes(caught) == "NameTaken"
        assert world.east.ledger == before
        assert (path / "web-vda.qcow2").read_bytes() == b"theirs"

    def test_a_machine_whose_ledger_was_lost_is_kept_and_guarded(self, world: World) -> None:
        fast(world)
        (world.east.shelf.peek(ITEM).folder / LEDGER_FILE).unlink()
        world.east.shelf.means.ledgers.forget(ITEM)
        old = files_in(world.east.pool)
        facts = reprotect(world, "fast")
        assert "kept and locked until failback: web" in facts.actions
        assert [odd for odd in world.east.guard() if odd in WORDS] == []
        world.east.compute.delete("web")
        assert "MachineUndefined" in world.east.guard()
        note = world.east.compute.note("web")
        assert note is not None
        assert (note.may_start, note.lock) == (False, "lock")
        lands(world)
        world.fail_over(planned=True)
        check_running(world.running, world.remembered())
        assert files_in(world.east.pool) == old

    def test_old_disks_that_somebody_removed_are_no_hindrance(self, world: World) -> None:
        fast(world)
        reprotect(world, "fast")
        lands(world)
        (world.east.pool / "web-vda.qcow2").unlink()
        release(world, world.east)
        assert {file.name for file in world.east.pool.iterdir()} == {"web-vdb.raw"}

    def test_facts_tell_of_the_room_in_the_pool_that_is_asked_for(self, world: World) -> None:
        fast(world)
        facts = world.east.order(ops.AskFacts(item=ITEM, pool="fast"))
        assert (facts.pool, facts.pool_writable) == ("default", True)
        shutil.rmtree(world.east.compute.pools["fast"])
        facts = world.east.order(ops.AskFacts(item=ITEM, pool="fast"))
        assert (facts.pool, facts.pool_writable) == ("default", False)
        assert set(facts.makes) == {"pool", "network", "other-pool"}


# -- deaths --


class Moment(Stage):
    """A stage that has the host's pools and networks too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        compute = self.world.east.compute
        self.resources = dict(compute.pools), [one.name for one in compute.inventory().networks]

    def reset(self) -> None:
        super().reset()
        compute = self.world.east.compute
        for name in [*compute.pools]:
            compute.delete_pool(name)
        compute.pools.update(self.resources[0])
        for one in compute.inventory().networks:
            if one.name not in self.resources[1]:
                compute.delete_network(one.name)


def outcome(world: World) -> dict[str, Any]:
    """All that can be seen of east: its files by content, its pools, networks and machine."""
    host = world.east
    compute = host.compute
    root = world.root / "east"
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if not {"cache", "agent"} & set(path.relative_to(root).parts)
    }
    ledger = host.ledger if host.shelf.has(ITEM) else None
    machine = compute.machines.get("web")
    return {
        "files": found,
        "pools": dict(compute.pools),
        "networks": [one.name for one in compute.inventory().networks],
        "sources": compute.sources("web").persistent if machine else None,
        "note": compute.note("web") if machine else None,
        "held": ledger
        and {
            "role": ledger.role,
            "disks": [(chain.base, chain.whole, chain.all_names) for chain in ledger.disks],
            "made": {(one.kind, one.name) for one in ledger.made if one.gone_at is None},
        },
        "raw": {
            path.name: path.read_bytes()
            for path in sorted(root.rglob("*.raw"))
            if path.is_file() and "agent" not in path.parts
        },
    }


Case = tuple[World, Callable[[], Any]]


def to_another_pool() -> Case:
    world = committed()
    fast(world)
    prepare, _ = orders(world, "fast", new_networks=("lan-asr",))
    return world, lambda: world.east.order(prepare)


def to_a_pool_that_is_made() -> Case:
    world = committed()
    lose_pool(world)
    prepare, _ = orders(world, "westasr", new_pool=True, new_networks=("lan-asr",))
    return world, lambda: world.east.order(prepare)


def back_again() -> Case:
    world = committed()
    fast(world)
    reprotect(world, "fast")
    prepare, _ = orders(world, "default")
    return world, lambda: world.east.order(prepare)


def released_when_whole() -> Case:
    world = committed()
    fast(world)
    reprotect(world, "fast")
    world.replicate(3)
    return world, lambda: release(world, world.east)


def released_before_it_is_whole() -> Case:
    world = committed()
    fast(world)
    reprotect(world, "fast")
    return world, lambda: release(world, world.east)


def released_with_all_that_was_made() -> Case:
    world = committed()
    lose_pool(world)
    world.east.compute.delete("web")
    reprotect(world, "westasr", new_pool=True, new_networks=("lan-asr",))
    world.replicate(2)
    return world, lambda: release(world, world.east)


CASES = {
    "to another pool": to_another_pool,
    "to a pool that is made": to_a_pool_that_is_made,
    "back again": back_again,
    "released when whole": released_when_whole,
    "released before it is whole": released_before_it_is_whole,
    "released with all that was made": released_with_all_that_was_made,
}


@pytest.mark.parametrize("name", CASES)
def test_a_death_here_and_there(name: str) -> None:
    assert go_through(name, CASES[name], every=11, stage=Moment, outcome=outcome)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CASES)
def test_a_death_at_every_effect(name: str) -> None:
    assert go_through(name, CASES[name], every=1, stage=Moment, outcome=outcome)


def test_the_loop_of_an_item_that_has_moved_goes_on_with_the_new_one(world: World) -> None:
    fast(world)
    reprotect(world, "fast")
    with world.east.shelf.turn(ITEM, Control()) as work:
        assert work.held.folder.parent.parent == world.east.compute.pools["fast"]
