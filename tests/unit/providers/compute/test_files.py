"""Headers, chains, formats, and which files a process has open."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from homeport.dataplane.qcow2_header import rewrite_backing
from homeport.providers.compute import files, snapshots
from homeport.providers.compute.describing import Host
from homeport.providers.compute.files import ImageToolError, UnknownFormatOfDiskError, format_in
from homeport.providers.compute.images import (
    UnreadableImageError,
    chain,
    check_overlay,
    is_qcow2,
    read_image,
    same_file,
)
from homeport.providers.compute.open_files import true_top, written_files
from homeport.units import KiB, MiB
from tests.machines import SIZE, disk_xml, machine_xml, overlay, qcow2_file, raw_file


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """A chain, top first."""
    base = raw_file(tmp_path / "base.raw")
    first = overlay(tmp_path / "o1", base, "raw")
    return [overlay(tmp_path / "o2", first), first, base]


class TestImages:
    def test_a_chain_from_its_top(self, three: list[Path]) -> None:
        found = list(chain(three[0], "qcow2"))
        assert [image.path for image in found] == three
        assert [image.format for image in found] == ["qcow2", "qcow2", "raw"]
        assert {image.size for image in found} == {SIZE}
        assert [image.empty for image in found] == [True, True, False]

    def test_a_relative_backing_name_is_of_the_files_own_folder(self, tmp_path: Path) -> None:
        raw_file(tmp_path / "base.raw")
        (tmp_path / "sub").mkdir()
        top = overlay(tmp_path / "sub/o1", Path("../base.raw"), "raw")
        below = list(chain(top, "qcow2"))[1].path
        assert same_file(below, tmp_path / "base.raw")

    @pytest.mark.parametrize(
        ("size", "expected"), [(0, 0), (1, 512), (512, 512), (MiB + 1, MiB + 512)]
    )
    def test_a_raw_file_is_rounded_up_to_sectors(
        self, tmp_path: Path, size: int, expected: int
    ) -> None:
        assert read_image(raw_file(tmp_path / "a", size), "raw").size == expected

    def test_the_content_of_a_raw_file_is_not_believed(self, tmp_path: Path) -> None:
        disguised = qcow2_file(tmp_path / "a", 64 * MiB)
        assert is_qcow2(disguised)
        assert read_image(disguised, "raw").size == -(-disguised.stat().st_size // 512) * 512

    def test_internal_snapshots_are_counted(self, tmp_path: Path) -> None:
        path = qcow2_file(tmp_path / "a")
        for name in ("one", "two"):
            subprocess.run(["qemu-img", "snapshot", "-c", name, str(path)], check=True)
        assert read_image(path, "qcow2").snapshots == 2

    def test_encryption_is_seen(self, tmp_path: Path) -> None:
        path = qcow2_file(tmp_path / "a")
        assert not read_image(path, "qcow2").encrypted
        with path.open("r+b") as file:
            file.seek(32)  # the header's crypt_method; 2 is LUKS
            file.write(b"\0\0\0\2")
        assert read_image(path, "qcow2").encrypted

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            (None, "raw"),
            (None, "qcow2"),
            (b"", "qcow2"),
            (b"QFI\xfb", "qcow2"),
            (b"x" * 999, "qcow2"),
        ],
    )
    def test_what_is_no_image_is_named(
        self, tmp_path: Path, content: bytes | None, kind: str
    ) -> None:
        path = tmp_path / "bad"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UnreadableImageError, match="bad"):
            read_image(path, kind)

    @pytest.mark.parametrize("name", ["json:{}", "nbd://host/x"])
    def test_a_backing_file_that_is_no_file_is_named(self, tmp_path: Path, name: str) -> None:
        top = overlay(tmp_path / "o1", Path("x"), "raw")
        rewrite_backing(top, name, "raw")
        with pytest.raises(UnreadableImageError, match="not a local file"):
            list(chain(top, "qcow2"))

    def test_a_chain_in_a_circle_ends(self, tmp_path: Path) -> None:
        one = overlay(tmp_path / "o1", tmp_path / "o2")
        overlay(tmp_path / "o2", one)
        with pytest.raises(UnreadableImageError, match="leads back"):
            list(chain(one, "qcow2"))

    def test_a_fresh_overlay_fits(self, three: list[Path]) -> None:
        check_overlay(three[0], size=SIZE, below=three[1], below_format="qcow2")

    @pytest.mark.parametrize("other", [None, "/nowhere"])
    def test_no_file_is_the_same_as_none(self, tmp_path: Path, other: str | None) -> None:
        assert not same_file(tmp_path / "a", other)
        assert not same_file(None, other)


class TestFormats:
    def test_a_file_of_the_chain_has_the_format_the_chain_says(self, three: list[Path]) -> None:
        images = list(chain(three[0], "qcow2"))
        assert [format_in(path, [images]) for path in three] == ["qcow2", "qcow2", "raw"]

    def test_an_overlay_above_the_chain_is_one(self, three: list[Path]) -> None:
        assert format_in(three[0], [list(chain(three[2], "raw"))]) == "qcow2"

    def test_a_plain_file_is_raw(self, three: list[Path], tmp_path: Path) -> None:
        assert format_in(raw_file(tmp_path / "x"), [list(chain(three[0], "qcow2"))]) == "raw"

    def test_a_qcow2_on_no_chain_is_not_guessed(self, three: list[Path], tmp_path: Path) -> None:
        with pytest.raises(UnknownFormatOfDiskError):
            format_in(qcow2_file(tmp_path / "x"), [list(chain(three[0], "qcow2"))])
        stranger = overlay(tmp_path / "y", raw_file(tmp_path / "z"), "raw")
        with pytest.raises(UnknownFormatOfDiskError):
            format_in(stranger, [list(chain(three[0], "qcow2"))])


class TestFlatten:
    def test_all_layers_go_into_the_base_and_stay(self, three: list[Path]) -> None:
        for number, layer in enumerate(reversed(three[:2])):
            command = f"write -q -P {number + 1} {number * 64}k 64k"
            subprocess.run(["qemu-io", "-c", command, str(layer)], check=True)
        for _ in range(2):
            files.flatten(three[0], three[2])
        assert three[2].read_bytes()[: 128 * KiB] == b"\1" * 64 * KiB + b"\2" * 64 * KiB
        assert all(layer.exists() for layer in three)

    def test_what_qemu_img_says_is_passed_on(self, three: list[Path], tmp_path: Path) -> None:
        with pytest.raises(ImageToolError, match="stranger"):
            files.flatten(three[0], tmp_path / "stranger")


def test_a_base_named_by_way_of_a_folder_that_goes_is_named_plainly(tmp_path: Path) -> None:
    base = raw_file(tmp_path / "base.raw")
    (tmp_path / "layers").mkdir()
    paths, formats = {"vda": base}, {"vda": "raw"}
    text = machine_xml(disk_xml("vda", tmp_path / "layers/../base.raw", format="raw"))
    changed = files.with_sources("web", text, text, paths, Host(), formats=formats)
    assert changed is not None
    assert f'"{base}"' in changed
    assert "layers" not in changed
    assert files.with_sources("web", changed, text, paths, Host(), formats=formats) is None


def test_a_snapshot_names_every_disk() -> None:
    request = snapshots.snapshot_xml(["vda", "vdb", "sda"], {"vdb": Path("/d/a'b")})
    assert request == (
        '<domainsnapshot><disks><disk name="vda" snapshot="no" />'
        '<disk name="vdb" snapshot="external" type="file"><driver type="qcow2" />'
        '<source file="/d/a\'b" /></disk><disk name="sda" snapshot="no" /></disks></domainsnapshot>'
    )


@contextmanager
def holding(*paths: Path) -> Iterator[int]:
    """A process that has the first file open for writing and the others for reading."""
    code = (
        "import sys; files = [open(sys.argv[1], 'r+b'), *(open(p, 'rb') for p in sys.argv[2:])];"
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, paths)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid


class TestOpenFiles:
    def test_only_what_is_open_for_writing(self, three: list[Path]) -> None:
        with holding(*three) as pid:
            assert {str(path) for path in three} & written_files(pid) == {str(three[0])}

    def test_of_a_process_that_is_gone_nothing_is_known(self) -> None:
        assert written_files(2**22 + 1) == frozenset()

    @pytest.mark.parametrize("believed", [0, 1, 2], ids=["right", "a layer behind", "two behind"])
    def test_the_top_is_found_above_what_is_believed(
        self, three: list[Path], believed: int
    ) -> None:
        with holding(*three) as pid:
            assert true_top(str(three[believed]), written_files(pid)) == str(three[0])

    def test_with_nothing_known_libvirt_is_believed(self, three: list[Path]) -> None:
        assert true_top(str(three[1]), frozenset()) == str(three[1])

    def test_files_that_lie_elsewhere_do_not_count(self, three: list[Path], tmp_path: Path) -> None:
        others = {qcow2_file(tmp_path / "x"), raw_file(tmp_path / "y"), tmp_path / "gone"}
        written = frozenset(str(path) for path in others) | {os.devnull}
        assert true_top(str(three[1]), written) == str(three[1])

    def test_a_base_being_committed_into_does_not_hide_the_top(self, three: list[Path]) -> None:
        written = frozenset({str(three[0]), str(three[2])})
        assert true_top(str(three[0]), written) == str(three[0])
