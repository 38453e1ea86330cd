"""What goes into the guest's images."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from homeport.lab import guestimage
from homeport.lab.guestimage import GuestConfig, GuestSpec
from homeport.model.machine import Firmware
from homeport.units import MiB

LDD = """\
\tlinux-vdso.so.1 (0x00007f4957410000)
\tlibudev.so.1 => /lib/x86_64-linux-gnu/libudev.so.1 (0x00007f49572d9000)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f4956ec3000)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f4957412000)
"""


def test_libraries_are_files_only_and_include_the_loader() -> None:
    assert [str(path) for path in guestimage.libraries(LDD)] == [
        "/lib/x86_64-linux-gnu/libudev.so.1",
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/lib64/ld-linux-x86-64.so.2",
    ]
    assert guestimage.libraries("\tstatically linked\n") == []


def test_the_boot_menu_waits_for_nobody_and_carries_the_configuration() -> None:
    menu = guestimage.boot_menu(GuestConfig(hostname="web", rate=7)).splitlines()
    assert "PROMPT 0" in menu
    append = next(line for line in menu if line.strip().startswith("APPEND")).split()
    assert {"homeport.hostname=web", "homeport.rate=7", "console=ttyS0"} <= set(append)


@pytest.mark.parametrize("image_format", ["vmdk", "", "RAW"])
def test_other_formats_are_refused(image_format: str) -> None:
    with pytest.raises(ValueError, match="raw or qcow2"):
        GuestSpec(image_format=image_format)


def test_the_key_changes_with_sizes_and_with_every_source() -> None:
    small, large = GuestSpec(), GuestSpec(data_size=1024 * MiB)
    keys = {
        guestimage.image_key(small, [b"a", b"b"]),
        guestimage.image_key(large, [b"a", b"b"]),
        guestimage.image_key(small, [b"a", b"c"]),
        guestimage.image_key(small, [b"ab"]),
        guestimage.image_key(small, [b"b", b"a"]),
    }
    assert len(keys) == 5
    assert guestimage.image_key(small, [b"a", b"b"]) in keys


def test_formats_share_one_built_image() -> None:
    raw, qcow2 = GuestSpec(), GuestSpec(image_format="qcow2")
    assert guestimage.image_key(raw, [b"a"]) == guestimage.image_key(qcow2, [b"a"])


def test_the_firmwares_have_images_of_their_own() -> None:
    bios, uefi = GuestSpec(), GuestSpec(firmware=Firmware.UEFI)
    assert guestimage.image_key(bios, [b"a"]) != guestimage.image_key(uefi, [b"a"])


def test_every_script_has_its_place_and_every_place_its_script() -> None:
    shipped = {path.name for path in guestimage.SCRIPTS.iterdir()}
    assert shipped == {"init", *guestimage._ROOT_PLACES}


@pytest.mark.parametrize("script", sorted(guestimage.SCRIPTS.iterdir()), ids=lambda path: path.name)
def test_scripts_say_what_they_are_for(script: Path) -> None:
    lines = script.read_text().splitlines()
    if lines[0].startswith("#!"):
        assert lines[0] == "#!/bin/sh"
        assert lines[1].startswith("# ")


def test_copies_are_whole_sparse_and_replace(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(8 * MiB)
        file.seek(4 * MiB)
        file.write(b"x")
    target.write_text("older")
    guestimage.copy_sparse(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 < 1 * MiB
    assert {path.name for path in tmp_path.iterdir()} == {"source", "target"}


def test_what_is_put_into_the_guest_may_be_run(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("x")
    guestimage._put(tmp_path / "root", tmp_path / "tool", "/sbin/tool")
    assert stat.S_IMODE((tmp_path / "root/sbin/tool").stat().st_mode) == 0o755
