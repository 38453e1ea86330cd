"""Single cases in which data, a machine or a way home would once have been lost."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from homeport.agent import source
from homeport.agent.rotation import ForeignLayerError
from homeport.agent.target import land_all
from homeport.dataplane.layout import DamagedObjectError
from homeport.dataplane.pipeline import Control
from homeport.errors import CancelledError, HomeportError, IntegrityError, RefusedError
from homeport.model import operations as ops
from homeport.model.ids import DiskName
from homeport.model.ledger import CommitIntent
from homeport.model.machine import PowerState
from homeport.model.machine_orders import CreateMachine, MachineName, NewDisk
from homeport.model.planning import Way
from homeport.model.position import Position
from homeport.providers.compute.memory import MemoryCompute
from homeport.units import KiB, MiB
from tests.crashes import CrashError, Mortal
from tests.integration.test_state_machine import scratch
from tests.machines import disk_xml, machine_xml, overlay
from tests.world import ITEM, Host, World, read_image
from tests.worldchecks import check_files, check_images, check_points, same, set_aside

pytestmark = pytest.mark.real


@pytest.fixture
def world() -> Iterator[World]:
    world = World(scratch(), formats={"vda": "qcow2", "vdb": "raw"}, size=MiB)
    yield world
    shutil.rmtree(world.root)


def protected(world: World) -> World:
    world.write("vda", 0, b"seed" * 1000)
    world.protect()
    world.replicate(2)
    return world


def same_everywhere(world: World) -> None:
    position = world.standby.ledger.stands_at
    assert position is not None
    for disk, content in world.remembered().items():
        same(world.standby.bytes_of(position, disk), content, f"{disk} {position}")


def grow(world: World, dev: str, more: int) -> None:
    world.truth[dev].extend(bytes(more))
    world.running.compute.resize("web", dev, len(world.truth[dev]))


def qemu_img(*words: object) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True)


# -- words that were not said --


@pytest.mark.parametrize("when", ["seed", "resync"])
def test_a_point_that_landed_but_was_not_told_is_told_by_the_next_life(
    world: World, when: str
) -> None:
    if when == "seed":
        world.protect()
    else:
        protected(world).fail_over()
        world.commit()
        world.reprotect()
    world.running.one_pass()
    life = Mortal()
    with life.living():
        world.standby.one_pass()
    world.standby.restart()
    told = next((world.root / world.running.name / "cache").rglob("landed/*"))
    told.unlink()  # as if the death had come before it was put
    world.standby.one_pass()
    world.running.one_pass()
    assert world.running.ledger.acknowledged == world.standby.ledger.stands_at


def test_a_point_put_before_a_crash_stays_when_the_definition_has_changed_since(
    world: World,
) -> None:
    protected(world)
    world.write("vda", 8 * KiB, b"captured" * 100)
    world.clock.pass_time(5)
    life = Mortal()
    with life.living():
        world.running.one_pass()
    held = world.running.shelf.peek(ITEM)
    (captured,) = held.ledger.captured
    held.save(  # as if the death had come before the shipping was recorded
        captured=(replace(captured, shipped=False),),
        definition=replace(held.ledger.definition, memory=512 * MiB),
    )
    world.replicate(2)
    same_everywhere(world)


def test_a_final_point_shipped_before_a_crash_is_no_hindrance_to_an_undo(world: World) -> None:
    protected(world)
    world.write("vda", 8 * KiB, b"last" * 100)
    content = world.remembered()
    world.fail_over(planned=True)
    world.undo(content)
    held = world.running.shelf.peek(ITEM)
    held.save(captured=tuple(replace(one, shipped=False) for one in held.ledger.captured))
    world.write("vda", 80 * KiB, b"after" * 100)
    world.replicate(3)
    same_everywhere(world)


# -- one store for both directions --


def test_both_directions_may_use_one_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Host, "cache", property(lambda _self: world.east.__dict__["store"]))
    world.east.__dict__["store"] = replace_cache(world)
    protected(world)
    world.write("vda", 8 * KiB, b"shipped and never landed" * 10)
    world.clock.pass_time(5)
    world.running.one_pass()
    old = world.standby.ledger.points[-1].position
    world.standby.order(ops.LandAll(item=ITEM, epoch=1, until=old))
    world.epoch += 1
    world.standby.order(
        ops.Promote(
            item=ITEM,
            epoch=2,
            position=old,
            machine="web",
            networks={"lan": "lan"},
            guest_timeout=0,
        )
    )
    world.running, world.standby = world.standby, world.running
    world.believe(old)
    world.write("vdb", 8 * KiB, b"west" * 100)
    world.commit()
    world.reprotect()
    world.replicate(3)
    same_everywhere(world)


def replace_cache(world: World) -> Any:
    from homeport.model.messages import StoreAddress

    return StoreAddress(name="shared", url=f"file://{world.root / 'east' / 'cache'}")


# -- other people's machines --


def other_machine(host: Host, name: str) -> None:
    disk = host.root / f"{name}.raw"
    qemu_img("create", "-f", "raw", disk, MiB)
    host.compute.define(machine_xml(disk_xml("vda", disk), name=name, uuid="0" * 31 + "1"))
    host.compute.start(name)


def test_a_test_leaves_another_machine_of_its_name_alone(world: World) -> None:
    protected(world)
    other_machine(world.west, "web-test")
    position = world.west.ledger.points[-1].position
    boot = ops.TestBoot(item=ITEM, position=position, machine="web-test", guest_timeout=0)
    with pytest.raises(RefusedError) as refused:
        world.west.order(boot)
    assert refused.value.code == "NameTaken"
    world.west.order(ops.TestCleanup(item=ITEM, machine="web-test"))
    assert world.west.compute.state("web-test") is PowerState.RUNNING
    check_files(world.west)


def test_a_failover_leaves_another_machine_of_its_name_alone(world: World) -> None:
    protected(world)
    other_machine(world.west, "web")
    with pytest.raises(RefusedError) as refused:
        world.fail_over()
    assert refused.value.code == "NameTaken"
    world.west.order(ops.Demote(item=ITEM, epoch=world.epoch))
    assert world.west.compute.state("web") is PowerState.RUNNING


# -- what is set aside --


def test_what_stands_on_a_point_beyond_the_boot_outlives_that_point(world: World) -> None:
    protected(world)
    older = world.capture()
    world.write("vda", 8 * KiB, b"newer" * 100)
    newer = world.capture()
    world.fail_over(newer)
    world.write("vda", 100 * KiB, b"tried and left" * 100)
    tried = world.remembered()["web-vda"]
    world.change_point(older)
    world.commit()
    world.reprotect()
    world.replicate(3)
    assert not world.running.ledger.points
    ((chain, unsent),) = set_aside(world.running)
    held = world.running.shelf.peek(ITEM)
    same(read_image(held.path(unsent.path), "qcow2"), tried, unsent.path)
    world.clock.pass_time(timedelta(days=8).total_seconds())
    world.replicate(2)
    assert not list(set_aside(world.running))
    check_files(world.running)
    assert chain.name == "web-vda"


def test_unsent_writes_can_be_kept_by_themselves_when_all_else_goes(world: World) -> None:
    protected(world)
    world.write("vda", 100 * KiB, b"never sent" * 100)
    lost = world.remembered()["web-vda"]
    world.fail_over()
    world.commit()
    world.reprotect()
    world.replicate(3)
    facts = world.east.order(
        ops.Release(item=ITEM, epoch=world.epoch, owner=False, keep_unsent=True)
    )
    (image,) = world.east.pool.glob("*-unsent-*")
    assert str(image) in " ".join(facts.kept)
    same(read_image(image, "qcow2"), lost, str(image))


def test_a_full_copy_keeps_the_disk_it_replaces(world: World) -> None:
    protected(world)
    common = world.capture()
    was = world.remembered()
    world.fail_over()
    world.write("vda", 0, b"west" * 5000)
    world.commit()
    world.reprotect(way=Way.FULL)
    kept = {unsent.path: chain for chain, unsent in set_aside(world.standby)}
    held = world.standby.shelf.peek(ITEM)
    assert len(kept) == len(world.disks)
    world.replicate(3)
    same_everywhere(world)
    for name, chain in kept.items():
        kind = "qcow2" if name.endswith("qcow2") else chain.disk.format.value
        same(read_image(held.path(name), kind), was[chain.name], f"{name} {common}")


def test_a_full_copy_that_is_given_up_gives_the_disk_back(world: World) -> None:
    protected(world)
    world.capture()
    was = world.remembered()
    world.fail_over()
    world.write("vda", 0, b"west" * 5000)
    world.commit()
    world.reprotect(way=Way.FULL)
    world.running.one_pass()
    world.east.order(ops.Release(item=ITEM, epoch=world.epoch, owner=False))
    assert {path.name for path in world.east.pool.iterdir()} == {"web-vda.qcow2", "web-vdb.raw"}
    for path in world.east.pool.iterdir():
        same(read_image(path, path.suffix[1:]), was[path.stem], str(path))


def test_the_disks_of_the_old_side_are_gone_and_made_anew(world: World) -> None:
    protected(world)
    world.fail_over()
    world.write("vda", 0, b"west" * 5000)
    world.commit()
    held = world.east.shelf.peek(ITEM)
    for chain in held.ledger.disks:
        held.path(chain.base).unlink()
    assert world.reprotect().way is Way.FULL
    world.replicate(3)
    same_everywhere(world)


# -- disks as users have them --


def test_a_disk_on_a_template_is_seeded_with_the_template(tmp_path: Path) -> None:
    world = World(scratch(), formats={"vda": "qcow2"}, size=MiB)
    try:
        template = world.root / "template.raw"
        template.write_bytes(b"template" * (MiB // 8))
        disk = world.east.pool / "web-vda.qcow2"
        qemu_img("create", "-f", "qcow2", "-b", template, "-F", "raw", disk)
        world.truth["vda"][:] = template.read_bytes()
        protected(world)
        same_everywhere(world)
        world.fail_over(planned=True)
        world.write("vda", 500 * KiB, b"west" * 100)
        world.commit()
        world.reprotect(way=Way.DIFFERENTIAL)
        world.replicate(3)
        same_everywhere(world)
    finally:
        shutil.rmtree(world.root)


def test_a_disk_attached_later_is_named_and_the_others_go_on(world: World) -> None:
    protected(world)
    extra = world.east.pool.parent / "extra.raw"
    qemu_img("create", "-f", "raw", extra, MiB)
    machine = world.east.compute.machines["web"]
    for view in ("persistent", "live"):
        text = getattr(machine, view).replace("</devices>", f"{disk_xml('vdc', extra)}</devices>")
        setattr(machine, view, text)
    world.write("vda", 8 * KiB, b"goes on" * 100)
    world.clock.pass_time(5)
    with pytest.raises(source.DiskNotReplicatedError) as told:
        world.running.one_pass()
    assert told.value.targets == ("vdc",)
    world.standby.one_pass()
    same_everywhere(world)


def test_a_snapshot_of_another_tool_is_not_undone(world: World) -> None:
    protected(world)
    active = world.running.shelf.peek(ITEM)
    top = active.path(str(active.ledger.disks[0].active))
    theirs = overlay(world.east.pool.parent / "theirs.qcow2", top, size=MiB)
    world.running.compute.rotate("web", {"vda": theirs}, quiesce=False)
    with pytest.raises(ForeignLayerError) as found:
        world.running.one_pass()
    assert found.value.disk == "web-vda"
    assert world.running.compute.sources("web").persistent["vda"] == str(theirs)


def test_a_smaller_disk_of_an_older_point_does_not_show_its_old_end_again(world: World) -> None:
    """Grown, failed over to before that, grown again: what lay in the first growth is gone."""
    protected(world)
    small = world.capture()
    for dev in world.truth:
        grow(world, dev, 256 * KiB)
    for dev in ("vda", "vdb"):
        world.write(dev, MiB + 4 * KiB, b"in the first growth" * 100)
    world.capture()
    world.replicate(2)
    world.fail_over(small)
    assert all(len(truth) == MiB for truth in world.truth.values())
    world.commit()
    world.reprotect()
    world.replicate(3)
    same_everywhere(world)
    for _ in range(2):
        for dev in world.truth:
            grow(world, dev, 128 * KiB)
        world.write("vda", 0, b"again" * 10)
        world.capture()
        world.clock.pass_time(timedelta(days=2).total_seconds())
        world.replicate(2)
        same_everywhere(world)
    content = world.remembered()
    world.fail_over(planned=True)
    assert world.remembered() == content
    world.commit()
    owner, _ = world.disable()
    assert not owner.left
    for dev, kind in world.formats.items():
        path = world.running.pool / f"web-{dev}.{kind}"
        same(read_image(path, kind), content[f"web-{dev}"], str(path))


# -- touched from outside --


@pytest.mark.parametrize("what", ["base", "layer"])
def test_a_write_from_outside_is_noticed_compared_and_forgotten(world: World, what: str) -> None:
    protected(world)
    world.capture()
    world.write("vda", 40 * KiB, b"unlanded" * 100)
    world.clock.pass_time(5)
    world.running.one_pass()
    world.fail_over(world.standby.ledger.points[-1].position)
    world.commit()
    held = world.east.shelf.peek(ITEM)
    chain = held.ledger.chain("web-vdb" if what == "base" else "web-vda")
    if what == "base":
        with held.path(chain.base).open("r+b") as file:
            file.write(b"from outside")
    else:
        image = held.path(chain.layers[-1].path)
        subprocess.run(
            ["qemu-io", "-f", "qcow2", "-c", "write -P 7 40K 4K", str(image)],
            check=True,
            capture_output=True,
        )
    ways = {disk.disk: disk.way for disk in world.plan().disks}
    assert ways[chain.name] is Way.DIFFERENTIAL
    world.reprotect()
    world.replicate(3)
    same_everywhere(world)
    world.fail_over(planned=True)
    world.commit()
    assert world.plan().way in (Way.EXACT, Way.NOTHING)


def test_own_changes_are_not_taken_for_others(world: World) -> None:
    """Commits, merges, renames and re-pointed headers over a whole round trip."""
    protected(world)
    for number in range(4):
        world.write("vda", number * 20 * KiB, b"x" * 5000)
        world.capture()
    world.clock.pass_time(timedelta(days=2).total_seconds())
    world.replicate(3)
    for _ in range(2):
        world.fail_over()
        world.commit()
        assert world.plan().way in (Way.EXACT, Way.NOTHING)
        world.reprotect()
        world.replicate(3)
        same_everywhere(world)


def test_without_a_common_point_the_disks_are_compared(world: World) -> None:
    protected(world)
    world.capture()
    world.fail_over()
    world.write("vda", 300 * KiB, b"west" * 100)
    world.commit()
    world.east.assign(past=())
    plan = world.plan()
    assert (plan.way, plan.common) == (Way.DIFFERENTIAL, None)
    world.reprotect()
    assert world.standby.ledger.stands_at is None
    world.replicate(3)
    same_everywhere(world)
    world.write("vdb", 0, b"and on" * 100)
    remembered = {world.capture(): world.remembered()}
    position = max(remembered)
    same(world.standby.bytes_of(position, "web-vdb"), remembered[position]["web-vdb"], "vdb")


@pytest.mark.parametrize("when", ["before it is planned", "after it was planned"])
def test_maps_that_no_longer_reach_back_are_not_guessed_at(world: World, when: str) -> None:
    protected(world)
    older = world.capture()
    world.write("vda", 8 * KiB, b"newer" * 100)
    newer = world.capture()
    world.fail_over(older)
    world.commit()
    lost = world.running.shelf.peek(ITEM)._map_path(DiskName("web-vda"), newer)
    if when == "before it is planned":
        lost.unlink()
        assert {disk.way for disk in world.plan().disks} == {Way.DIFFERENTIAL}
        world.reprotect()
    else:
        world.reprotect()
        lost.unlink()
        with pytest.raises(IntegrityError) as told:
            world.running.one_pass()
        assert told.value.code == "MapsLost"
        world.reprotect(way=Way.DIFFERENTIAL)
    world.replicate(3)
    same_everywhere(world)


# -- once more --


def test_a_reprotect_that_is_repeated_after_its_first_point_had_landed(world: World) -> None:
    protected(world)
    world.fail_over()
    world.write("vda", 8 * KiB, b"west" * 100)
    world.commit()
    stale, _ = world.reprotect_orders()
    for again in range(2):
        world.reprotect()
        world.write("vda", (9 + again) * 8 * KiB, b"on" * 100)
        world.running.one_pass()
        world.standby.one_pass()
    with pytest.raises(RefusedError) as refused:
        world.standby.order(stale)
    assert refused.value.code == "CommonPointGone"
    world.replicate(3)
    same_everywhere(world)
    check_images(world.standby)


def test_points_stay_bootable_while_their_replica_is_resynced(world: World) -> None:
    protected(world)
    world.write("vda", 8 * KiB, b"good" * 100)
    remembered: dict[Position, dict[str, bytes]] = {}
    remembered[world.capture()] = world.remembered()
    for point in world.standby.ledger.points:
        remembered.setdefault(
            point.position,
            {disk: world.standby.bytes_of(point.position, disk) for disk in world.disks},
        )
    world.reprotect(way=Way.DIFFERENTIAL)
    assert world.standby.ledger.points
    world.standby.one_pass()
    check_points(world.standby, remembered)
    chosen = world.fail_over(max(remembered))
    assert world.remembered() == remembered[chosen]


def test_a_damaged_newer_point_does_not_keep_older_ones_from_being_booted(world: World) -> None:
    protected(world)
    world.capture()
    good, content = world.west.ledger.stands_at, world.remembered()
    world.write("vda", 8 * KiB, b"newer" * 100)
    world.clock.pass_time(5)
    world.running.one_pass()
    newest = sorted((world.root / "east" / "cache").rglob("points/*/web-vda.delta"))[-1]
    newest.write_bytes(b"not a delta")
    at = world.west.order(ops.LandAll(item=ITEM, epoch=1))
    assert at.position == good
    assert "cannot be used" in at.note
    world.fail_over(source_answers=False)
    assert world.remembered() == content


@pytest.mark.parametrize("what", ["damage", "cancel"])
def test_a_point_that_lands_on_one_disk_only_leaves_nothing(world: World, what: str) -> None:
    """Its failover comes before the next try: no landing would ever put it right."""
    protected(world)
    for dev in world.truth:
        world.write(dev, 8 * KiB, b"newer" * 100)
    world.clock.pass_time(5)
    world.running.one_pass()
    before = {path for path in world.west.pool.rglob("*") if path.is_file()}
    last = sorted((world.root / "east" / "cache").rglob("points/*/web-vdb.delta"))[-1]
    if what == "damage":
        last.write_bytes(b"not a delta")
        with pytest.raises(DamagedObjectError):
            world.west.one_pass()
    else:
        control = Control(cancelled=lambda: any(world.west.pool.rglob("web-vdb/*.partial")))
        with pytest.raises(CancelledError), world.west.shelf.claim(ITEM, control) as work:
            land_all(work)
    assert {path for path in world.west.pool.rglob("*") if path.is_file()} == before
    world.fail_over(source_answers=False)
    assert world.standby is world.east
    assert world.west.shelf.peek(ITEM).sweep_files() == []


def test_a_machine_that_is_made_twice_is_made_once(world: World) -> None:
    order = CreateMachine(
        name="new",
        memory=64 * MiB,
        vcpus=1,
        disks=(NewDisk(name=DiskName("new-root"), size=MiB),),
        pool="default",
    )
    world.east.order(order)
    world.east.order(order)
    assert world.east.compute.state("new") is PowerState.RUNNING
    with pytest.raises(RefusedError) as refused:
        world.east.order(replace(order, disks=(replace(order.disks[0], name=DiskName("x")),)))
    assert refused.value.code == "NameTaken"


@pytest.mark.parametrize("at_effect", [1, 2, 3])
def test_a_commit_cut_short_is_finished_before_the_machine_starts(
    world: World, at_effect: int
) -> None:
    protected(world)
    for number in range(2):
        world.write("vda", number * 20 * KiB, bytes([number + 1]) * 9000)
        world.clock.pass_time(5)
        world.running.one_pass()
    world.standby.one_pass()
    world.running.compute.stop("web", timeout=0)
    with suppress(CrashError), Mortal(at_effect).living():
        world.running.one_pass()
    world.running.restart()
    world.running.order(MachineName(name="web"), "start-machine")
    assert world.running.ledger.committing is None
    found = world.running.compute.read("web", "vda", 0, MiB)
    same(found, world.remembered()["web-vda"], "vda")


def test_a_machine_that_runs_on_where_it_was_lost_goes_with_the_release(world: World) -> None:
    protected(world)
    world.fail_over(planned=True)
    world.commit()
    world.reprotect()
    world.replicate(3)
    world.fail_over(source_answers=False)
    world.commit()
    assert world.west.compute.state("web") is PowerState.RUNNING
    owner, other = world.disable()
    assert not owner.left
    assert not other.left
    assert world.west.compute.state("web") is PowerState.ABSENT
    assert not list(world.west.pool.iterdir())


def test_an_item_released_meanwhile_is_not_worked_on(world: World) -> None:
    protected(world)
    held = world.running.shelf.peek(ITEM)
    world.disable()
    with pytest.raises(HomeportError) as gone, world.running.shelf.turn(ITEM, Control()):
        raise AssertionError("it was worked on")
    assert gone.value.code == "ItemNotHere"
    assert not held.folder.exists()


def test_a_longer_base_of_a_running_machine_is_not_flattened_into(world: World) -> None:
    """The end that an older point does not have would be seen again."""
    protected(world)
    small = world.capture()
    grow(world, "vda", 256 * KiB)
    world.write("vda", MiB + 4 * KiB, b"in the growth" * 100)
    world.capture()
    world.replicate(2)
    world.write("vda", 200 * KiB, b"set aside, so the base stays as it is" * 10)
    world.fail_over(small)
    world.commit()
    world.reprotect()
    world.replicate(1)
    world.write("vda", 0, b"west" * 10)
    world.fail_over(planned=True)
    content = world.remembered()
    world.commit()
    with pytest.raises(RefusedError) as refused:
        world.disable()
    assert refused.value.code == "LongerBase"
    world.running.compute.stop("web", timeout=0)
    world.disable()
    path = world.running.pool / "web-vda.qcow2"
    same(read_image(path, "qcow2"), content["web-vda"], str(path))


def test_a_commit_cut_short_on_one_disk_is_no_doubt_about_the_others(world: World) -> None:
    protected(world)
    world.write("vda", 40 * KiB, b"in the commit" * 100)
    world.clock.pass_time(5)
    world.running.one_pass()
    world.fail_over()  # the point lands there, and has not been heard of here
    world.commit()
    held = world.standby.shelf.peek(ITEM)
    first = held.ledger.disks[0]
    intent = CommitIntent(disk=first.name, layer=first.layers[0].path, into=first.base)
    held.save(committing=intent)
    assert {disk.way for disk in world.plan().disks} == {Way.NOTHING}
    world.reprotect()
    world.replicate(3)
    same_everywhere(world)


def test_what_a_live_commit_had_written_when_all_died_is_no_write_from_outside(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image above has the new name below it, and the ledger does not know yet."""
    protected(world)
    world.write("vda", 40 * KiB, b"landed" * 100)
    world.write("vdb", 40 * KiB, b"landed" * 100)
    world.clock.pass_time(5)
    world.running.one_pass()
    world.standby.one_pass()
    world.write("vda", 80 * KiB, b"captured" * 100)
    world.clock.pass_time(5)
    inner = MemoryCompute.commit

    def commit(*args: Any, **named: Any) -> bool:
        inner(*args, **named)
        raise CrashError("the host has lost its power")

    with monkeypatch.context() as patched:
        patched.setattr(MemoryCompute, "commit", commit)
        with pytest.raises(CrashError):
            world.running.one_pass()
    host = world.running
    host.compute.stop("web", timeout=0)
    host.restart()
    with host.shelf.claim(ITEM, Control()) as work:
        source.settle(work.held, work.means)
    world.fail_over()
    world.commit()
    assert {disk.way for disk in world.plan().disks} <= {Way.EXACT, Way.NOTHING}
    world.reprotect()
    world.replicate(3)
    same_everywhere(world)
