"""What the lab is made of, and what of it is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport.lab import packages
from homeport.lab.errors import MissingPackagesError
from homeport.model.machine import Firmware

WANTED = {"iproute2": "ip", "syslinux-common": "/usr/lib/syslinux/mbr/mbr.bin", "cpio": "cpio"}


def test_nothing_is_missing_where_all_is_there() -> None:
    assert packages.missing(WANTED, lambda _: True) == []
    packages.require(WANTED, lambda _: True)


def test_only_a_guest_that_boots_by_uefi_needs_its_packages() -> None:
    assert packages.guest_packages(Firmware.BIOS) == packages.GUEST_PACKAGES
    more = set(packages.guest_packages(Firmware.UEFI)) - set(packages.GUEST_PACKAGES)
    assert more == {"ovmf", "syslinux-efi"}


def test_missing_packages_are_sorted_by_name() -> None:
    assert packages.missing(WANTED, lambda what: what == "ip") == ["cpio", "syslinux-common"]


def test_the_error_names_one_line_that_installs_them_all() -> None:
    with pytest.raises(MissingPackagesError) as caught:
        packages.require(WANTED, lambda what: what.startswith("/"))
    assert caught.value.packages == ("cpio", "iproute2")
    assert caught.value.remedy.endswith("apt-get install --no-install-recommends cpio iproute2")
    assert caught.value.code == "MissingPackages"


def test_files_are_looked_for_as_files_and_programs_as_programs(tmp_path: Path) -> None:
    file = tmp_path / "there"
    file.touch()
    assert packages.present_here(str(file))
    assert not packages.present_here(str(tmp_path / "absent"))
    assert packages.present_here("sh")
    assert not packages.present_here("no-such-program-anywhere")


def test_administrators_programs_are_found_with_a_users_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert packages.present_here("sh")


@pytest.mark.parametrize("listed", [packages.HOST_PACKAGES, packages.GUEST_PACKAGES])
def test_every_package_has_a_witness(listed: dict[str, str]) -> None:
    assert listed
    assert all(listed.values())
