"""Failing back: nothing is lost, the machine is what it was at first, and west is tidied up."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from homeport.lab import proofs
from homeport.lab.stage import EAST, GUEST, WEST
from tests.acceptance.pair import Pair

pytestmark = [pytest.mark.real, pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(420)]


def definition(pair: Pair, site: str) -> dict[str, object]:
    """What a user calls the machine's configuration, from libvirt's own definition."""
    root = ET.fromstring(pair.virsh(site, "dumpxml", GUEST, "--inactive")[1])
    (cards,) = [root.findall("devices/interface")]
    return {
        **{key: root.findtext(key) for key in ("name", "uuid", "memory", "vcpu")},
        "os": ET.tostring(root.find("os")),  # type: ignore[arg-type]
        "targets": [one.get("dev") for one in root.iterfind("devices/disk/target")],
        "buses": [one.get("bus") for one in root.iterfind("devices/disk/target")],
        "macs": [one.find("mac").get("address") for one in cards],  # type: ignore[union-attr]
        "networks": [one.find("source").get("network") for one in cards],  # type: ignore[union-attr]
    }


def bases(pair: Pair, site: str) -> dict[str, tuple[str, int]]:
    """Each disk's base by name and format, with its size, as `homeport vm show` tells."""
    files = pair.files(site)
    return {
        disk: (files.base(disk).name, files.ledger.chain(disk).disk.size) for disk in files.disks
    }


def gone_from_west(pair: Pair) -> bool:
    return GUEST not in pair.stage.machines(WEST)


def test_a_failback_loses_nothing_and_gives_back_the_first_machine(pair: Pair) -> None:
    gives_back_the_first_machine(pair)


def gives_back_the_first_machine(pair: Pair) -> None:
    """The whole case, for disks of any format."""
    pair.begin_in(EAST)
    first, disks = definition(pair, EAST), bases(pair, EAST)
    ending = pair.image_format
    assert disks == {disk: (f"{disk}.{ending}", size) for disk, size in pair.sizes.items()}
    pair.fail_over(planned=True)
    pair.commit()
    pair.reprotect()
    start = pair.stage.acks_end(EAST)
    pair.fail_over(planned=True)
    pair.held_at_boot(EAST, start=start)
    crossed = proofs.crossing(pair.stage.acks(WEST), pair.stage.acks(EAST, start))
    assert crossed.lost == {"os": 0, "data": 0}
    assert crossed.acknowledged["data"] > 0
    assert definition(pair, EAST) == first
    assert bases(pair, EAST) == disks
    pair.records(EAST)
    pair.commit()

    kept = pair.review(keep_machine=True)
    assert f"kept and locked until failback: {GUEST}" in kept.machine
    review = pair.review()
    assert any(line.startswith(f"deleted: {GUEST} on {WEST}") for line in review.machine)
    assert GUEST in pair.stage.machines(WEST), "a review changes nothing"
    pair.cli("reprotect", GUEST)
    assert pair.client.item(GUEST).state == "Protected"
    assert gone_from_west(pair)
    pair.same_at_both()


def test_told_to_keep_it_west_keeps_its_machine_locked(pair: Pair) -> None:
    pair.begin_in(WEST)
    pair.fail_over(planned=True)
    pair.commit()
    pair.cli("reprotect", GUEST, "--keep-machine")
    assert GUEST in pair.stage.machines(WEST)
    status, said = pair.virsh(WEST, "start", GUEST)
    assert status != 0
    assert "Homeport denies" in said
