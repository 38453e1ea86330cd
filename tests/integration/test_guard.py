"""The machine that is not to be touched: its lock, its definition and its files."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from homeport.agent import committing, guard
from homeport.agent.ledgers import UnknownItemError
from homeport.agent.oddities import WORDS
from homeport.agent.reporting import report_item
from homeport.dataplane.pipeline import Control
from homeport.errors import RefusedError
from homeport.model import operations as ops
from homeport.model.host import Note
from homeport.model.item import Role
from homeport.model.machine import PowerState
from homeport.model.machine_orders import DeleteMachine, MachineName
from homeport.model.prerequisites import no_foreign_lock
from homeport.providers.compute.notes import write_note
from homeport.units import KiB, MiB
from tests.crashes import CrashError, Mortal
from tests.integration.test_agent_cases import protected
from tests.integration.test_state_machine import scratch
from tests.machines import machine_xml
from tests.unit.model.test_prerequisites import GOOD
from tests.world import ITEM, Host, World
from tests.worldchecks import same

pytestmark = pytest.mark.real

Change = Callable[[World], Any]


@pytest.fixture
def world() -> Iterator[World]:
    world = World(scratch(), formats={"vda": "qcow2", "vdb": "raw"}, size=MiB)
    yield world
    shutil.rmtree(world.root)


def failed_over(world: World) -> World:
    protected(world)
    world.fail_over()
    world.commit()
    return world


def reversed_(world: World) -> World:
    failed_over(world)
    world.reprotect()
    world.replicate(2)
    return world


def note_on(host: Host, **changes: Any) -> Note:
    """The machine's note with something else in it, put there by somebody else."""
    note = host.compute.note("web")
    assert note is not None
    changed = replace(note, **changes)
    host.compute.set_note("web", changed)
    return changed


FOREIGN = {
    "another vault's lock": {"lock": "SiteRecovery-other-homeport-east"},
    "another item's note": {"item": "f" * 32},
    "another item's lock of our name": {"item": "f" * 32, "lock": "lock"},
}


class TestLock:
    def test_what_is_told_is_what_is_on_the_machine(self, world: World) -> None:
        failed_over(world)
        assert world.east.order(ops.AskFacts(item=ITEM)).lock is None
        world.east.order(ops.Fence(item=ITEM, epoch=world.epoch, lock="lock"))
        assert world.east.order(ops.AskFacts(item=ITEM)).lock == "lock"
        note_on(world.east, lock=None)
        assert world.east.order(ops.AskFacts(item=ITEM)).lock is None
        world.east.compute.delete("web")
        assert world.east.order(ops.AskFacts(item=ITEM)).lock == "lock"

    @pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
    def test_a_foreign_one_is_a_problem_with_its_remedy(self, world: World, foreign: Any) -> None:
        failed_over(world)
        note = note_on(world.east, **foreign)
        facts = world.east.order(ops.AskFacts(item=ITEM))
        (problem,) = no_foreign_lock(replace(GOOD, old=facts, lock="lock"))
        assert problem["code"] == "ForeignLock"
        assert note.lock is None or note.lock in problem["message"]
        assert problem["remedy"]

    @pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
    def test_a_foreign_one_is_neither_overwritten_nor_lifted(
        self, world: World, foreign: Any
    ) -> None:
        failed_over(world)
        note = note_on(world.east, **foreign)
        prepare, _ = world.reprotect_orders()
        fence = ops.Fence(item=ITEM, epoch=world.epoch, lock="lock")
        before = world.east.ledger
        for order in (prepare, fence, ops.Unfence(item=ITEM, epoch=world.epoch + 1)):
            with pytest.raises(RefusedError) as refused:
                world.east.order(order)
            assert refused.value.code == "ForeignLock"
            assert "virsh metadata web" in refused.value.remedy
            assert world.east.compute.note("web") == note
            assert world.east.ledger == before

    def test_a_failover_does_not_boot_over_a_foreign_one(self, world: World) -> None:
        reversed_(world)
        note = note_on(world.east, lock="SiteRecovery-other-homeport-east")
        with pytest.raises(RefusedError, match="SiteRecovery-other"):
            world.fail_over(planned=True)
        assert world.east.compute.note("web") == note
        assert world.east.ledger.role is Role.TARGET

    def test_a_source_that_lost_its_ownership_owns_nothing_though_it_cannot_lock(
        self, world: World
    ) -> None:
        protected(world)
        note = note_on(world.east, lock="audit")
        with pytest.raises(RefusedError, match="audit"):
            world.fail_over()
        assert world.east.compute.state("web") is PowerState.RUNNING
        assert world.east.ledger.role is Role.SOURCE
        assert world.east.compute.note("web") == note

    def test_it_goes_in_the_step_that_ends_the_need(self, world: World) -> None:
        reversed_(world)
        locked = world.east.compute.note("web")
        assert locked is not None
        assert (locked.lock, locked.may_start) == ("lock", False)
        world.fail_over(planned=True)
        home = world.east.compute.note("web")
        assert home is not None
        assert (home.lock, home.may_start, world.east.ledger.lock) == (None, True, "")

    def test_a_lock_is_not_lost_by_a_fence_without_one(self, world: World) -> None:
        failed_over(world)
        world.east.order(ops.Fence(item=ITEM, epoch=world.epoch, lock="lock"))
        world.east.order(ops.Fence(item=ITEM, epoch=world.epoch))
        note = world.east.compute.note("web")
        assert note is not None
        assert note.lock == "lock" == world.east.ledger.lock


def told(host: Host) -> dict[str, str]:
    return report_item(host.shelf, ITEM).problem or {}


def undefined(host: Host) -> None:
    """What `virsh undefine` does, behind Homeport's back."""
    del host.compute.machines["web"]


def booted(world: World) -> World:
    protected(world)
    world.fail_over()
    return world


def off(world: World) -> World:
    protected(world)
    world.east.compute.stop("web", timeout=0)
    return world


def reversed_and_off(world: World) -> World:
    reversed_(world)
    world.west.compute.stop("web", timeout=0)
    return world


MEANT: dict[str, tuple[Change, str]] = {
    "a source that is off": (off, "east"),
    "a fenced original": (failed_over, "east"),
    "a machine booted at the recovery site": (booted, "west"),
    "an original that is kept while its disks are a replica": (reversed_, "east"),
    "a source at the recovery site": (reversed_and_off, "west"),
}


def plain(xml: str) -> list[str]:
    """A definition's elements in words, without the note."""
    root = ET.fromstring(xml)
    write_note(root, None)
    return [f"{one.tag} {one.attrib} {(one.text or '').strip()}" for one in root.iter()]


def news(host: Host) -> list[str]:
    """A round of the guard: what it told of."""
    return [odd for odd in host.guard() if odd in WORDS]


def host_of(world: World, name: str) -> Host:
    return world.east if name == "east" else world.west


class TestUndefine:
    @pytest.fixture(params=MEANT.values(), ids=MEANT)
    def host(self, request: pytest.FixtureRequest, world: World) -> Host:
        begin, name = request.param
        begin(world)
        host = host_of(world, name)
        assert news(host) == []
        return host

    def test_it_is_defined_again_as_it_was_and_told(self, host: Host) -> None:
        host.compute.stop("web", timeout=0)
        before, shape = host.compute.note("web"), host.compute.machines["web"].persistent
        undefined(host)
        assert news(host) == ["MachineUndefined"]
        machine = host.compute.machines["web"]
        assert (machine.state, machine.autostart) == (PowerState.OFF, False)
        note = host.compute.note("web")
        assert note is not None
        assert before is not None
        assert replace(note, role=before.role, epoch=before.epoch) == before
        assert plain(machine.persistent) == plain(shape)
        assert told(host)["code"] == "MachineUndefined"
        assert "homeport disable web" in told(host)["remedy"]
        assert news(host) == []

    def test_it_is_told_for_an_hour(self, host: Host) -> None:
        undefined(host)
        host.guard()
        host.clock.pass_time(timedelta(minutes=59).total_seconds())
        assert told(host)["code"] == "MachineUndefined"
        host.clock.pass_time(timedelta(minutes=2).total_seconds())
        assert told(host) == {}

    def test_the_next_life_of_the_agent_sees_it_too(self, host: Host) -> None:
        undefined(host)
        host.restart()
        assert news(host) == ["MachineUndefined"]
        assert host.compute.state("web") is PowerState.OFF

    def test_while_its_ledger_is_away_nothing_is_put_right(self, host: Host) -> None:
        """What comes back then would be taken for the user's own by the next reprotect."""
        away = host.pool.rename(host.pool.with_name("away"))
        undefined(host)
        assert news(host) == []
        with (
            host.shelf.claim(ITEM, Control()) as work,
            pytest.raises(UnknownItemError, match="no ledger"),
        ):
            guard.put_right(work)
        assert not host.compute.machines
        away.rename(host.pool)
        assert news(host) == ["MachineUndefined"]

    def test_a_stranger_under_its_name_is_told_and_left(self, host: Host) -> None:
        undefined(host)
        other = host.compute.define(machine_xml(uuid=str(uuid.UUID(int=9))))
        text = other.persistent
        assert news(host) == []
        assert told(host)["code"] == "NameTaken"
        assert host.compute.machines["web"].persistent == text
        undefined(host)
        assert news(host) == ["MachineUndefined"]

    def test_a_renamed_one_is_told_and_not_made_twice(self, host: Host) -> None:
        host.compute.stop("web", timeout=0)
        machine = host.compute.machines.pop("web")
        machine.persistent = machine.persistent.replace("<name>web<", "<name>web-old<")
        host.compute.machines["web-old"] = machine
        host.guard()
        assert set(host.compute.machines) == {"web-old"}
        assert told(host)["code"] == "MachineRenamed"
        assert "virsh domrename web-old web" in told(host)["remedy"]


def demoted(world: World) -> Host:
    booted(world)
    world.undo(world.remembered())
    return world.west


def deleted_after_failback(world: World) -> Host:
    reversed_(world)
    world.fail_over(planned=True)
    world.commit()
    world.reprotect(keep_machine=False)
    world.replicate(2)
    return world.west


def deleted_before(world: World) -> Host:
    """It was gone already when it was to be deleted."""
    reversed_(world)
    world.fail_over(planned=True)
    world.commit()
    undefined(world.west)
    world.reprotect(keep_machine=False)
    return world.west


GONE = {
    "by an undo": demoted,
    "by a reprotect after failback": deleted_after_failback,
    "by somebody, before a reprotect after failback": deleted_before,
}


class TestMeantToGo:
    @pytest.mark.parametrize("gone", GONE.values(), ids=GONE)
    def test_what_homeport_took_away_stays_away(
        self, world: World, gone: Callable[[World], Host]
    ) -> None:
        host = gone(world)
        for _ in range(2):
            assert news(host) == []
            host.restart()
        assert "web" not in host.compute.machines

    def test_a_target_that_never_had_one_gets_none(self, world: World) -> None:
        protected(world)
        assert news(world.west) == []
        assert not world.west.compute.machines

    def test_a_released_one_may_be_undefined(self, world: World) -> None:
        protected(world)
        world.disable()
        undefined(world.east)
        assert news(world.east) == []
        assert not world.east.compute.machines

    def test_no_death_on_the_way_brings_it_back(self, world: World) -> None:
        booted(world)
        demote = ops.Demote(item=ITEM, epoch=world.epoch + 1)
        deaths = 0
        for effect in range(40):
            life = Mortal(effect % 7, before=effect % 2 == 0)
            gone = not world.west.compute.machines
            with suppress(CrashError), life.living():
                world.west.order(demote)
                break
            deaths += 1
            gone = gone or not world.west.compute.machines
            world.west.restart()
            world.west.guard()
            assert gone == (not world.west.compute.machines)
        world.west.order(demote)
        assert deaths > 3
        assert news(world.west) == []
        assert not world.west.compute.machines


class TestUnfenceAtOnce:
    def test_a_machine_undefined_a_moment_ago_is_defined_before_it_starts(
        self, world: World
    ) -> None:
        booted(world)
        truth = world.remembered()
        undefined(world.east)
        world.undo(truth)
        assert world.east.compute.state("web") is PowerState.RUNNING
        world.replicate(2)
        assert told(world.east) == {}


def no_note(host: Host) -> None:
    host.compute.set_note("web", None)


def note_may_start(host: Host) -> None:
    note_on(host, may_start=True)


def autostart(host: Host) -> None:
    host.compute.set_autostart("web", on=True)


def other_disk(host: Host) -> None:
    path = host.pool / "other.raw"
    path.write_bytes(bytes(MiB))
    host.compute.set_sources("web", {"vda": path}, formats={"vda": "raw"})
    path.unlink()


def no_disk(host: Host) -> None:
    machine = host.compute.machines["web"]
    root = ET.fromstring(machine.persistent)
    devices = root.find("devices")
    assert devices is not None
    devices.remove(devices.findall("disk")[1])
    machine.persistent = ET.tostring(root, encoding="unicode")


TAMPERED: dict[str, tuple[Callable[[Host], None], str]] = {
    "its note is gone": (no_note, "LockRemoved"),
    "its note allows a start": (note_may_start, "LockRemoved"),
    "autostart is on": (autostart, "AutostartSet"),
    "a disk is another file": (other_disk, "DefinitionChanged"),
    "a disk is detached": (no_disk, "DefinitionChanged"),
}


class TestFenced:
    @pytest.mark.parametrize(("tamper", "code"), TAMPERED.values(), ids=TAMPERED)
    def test_what_was_changed_is_put_right_and_told(
        self, world: World, tamper: Callable[[Host], None], code: str
    ) -> None:
        failed_over(world)
        host = world.east
        host.order(ops.Fence(item=ITEM, epoch=world.epoch, lock="lock"))
        before, sources = host.compute.note("web"), host.compute.sources("web").persistent
        tamper(host)
        assert news(host) == [code]
        assert host.compute.note("web") == before
        assert host.compute.sources("web").persistent == sources
        assert not host.compute.machines["web"].autostart
        assert told(host)["code"] == code
        assert news(host) == []

    def test_another_lock_is_told_and_left(self, world: World) -> None:
        reversed_(world)
        note = note_on(world.east, lock="SiteRecovery-other-homeport-east", may_start=True)
        world.east.compute.set_autostart("web", on=True)
        assert news(world.east) == []
        assert world.east.compute.note("web") == note
        assert told(world.east)["code"] == "ForeignLock"
        assert "SiteRecovery-other" in told(world.east)["message"]

    def test_one_that_was_started_against_our_will_is_told_and_runs(self, world: World) -> None:
        failed_over(world)
        machine = world.east.compute.machines["web"]
        machine.live, machine.state = machine.persistent, PowerState.RUNNING
        world.east.guard()
        assert told(world.east)["code"] == "FencedMachineRuns"
        assert world.east.compute.state("web") is PowerState.RUNNING
        world.east.compute.stop("web", timeout=0)
        world.east.guard()
        assert told(world.east) == {}

    def test_a_fence_cut_short_is_finished(self, world: World) -> None:
        protected(world)
        fence = ops.Fence(item=ITEM, epoch=2)
        with suppress(CrashError), Mortal(1).living():  # the ledger says so, the machine runs on
            world.east.order(fence)
        world.east.restart()
        assert world.east.ledger.role is Role.FENCED
        assert world.east.guard() == ["unfenced"]
        assert told(world.east) == {}, "nobody did anything from outside"
        assert world.east.compute.state("web") is PowerState.OFF
        note = world.east.compute.note("web")
        assert note is not None
        assert not note.may_start

    def test_autostart_of_a_source_is_the_users_wish_and_given_back(self, world: World) -> None:
        protected(world)
        autostart(world.east)
        assert news(world.east) == ["AutostartSet"]
        assert not world.east.compute.machines["web"].autostart
        world.disable()
        assert world.east.compute.machines["web"].autostart


def dies(*_args: Any, **_facts: Any) -> None:
    raise CrashError("in the middle of it")


class TestOurApi:
    @pytest.mark.parametrize(
        ("kind", "made"), [("start-machine", MachineName), ("delete-machine", DeleteMachine)]
    )
    @pytest.mark.parametrize("tamper", [None, no_note, note_may_start])
    @pytest.mark.parametrize("begin", [failed_over, reversed_])
    def test_a_locked_machine_is_refused_before_the_guard_has_come_by(
        self,
        world: World,
        begin: Change,
        tamper: Callable[[Host], None] | None,
        kind: str,
        made: Any,
    ) -> None:
        begin(world)
        if tamper is not None:
            tamper(world.east)
        with pytest.raises(RefusedError) as refused:
            world.east.order(made(name="web"), kind)
        assert refused.value.code == "MachineLocked"
        assert world.east.compute.state("web") is PowerState.OFF

    def test_a_machine_of_no_item_may_come_and_go(self, world: World) -> None:
        protected(world)
        world.east.compute.define(machine_xml(name="own", uuid=str(uuid.UUID(int=9))))
        world.east.order(MachineName(name="own"), "start-machine")
        assert world.east.compute.state("own") is PowerState.RUNNING
        world.east.order(DeleteMachine(name="own"))
        assert world.east.compute.state("own") is PowerState.ABSENT


class TestSettled:
    def test_a_commit_cut_short_with_its_machine_is_finished_without_an_order(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        protected(world)
        for number in range(2):
            world.write("vda", number * 20 * KiB, bytes([number + 1]) * 9000)
            world.clock.pass_time(5)
            world.running.one_pass()
        world.standby.one_pass()
        world.running.compute.stop("web", timeout=0)
        with monkeypatch.context() as patched:
            patched.setattr(committing, "commit_down", dies)
            with pytest.raises(CrashError):
                world.running.one_pass()
        world.running.restart()
        assert world.running.ledger.committing is not None
        assert world.running.guard() == ["unsettled"]
        assert world.running.ledger.committing is None
        found = world.running.compute.read("web", "vda", 0, MiB)
        same(found, world.remembered()["web-vda"], "vda")
        assert world.running.guard() == []

    def test_it_is_looked_at_once_in_a_life(self, world: World) -> None:
        off(world)
        world.east.restart()
        assert world.east.guard() == ["unsettled"]
        assert world.east.guard() == []
