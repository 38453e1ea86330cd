"""
A guest that boots by UEFI, on qcow2 disks: its variables go with it, there and back.

Read in the guest by efivarfs, and outside as the bytes of the file that QEMU has as its flash.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from homeport.lab import proofs
from homeport.lab.guestagent import run_in_guest
from homeport.lab.guests import wait_for_guest
from homeport.lab.layout import POOL_INSIDE
from homeport.lab.stage import EAST, GUEST, WEST
from homeport.model.machine import Firmware
from tests.acceptance.pair import Pair

pytestmark = [pytest.mark.real, pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(900)]
CHANGING = ("disks", "notes")
"""Of a machine's shape, what is Homeport's own while the machine is protected."""


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = Pair(
        name="firmware",
        scratch=tmp_path_factory.mktemp("firmware"),
        image_format="qcow2",
        firmware=Firmware.UEFI,
    )
    try:
        yield pair
    finally:
        pair.close()


@pytest.fixture
def uefi(standing: Pair) -> Pair:
    """The pair with its item protected, the guest in east."""
    if not standing.sound:
        standing.close()
        standing.open()
    standing.begin_in(EAST)
    return standing


def set_variable(pair: Pair, name: str, value: str) -> None:
    """In the guest, where it runs now; and on the disk beneath QEMU, or no copy could have it."""
    site = pair.here
    with pair.stage.domain(site) as found:
        assert run_in_guest(found.domain, ["/sbin/variable", "set", name, value]).status == 0
    assert (name, value) in variables(pair, site)
    assert is_in_file(pair, site, name)


def variables(pair: Pair, site: str) -> set[tuple[str, str]]:
    """The lab's own variables by name with their values, by the guest's account."""
    with pair.stage.domain(site) as found:
        wait_for_guest(found.domain)  # its agent comes after its first records
        answer = run_in_guest(found.domain, ["/sbin/variable", "list"])
    assert answer.status == 0
    pairs = [line.split("=", 1) for line in answer.output.splitlines()]
    return {(name, value) for name, value in pairs}


def variables_file(pair: Pair, site: str) -> Path:
    """What the running QEMU has as its flash, from outside of the lab."""
    root = ET.fromstring(pair.virsh(site, "dumpxml", GUEST)[1])
    inside = Path(root.findtext("os/nvram", ""))
    library = POOL_INSIDE.parent
    return pair.images(site).parent / inside.relative_to(library)


def is_in_file(pair: Pair, site: str, name: str) -> bool:
    """Firmware keeps names in UTF-16."""
    return name.encode("utf-16-le") in variables_file(pair, site).read_bytes()


def all_files(pair: Pair, site: str) -> set[str]:
    """Names of every file of variables that a host has."""
    return {path.name for path in pair.images(site).parent.rglob("*.fd*")}


def lasting(shape: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in shape.items() if name not in CHANGING}


def test_an_older_point_boots_with_the_variables_of_its_time(uefi: Pair) -> None:
    set_variable(uefi, "OlderEast", "before the point")
    # One that is under way may have read the variables before.
    uefi.newer_point()
    chosen = uefi.newer_point()
    set_variable(uefi, "LaterEast", "after the point")
    uefi.newer_point()
    uefi.newer_point()
    uefi.fail_over(point=str(chosen))
    found = dict(variables(uefi, WEST))
    assert found["OlderEast"] == "before the point"
    assert "LaterEast" not in found
    assert not is_in_file(uefi, WEST, "LaterEast")
    uefi.records(WEST)
    uefi.commit()
    uefi.reprotect()
    uefi.same_at_both()


def test_variables_of_both_sides_come_home_and_the_machine_is_the_first(uefi: Pair) -> None:
    first = uefi.first[GUEST]
    own = variables_file(uefi, EAST)
    set_variable(uefi, "FromEast", "set before the failover")
    uefi.fail_over(planned=True)
    assert ("FromEast", "set before the failover") in variables(uefi, WEST)
    assert is_in_file(uefi, WEST, "FromEast")
    set_variable(uefi, "FromWest", "set in the recovery site")
    uefi.commit()
    uefi.reprotect()

    start = uefi.stage.acks_end(EAST)
    uefi.fail_over(planned=True)
    crossed = proofs.crossing(uefi.stage.acks(WEST), uefi.stage.acks(EAST, start))
    assert crossed.lost == {"os": 0, "data": 0}
    both = {("FromEast", "set before the failover"), ("FromWest", "set in the recovery site")}
    assert both <= variables(uefi, EAST)
    assert variables_file(uefi, EAST) == own
    assert all(is_in_file(uefi, EAST, name) for name, _ in both)
    assert lasting(uefi.shape(EAST)) == lasting(first)
    uefi.records(EAST)

    uefi.commit()
    uefi.reprotect()
    assert all_files(uefi, WEST) == set()
    uefi.nothing_orphaned()
    uefi.done(uefi.client.disable(GUEST))
    assert uefi.shape(EAST) == first
    assert (all_files(uefi, WEST), uefi.stage.left(WEST), uefi.stage.machines(WEST)) == (
        set(),
        [],
        [],
    )
    assert all_files(uefi, EAST) == {own.name}
    assert uefi.stage.left(EAST) == [f"{disk}.qcow2" for disk in sorted(uefi.sizes)]
    assert both <= variables(uefi, EAST)
    assert all(is_in_file(uefi, EAST, name) for name, _ in both)
