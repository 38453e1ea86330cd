"""
Reprotect to a machine that runs on at the old side, its resync held up in the middle.

The old side was cut off, its machine was fenced when it was back, and somebody started it again by
hand all the same: what it writes is nobody's but its own.
"""

from __future__ import annotations

import shutil

import pytest

from homeport.errors import RefusedError
from homeport.lab.evidence import records_in_image
from homeport.lab.stage import EAST, GUEST, WEST
from homeport.model.machine import PowerState
from homeport.model.position import Position
from homeport.model.review import Review
from homeport.providers.compute import hook as hooks
from tests.acceptance.images import bytes_in
from tests.acceptance.looking import booted_aside
from tests.acceptance.pair import Pair

pytestmark = [pytest.mark.real, pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(300)]


def left_behind(pair: Pair) -> None:
    """Cut off, the machine runs on in east while it is failed over; then east is heard again."""
    pair.begin_in(EAST)
    pair.stage.lab.cut(EAST)
    pair.fail_over()
    with pair.stage.domain(EAST) as found:
        assert found.domain.isActive(), "a host that is cut off runs on"
    pair.commit()
    pair.stage.lab.heal(EAST)


def started_by_hand(pair: Pair) -> None:
    """The fence has come; a person takes the hook away and starts the machine."""
    pair.until(lambda: pair.power(EAST) is PowerState.OFF, "the fence in east")
    hook = pair.stage.lab.host_folder(EAST).hooks / "qemu.d" / hooks.NAME
    aside = shutil.move(hook, pair.scratch / hook.name)
    try:
        status, said = pair.virsh(EAST, "start", GUEST)
    finally:
        shutil.copy(aside, hook)
    assert status == 0, said
    seen = pair.stage.acks(EAST).last("data")
    pair.until(lambda: pair.stage.acks(EAST).last("data") > seen, "the guest in east to write on")


def inodes(pair: Pair) -> dict[str, int]:
    """Which file each disk is: another one would be a copy."""
    files = pair.files(EAST)
    return {disk: files.base(disk).stat().st_ino for disk in files.disks}


def check_review(review: Review) -> None:
    assert review.way.value == "exact", review.reason
    assert f"switched off: {GUEST}" in review.machine
    assert f"kept and locked until failback: {GUEST}" in review.machine
    for disk in review.disks:
        words = " ".join(disk.actions)
        assert f"{disk.disk} becomes {disk.disk}-ASRReplica; no byte of it is copied" in words
        assert f"{disk.disk}-unsent-" in words


def check_names(pair: Pair) -> None:
    """The originals' names are free, and the replicas are the very same files."""
    files = pair.files(EAST)
    for disk in files.disks:
        base = files.base(disk)
        assert base.name == f"{disk}-ASRReplica.raw"
        assert base.exists()
        assert not base.with_name(f"{disk}.raw").exists()


def check_locked(pair: Pair) -> None:
    """Off, and not to be started or deleted: by API, command line, or libvirt itself."""
    assert pair.power(EAST) is PowerState.OFF
    for refused in (pair.client.start_vm, pair.client.delete_vm):
        with pytest.raises(RefusedError) as told:
            refused(EAST, GUEST)
        assert told.value.code == "MachineLocked"
        assert told.value.remedy
    assert "MachineLocked" in pair.cli("vm", "start", f"{EAST}/{GUEST}", "--json", code=4)
    status, said = pair.virsh(EAST, "start", GUEST)
    assert status != 0
    assert "Homeport denies" in said
    assert f"SiteRecovery-{pair.client.health().vault}-" in pair.virsh(EAST, "dumpxml", GUEST)[1]


def test_a_machine_that_runs_is_switched_off_and_its_disks_are_replicas_without_a_copy(
    pair: Pair,
) -> None:
    left_behind(pair)
    started_by_hand(pair)
    review = pair.review()
    check_review(review)
    common = review.plan.common
    assert common is not None
    files, before = inodes(pair), pair.digests(EAST, common)
    old = pair.raw(EAST, common)
    with pair.store_cut(WEST, seen_from=EAST):
        job = pair.client.reprotect(GUEST)
        pair.shipped(job)
        in_store = bytes_in(pair.stage.store(WEST))
        assert pair.client.item(GUEST).state == "Resyncing"
        assert all(point <= common for point in pair.points())
        check_names(pair)
        assert inodes(pair) == files
        assert pair.digests(EAST, common) == before
        check_locked(pair)
        with booted_aside(pair, EAST, common) as held:
            at_common = records_in_image(pair.files(EAST).top("web-data", common)[0])
            assert held["data"] == at_common[-1]
            booted = pair.held_at_boot(WEST)  # of the same point, or one before it
            assert all(booted[disk] <= held[disk] for disk in held)
        wrote = pair.stage.acks(WEST).last("data")
    report = pair.done(job)
    assert report.result is not None
    assert report.result["way"] == "exact"
    differ = pair.sent_exactly(old, Position.parse(report.result["point"]))
    assert in_store <= differ * 1.05
    point = pair.newer_point()
    landed = records_in_image(pair.files(EAST).top("web-data", point)[0])
    assert list(landed) == list(range(landed[0], landed[-1] + 1))
    assert landed[-1] >= wrote, "what was written during the resync is in the next point"
    check_unsent(pair)
    pair.records(WEST)


def check_unsent(pair: Pair) -> None:
    """All that the machine in east had acknowledged, before and after its fence, is kept."""
    last = pair.stage.acks(EAST).last("data")
    (image,) = [one for one in pair.client.unsent(GUEST) if one.disk == "web-data"]
    kept = records_in_image(pair.outside(EAST, image.path))
    assert list(kept) == list(range(kept[0], kept[-1] + 1))
    assert kept[-1] >= last
