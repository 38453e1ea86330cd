"""UEFI variables: which file has them, and reading and writing it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from homeport.providers.compute import domain_xml, uefi
from tests.machines import machine_xml

FLASH = "<loader type='pflash'>/code.fd</loader>"


@pytest.mark.parametrize(
    ("firmware", "os", "expected"),
    [
        pytest.param("efi", "", "/libvirt/web_VARS.fd", id="libvirt chooses"),
        pytest.param("efi", "<nvram>/own.fd</nvram>", "/own.fd", id="asked by name, with a file"),
        pytest.param("", f"{FLASH}<nvram>/own.fd</nvram>", "/own.fd", id="all is named"),
        pytest.param("", FLASH, None, id="a flash without variables"),
        pytest.param("bios", "", None, id="BIOS by name"),
        pytest.param("", "", None, id="nothing said"),
    ],
)
def test_which_file_has_them(firmware: str, os: str, expected: str | None) -> None:
    root = domain_xml.parse(machine_xml(os=os, firmware=firmware))
    assert uefi.path_of(root, Path("/libvirt")) == (None if expected is None else Path(expected))


def test_what_no_start_has_made_yet_is_none(tmp_path: Path) -> None:
    assert uefi.read(tmp_path / "none.fd") is None


class Changing(type(Path())):  # type: ignore[misc] - the concrete class of this system
    """A file that somebody writes to while it is read: each look sees the next content."""

    looks: list[bytes]

    def read_bytes(self) -> bytes:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        pytest.param([b"same"], b"same", id="nobody writes"),
        pytest.param([b"half", b"whole", b"whole"], b"whole", id="a write in between"),
        pytest.param([b"%d" % n for n in range(99)], b"7", id="without end"),
    ],
)
def test_it_is_read_until_it_stands_still(
    tmp_path: Path, looks: list[bytes], expected: bytes
) -> None:
    path = Changing(tmp_path / "web.fd")
    path.looks = looks
    assert uefi.read(path) == expected


def test_they_are_put_in_place_whole_and_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "deep/web.fd"
    for content in (b"one", b"two"):
        uefi.write(path, content)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["web.fd"]


def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "web.fd"
    path.write_bytes(b"one")
    path.chmod(0o640)
    uefi.write(path, b"two")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"two", 0o640)


def test_a_file_that_is_replaced_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "web.fd"
    path.write_bytes(b"one")
    # Debian's libvirt-qemu; only root can give a file away
    owner = 64055 if os.geteuid() == 0 else os.geteuid()
    os.chown(path, owner, -1)
    uefi.write(path, b"two")
    assert (path.read_bytes(), path.stat().st_uid) == (b"two", owner)
