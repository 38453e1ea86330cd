"""Writes that a lost site never sent: kept, told, read file by file, copied out, expired."""

from __future__ import annotations

from datetime import timedelta

import pytest

from homeport.lab.commands import run
from homeport.lab.evidence import records_in_image
from homeport.lab.stage import GUEST
from tests.acceptance.images import digest_of, flat
from tests.acceptance.pair import POLICY, Pair

pytestmark = [pytest.mark.real, pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(600)]
DISK = f"{GUEST}-data"


def lost_with_writes(pair: Pair) -> tuple[str, int]:
    """The site is lost after its store was, so that the guest's last writes were never sent."""
    site = pair.here
    pair.cut_store(site, seen_from=site)
    seen = pair.stage.acks(site).last("data")
    pair.until(lambda: pair.stage.acks(site).last("data") >= seen + 15, "writes that are not sent")
    pair.stage.lose(site)
    return site, pair.stage.acks(site).last("data")


def test_unsent_writes_are_kept_told_exported_and_expire(pair: Pair) -> None:
    expired(pair, pair.there)  # what earlier cases have left
    old, last = lost_with_writes(pair)
    start = pair.stage.acks_end(pair.there)
    pair.fail_over()
    held = pair.held_at_boot(pair.here, start=start)["data"]
    assert last >= held + 10
    pair.commit()
    receipt = pair.client.receipt(GUEST)
    assert (receipt.completed_at, receipt.missing_bytes, receipt.unsent) == (None, None, ())
    pair.stage.bring_back(old)
    pair.stage.wait_alive(pair.client, old)
    pair.reprotect(**pair.kept)

    receipt = pair.client.receipt(GUEST)
    assert receipt.completed_at is not None
    assert receipt.missing_bytes
    assert {one.disk for one in receipt.unsent} == {DISK, f"{GUEST}-os"}
    listed = {one["disk"]: one for one in pair.told("unsent", GUEST)}
    assert set(listed) == {DISK, f"{GUEST}-os"}
    assert listed[DISK]["site"] == old
    image = pair.outside(old, listed[DISK]["path"])
    kept = records_in_image(image)
    assert set(range(held + 1, last + 1)) <= set(kept), "every lost record is in it"
    told_by_file(pair)
    copied_out(pair, old, image.name)
    expired(pair, old)
    pair.records(pair.here)


def told_by_file(pair: Pair) -> None:
    read = pair.told("unsent", GUEST, "--files", "--disk", DISK)
    assert read["problems"] == {}
    (found,) = read["files"]
    changes = {
        one["path"]: one["change"] for system in found["file_systems"] for one in system["files"]
    }
    assert changes.get("/records/data.rec") == "changed", changes


def copied_out(pair: Pair, site: str, image: str) -> None:
    """A copy that needs nothing else has the image's content."""
    place = pair.images(site).parent / "copy.qcow2"
    inside = "/var/lib/libvirt/copy.qcow2"
    pair.cli("unsent", GUEST, "--disk", DISK, "--export", inside)
    try:
        assert "backing" not in run(["qemu-img", "info", place])
        (source,) = pair.images(site).rglob(image)
        copy = digest_of(flat(place, "qcow2", pair.scratch / "copy.raw"))
        assert copy == digest_of(flat(source, "qcow2", pair.scratch / "unsent.raw"))
    finally:
        place.unlink()


def expired(pair: Pair, site: str) -> None:
    """With their time over they go, and nothing of them is left on disk or in the ledger."""
    pair.client.change_policy(POLICY.name, unsent_retention=timedelta(seconds=1))
    try:
        pair.until(lambda: not pair.client.unsent(GUEST), "the images to expire")
        pair.until(lambda: not list(pair.images(site).rglob("*unsent*")), "their files to go")
        left = [one for one in pair.client.ledger() if one.kind == "unsent" and not one.gone_at]
        assert left == []
    finally:
        pair.client.change_policy(POLICY.name, unsent_retention=POLICY.unsent_retention)
