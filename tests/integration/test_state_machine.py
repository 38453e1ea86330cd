"""
Two sites under anything that may happen to them, in any order.

A guest writes, passes run, agents and machines die, points are booted, changed, undone, committed,
reversed. Whatever the order: each listed point equals the disks remembered at its moment, what is
set aside holds what the dead side had, the running machine has what its guest wrote, and no file is
left over.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from homeport.errors import RefusedError
from homeport.model import operations as ops
from homeport.model.machine import PowerState
from homeport.model.machine_orders import MachineName
from homeport.model.planning import Way
from homeport.model.position import Position
from homeport.units import KiB, MiB
from tests.world import ITEM, Host, World, read_image
from tests.worldchecks import (
    check_files,
    check_images,
    check_points,
    check_released,
    check_running,
    check_unsent,
    same,
    set_aside,
)

pytestmark = pytest.mark.real

SIZE = MiB
DEVS = ("vda", "vdb")
PROTECTED, PENDING, COMMITTED, RESYNCING = "protected", "pending", "committed", "resyncing"


def scratch() -> Path:
    """Memory where there is some: what survives a process is tested, not what survives power."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))


def in_phase(*phases: str) -> Any:
    return precondition(lambda self: self.phase in phases)


def without_test() -> Any:
    return precondition(lambda self: self.world.standby.ledger.test is None)


class TwoSites(RuleBasedStateMachine):
    """The world, and what it must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.root = scratch()
        self.phase = ""
        self.remembered: dict[Position, dict[str, bytes]] = {}
        self.aside: dict[tuple[str, str], bytes] = {}
        self.left: dict[str, bytearray] = {}  # the disks of the side that lost the machine
        self.cut_off = False  # that side runs on, not knowing
        self.writes = 0

    @initialize(formats=st.sampled_from([("qcow2", "raw"), ("raw", "qcow2")]))
    def protect(self, formats: tuple[str, str]) -> None:
        self.world = World(self.root, formats=dict(zip(DEVS, formats, strict=True)), size=SIZE)
        self._write(self.world.running, self.world.truth["vda"], "vda", 3 * KiB, 9000)
        self.world.protect()
        self.phase = PROTECTED
        self._note_capture(self.world.running)
        self.world.replicate(1)
        self._note_capture(self.world.running)

    def teardown(self) -> None:
        try:
            if self.phase:
                self.look_closely()
                self._disable()
        finally:
            shutil.rmtree(self.root)
            self.remembered.clear()  # 3 MiB a point, and hypothesis keeps what it has run

    # -- the guest --

    @precondition(lambda self: self._runs(self.world.running))
    @rule(
        dev=st.sampled_from(DEVS),
        offset=st.integers(0, SIZE - 1),
        length=st.integers(1, 40 * KiB),
    )
    def write(self, dev: str, offset: int, length: int) -> None:
        self._write(self.world.running, self.world.truth[dev], dev, offset, length)

    @precondition(lambda self: self._runs(self.world.running))
    @rule(
        dev=st.sampled_from(DEVS),
        block=st.integers(0, SIZE // (4 * KiB) - 1),
        count=st.integers(1, 40),
    )
    def discard(self, dev: str, block: int, count: int) -> None:
        offset = block * 4 * KiB
        length = min(count * 4 * KiB, len(self.world.truth[dev]) - offset)
        self.world.zero(dev, offset, length)

    @precondition(lambda self: self._runs(self.world.running))
    @rule(dev=st.sampled_from(DEVS), more=st.sampled_from([4 * KiB, 64 * KiB, 66 * KiB - 512]))
    def resize(self, dev: str, more: int) -> None:
        truth = self.world.truth[dev]
        if len(truth) + more <= 2 * SIZE:
            truth += bytes(more)
            self.world.running.compute.resize("web", dev, len(truth))

    @precondition(lambda self: self.cut_off and self._runs(self.world.standby))
    @rule(dev=st.sampled_from(DEVS), offset=st.integers(0, SIZE - 1))
    def write_where_it_was_lost(self, dev: str, offset: int) -> None:
        self._write(self.world.standby, self.left[f"web-{dev}"], dev, offset, 5000)

    # -- time, passes and deaths --

    @rule()
    def pass_of_source(self) -> None:
        if self.world.compares:
            self.both_sides()
            return
        self.world.clock.pass_time(self.world.policy.interval.total_seconds())
        if self.phase in (PROTECTED, RESYNCING):
            self.world.running.one_pass()
            self._note_capture(self.world.running)

    @rule()
    def pass_of_target(self) -> None:
        if not self.cut_off and self.phase in (PROTECTED, RESYNCING):
            self.world.standby.one_pass()
            self._settle_phase()

    @in_phase(PROTECTED, RESYNCING)
    @rule()
    def both_sides(self) -> None:
        for _ in range(2):
            self.world.replicate(1)
            self._note_capture(self.world.running)
        self._settle_phase()

    @precondition(lambda self: self.cut_off)
    @rule()
    def pass_where_it_was_lost(self) -> None:
        self.world.clock.pass_time(self.world.policy.interval.total_seconds())
        self.world.standby.one_pass()
        self._note_capture(self.world.standby, {k: bytes(v) for k, v in self.left.items()})

    @rule(hours=st.sampled_from([1, 3, 26, 24 * 8]))
    def time_passes(self, hours: int) -> None:
        self.world.clock.pass_time(timedelta(hours=hours).total_seconds())

    @rule(which=st.sampled_from(["running", "standby"]))
    def agent_dies(self, which: str) -> None:
        getattr(self.world, which).restart()

    @rule()
    def machine_dies(self) -> None:
        """QEMU is killed, or the host: its agent notices nothing."""
        machine = self.world.running.compute.machines["web"]
        machine.live, machine.state = None, PowerState.CRASHED

    @precondition(lambda self: not self._runs(self.world.running))
    @rule()
    def machine_is_started(self) -> None:
        self.world.running.order(MachineName(name="web"), "start-machine")

    # -- operations --

    @in_phase(PROTECTED)
    @without_test()
    @rule(data=st.data(), how=st.sampled_from(["latest", "planned", "point", "source is cut off"]))
    def fail_over(self, data: st.DataObject, how: str) -> None:
        listed = [point.position for point in self.world.standby.ledger.points]
        if not listed or self.world.compares:
            return
        point = data.draw(st.sampled_from(listed)) if how == "point" else None
        self.left = {disk: bytearray(body) for disk, body in self.world.remembered().items()}
        if how == "planned":
            self.remembered[self._next_position()] = self.world.remembered()
        self.cut_off = how == "source is cut off"
        self.world.fail_over(point, planned=how == "planned", source_answers=not self.cut_off)
        self.phase = PENDING
        if how == "planned":
            assert self.world.remembered() == {k: bytes(v) for k, v in self.left.items()}

    @in_phase(PENDING)
    @rule(data=st.data())
    def change_point(self, data: st.DataObject) -> None:
        listed = [point.position for point in self.world.running.ledger.points]
        before = self.world.remembered()
        self.world.change_point(data.draw(st.sampled_from(listed)))
        self._note_aside(self.world.running, before)

    @in_phase(PENDING)
    @rule()
    def undo(self) -> None:
        before, new = self.world.remembered(), self.world.running
        self.world.undo({disk: bytes(body) for disk, body in self.left.items()})
        self._note_aside(new, before)
        self.phase, self.cut_off = PROTECTED, False

    @in_phase(PENDING)
    @rule()
    def commit(self) -> None:
        self.world.commit()
        self.phase = COMMITTED

    @in_phase(COMMITTED, RESYNCING)
    @rule(way=st.sampled_from([None, None, Way.DIFFERENTIAL, Way.FULL]), keep=st.booleans())
    def reprotect(self, way: Way | None, keep: bool) -> None:
        old = self.world.standby
        before = {disk: bytes(body) for disk, body in self.left.items()}
        keep = keep or old is self.world.east
        plan = self.world.reprotect(way=way, keep_machine=keep)
        if self.phase == COMMITTED:
            self._note_aside(old, before)
        for chain, unsent in set_aside(old):  # a whole disk that a full copy replaces
            if (old.name, unsent.path) not in self.aside:
                content = self.remembered[plan.common or Position(9, 9)][chain.name]
                self.aside[old.name, unsent.path] = content
        self._note_capture(self.world.running)
        self.phase, self.cut_off = RESYNCING, False

    @in_phase(PROTECTED)
    @rule(data=st.data(), offset=st.integers(0, SIZE - 1))
    def test_boot(self, data: st.DataObject, offset: int) -> None:
        host = self.world.standby
        listed = [point.position for point in host.ledger.points]
        if not listed or host.ledger.test is not None:
            return
        position = data.draw(st.sampled_from(listed))
        host.order(ops.TestBoot(item=ITEM, position=position, machine="web-test", guest_timeout=0))
        for dev in DEVS:
            top = Path(host.compute.sources("web-test").live[dev])
            same(read_image(top, "qcow2"), self.remembered[position][f"web-{dev}"], str(top))
        size = len(self.remembered[position]["web-vda"])
        host.compute.write("web-test", "vda", (min(offset, size - 100), b"a test writes" * 7))

    @precondition(lambda self: self.world.standby.ledger.test is not None)
    @rule()
    def test_cleanup(self) -> None:
        self.world.standby.order(ops.TestCleanup(item=ITEM, machine="web-test"))
        assert self.world.standby.compute.state("web-test") is PowerState.ABSENT

    # -- what must hold --

    @invariant()
    def files_are_known(self) -> None:
        """And what has expired is forgotten: its name may be used again."""
        if self.phase:
            hosts = (self.world.east, self.world.west)
            for host in hosts:
                check_files(host)
            there = {(host.name, one.path) for host in hosts for _, one in set_aside(host)}
            self.aside = {key: body for key, body in self.aside.items() if key in there}

    @rule()
    def look_closely(self) -> None:
        check_running(self.world.running, self.world.remembered())
        if self.left and self.phase in (PENDING, COMMITTED):
            check_running(self.world.standby, self.left)
        for host in (self.world.east, self.world.west):
            check_points(host, self.remembered)
            check_unsent(host, self.aside)
            check_images(host)

    # -- helpers --

    def _runs(self, host: Host) -> bool:
        return host.compute.state("web") is PowerState.RUNNING

    def _write(self, host: Host, truth: bytearray, dev: str, offset: int, length: int) -> None:
        self.writes += 1
        body = (f"{self.writes}.".encode() * length)[: min(length, len(truth) - offset)]
        host.compute.write("web", dev, (offset, body))
        truth[offset : offset + len(body)] = body

    def _note_capture(self, host: Host, disks: dict[str, bytes] | None = None) -> None:
        """A point that was just taken is what the disks are now."""
        newest = host.ledger.newest_captured
        if newest is not None:
            self.remembered.setdefault(newest, disks or self.world.remembered())

    def _note_aside(self, host: Host, content: dict[str, bytes]) -> None:
        """New images set aside hold what the disks were; without one nothing had been written."""
        for chain, unsent in set_aside(host):
            if "-unsent-" in unsent.path:
                self.aside.setdefault((host.name, unsent.path), content[chain.name])

    def _settle_phase(self) -> None:
        if self.phase == RESYNCING and not self.world.standby.ledger.resyncing:
            self.phase = PROTECTED

    def _next_position(self) -> Position:
        newest = self.world.running.ledger.newest_captured
        assert newest is not None
        return newest.next() if newest.epoch == self.world.epoch else Position(self.world.epoch, 1)

    def _disable(self) -> None:
        """Everything goes, except the machine where it runs."""
        if self.phase == PENDING:
            self.commit()
        world = self.world
        try:
            owner, other = world.disable()
        except RefusedError as refused:
            if refused.code != "LongerBase":
                raise
            world.running.compute.stop("web", timeout=0)  # as the remedy has it
            owner, other = world.disable()
        assert not owner.left
        assert not other.left
        names = {f"web-{dev}": f"web-{dev}.{kind}" for dev, kind in world.formats.items()}
        check_released(world.running, world.remembered(), names)
        if world.standby is world.west:
            check_released(world.standby, None, names)


def run(*, examples: int, steps: int, derandomize: bool) -> None:
    run_state_machine_as_test(
        TwoSites,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=derandomize,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def test_anything_in_any_order() -> None:
    run(examples=5, steps=25, derandomize=True)


@pytest.mark.long
@pytest.mark.timeout(3600)
class TestForLong:
    """Two classes, so that two workers may have them."""

    @pytest.mark.parametrize("steps", [40, 50, 60, 70])
    def test_anything_in_any_order(self, steps: int) -> None:
        run(examples=16, steps=steps, derandomize=False)


@pytest.mark.long
@pytest.mark.timeout(3600)
class TestForLonger:
    @pytest.mark.parametrize("steps", [45, 55, 65, 75])
    def test_anything_in_any_order(self, steps: int) -> None:
        run(examples=17, steps=steps, derandomize=False)
