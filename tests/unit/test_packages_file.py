"""The list that `make packages` installs names everything that the lab says it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport.lab.packages import GUEST_PACKAGES, HOST_PACKAGES, UEFI_PACKAGES

LISTED = {
    line.strip()
    for line in Path(__file__)
    .parent.parent.parent.joinpath("scripts/packages.txt")
    .read_text()
    .splitlines()
    if line.strip() and not line.startswith("#")
}
ESSENTIAL = {"util-linux"}  # on every Debian


@pytest.mark.parametrize(
    "package", sorted({*HOST_PACKAGES, *GUEST_PACKAGES, *UEFI_PACKAGES} - ESSENTIAL)
)
def test_what_the_lab_needs_is_installed(package: str) -> None:
    assert package in LISTED
