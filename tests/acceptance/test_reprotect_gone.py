"""Reprotect to a side whose machine is gone, with its disks there or gone too."""

from __future__ import annotations

import shutil

import pytest

from homeport.lab.stage import EAST, GUEST
from homeport.model.planning import Way
from homeport.model.position import Position
from tests.acceptance.images import freed
from tests.acceptance.pair import Pair

pytestmark = [pytest.mark.real, pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(300)]


def undefined(pair: Pair) -> None:
    """Failed over to west; in east somebody has undefined the machine, unseen by the agent."""
    pair.begin_in(EAST)
    pair.fail_over()
    pair.commit()
    pair.stage.lab.kill_process(EAST, "agent", again=False)
    status, said = pair.virsh(EAST, "undefine", GUEST)
    assert status == 0, said
    assert GUEST not in pair.stage.machines(EAST)


def back_home(pair: Pair) -> None:
    """It can fail back: machine, disks in order and cards as they were at first."""
    pair.same_at_both()
    last = pair.stage.acks(pair.here)
    pair.fail_over(planned=True)
    first, now = pair.first[GUEST], pair.shape(EAST)
    assert {key: now[key] for key in ("name", "uuid", "memory", "vcpus", "macs")} == {
        key: first[key] for key in ("name", "uuid", "memory", "vcpus", "macs")
    }
    for disk in pair.records(EAST).disks:
        assert disk.last > last.last(disk.disk)
    pair.commit()
    pair.reprotect()


def test_with_the_machine_gone_its_disks_are_used(pair: Pair) -> None:
    undefined(pair)
    inodes = {disk: pair.files(EAST).base(disk).stat().st_ino for disk in pair.sizes}
    pair.stage.lab.start_process(EAST, "agent")
    pair.stage.wait_alive(pair.client, EAST)
    review = pair.review()
    assert review.way is Way.EXACT, review.reason
    result = pair.done(pair.start_reprotect()).result or {}
    assert result["way"] == "exact"
    assert inodes == {disk: pair.files(EAST).base(disk).stat().st_ino for disk in pair.sizes}
    back_home(pair)


def test_with_machine_and_disks_gone_new_replicas_are_filled(pair: Pair) -> None:
    for one in pair.client.unsent(GUEST):  # else the vault would list for good what goes by hand
        pair.client.discard_unsent(GUEST, one.disk, image=one.image)
    undefined(pair)
    for path in pair.images(EAST).rglob("*"):
        freed(path)
    for path in pair.images(EAST).iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    pair.stage.lab.start_process(EAST, "agent")
    pair.stage.wait_alive(pair.client, EAST)
    review = pair.review()
    assert review.way is Way.FULL
    for disk in review.disks:
        assert disk.actions == (f"created: {disk.disk}-ASRReplica",)
        assert disk.sends > 0
    result = pair.done(pair.start_reprotect()).result or {}
    assert result["way"] == "full"
    point = Position.parse(result["point"])
    assert point in pair.points()
    back_home(pair)
