"""libguestfs's appliance where no kernel is installed: what it reads, and how it ends."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from homeport.dataplane.pipeline import Control
from homeport.errors import CancelledError
from homeport.lab.kernel import find_kernel
from homeport.model.unsent import FilesCompared, ImageFile
from homeport.providers.disks.filesystems import FileSystems
from homeport.providers.disks.guestfs import Guestfs
from homeport.providers.disks.guestfs_kernel import NoApplianceError, arrange
from homeport.providers.disks.watched import Deadline
from homeport.units import MiB
from tests.filesystems import debugfs, make_ext4, make_tree

pytestmark = pytest.mark.real
CACHE = Path(os.environ.get("HOMEPORT_TEST_CACHE", "/var/tmp/homeport-test-cache"))
FILES = {"etc/hosts": "127.0.0.1", "var/log": "one line\n"}
SECONDS = 280.0
"""Two appliances at once under TCG on a busy machine: 15 to 60 s, once the appliance is built."""


@pytest.fixture(scope="module")
def guestfs() -> Guestfs:
    find_kernel(CACHE / "kernel")
    return Guestfs(cache=CACHE / "guestfs", kvm=lambda: False, kernel=CACHE / "kernel")


def upon(base: Path, changed: Path) -> ImageFile:
    """An overlay on `base` that reads as `changed`."""
    top = base.with_name("top.qcow2")
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-B", str(base), "-F", "raw"]
    subprocess.run([*argv, str(changed), str(top)], check=True)
    return ImageFile(path=top, format="qcow2")


def compare(
    reader: Guestfs | None, base: Path, after: ImageFile, *, seconds: float = SECONDS
) -> FilesCompared:
    scratch = base.parent / "scratch"
    scratch.mkdir()
    try:
        return FileSystems(guestfs=reader)(
            ImageFile(path=base, format="raw"),
            after,
            scratch=scratch,
            limit=10,
            seconds=seconds,
            control=Control(),
        )
    finally:
        assert list(scratch.iterdir()) == []
        scratch.rmdir()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def told(found: FilesCompared) -> dict[str, list[str]]:
    return {
        f"{fs.name} {fs.type}": [f"{one.change} {one.path}" for one in fs.files]
        for fs in found.file_systems
    }


@pytest.mark.long
@pytest.mark.timeout(600)
def test_both_ways_tell_the_same_of_ext4(guestfs: Guestfs, tmp_path: Path) -> None:
    base, changed, new = tmp_path / "base.raw", tmp_path / "changed.raw", tmp_path / "new"
    make_ext4(base, 16 * MiB, FILES)
    shutil.copy(base, changed)
    new.write_text("x" * 5000)
    debugfs(changed, f"write {new} /etc/new", "rm /etc/hosts", "set_inode_field /var/log size 4")
    after = upon(base, changed)
    before = digest(base), digest(after.path)
    began = time.monotonic()
    one = compare(guestfs, base, after)
    print(f"libguestfs took {time.monotonic() - began:.0f} s")
    assert (one.way, one.note) == ("libguestfs", "")
    two = compare(None, base, after)
    assert two.way == "e2fsprogs"
    assert one.file_systems == two.file_systems
    assert told(one) == {
        "/dev/sda ext4": ["deleted /etc/hosts", "added /etc/new", "changed /var/log"]
    }
    assert (digest(base), digest(after.path)) == before


@pytest.mark.long
@pytest.mark.timeout(600)
def test_partitions_of_other_kinds_are_read(guestfs: Guestfs, tmp_path: Path) -> None:
    """btrfs and FAT, which e2fsprogs cannot read, on one disk with a table."""
    disks = [tmp_path / name for name in ("base.raw", "changed.raw")]
    for number, disk in enumerate(disks):
        more = {"home/a.txt": "new"} if number else {}
        tree = make_tree(tmp_path / f"tree{number}", {**FILES, **more})
        parts = [tmp_path / f"btrfs{number}", tmp_path / f"fat{number}"]
        for part, size in zip(parts, (112, 32), strict=True):
            part.touch()
            os.truncate(part, size * MiB)
        ids = ["-U", "6f1c5c5e-0000-4000-8000-000000000001"]
        make = ["mkfs.btrfs", "-q", *ids, "-r", str(tree), str(parts[0])]
        subprocess.run(make, check=True, capture_output=True)
        subprocess.run(["mkfs.vfat", str(parts[1])], check=True, capture_output=True)
        if number:
            copy = ["mcopy", "-i", str(parts[1]), str(tree / "home/a.txt"), "::/a.txt"]
            subprocess.run(copy, check=True)
        with disk.open("wb") as file:
            for part, start in zip(parts, (1, 113), strict=True):
                file.seek(start * MiB)
                file.write(part.read_bytes())
            file.truncate(160 * MiB)
        table = "label: gpt\nstart=2048, size=229376\nstart=231424, size=65536\n"
        subprocess.run(["sfdisk", "-q", str(disk)], input=table, text=True, check=True)
    compared = compare(guestfs, disks[0], upon(*disks))
    found = told(compared)
    assert [fs.unreadable for fs in compared.file_systems] == ["", ""]
    assert {"added /home", "added /home/a.txt"} <= set(found["/dev/sda1 btrfs"])
    assert found["/dev/sda2 vfat"] == ["added /a.txt"]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_what_takes_too_long_is_done_the_other_way_and_nothing_runs_on(
    guestfs: Guestfs, tmp_path: Path
) -> None:
    base, changed = tmp_path / "base.raw", tmp_path / "changed.raw"
    make_ext4(base, 8 * MiB, FILES)
    shutil.copy(base, changed)
    debugfs(changed, "rm /etc/hosts")
    found = compare(guestfs, base, upon(base, changed), seconds=12)
    assert found.way == "e2fsprogs"
    assert "libguestfs was given up after 8 s" in found.note
    assert told(found) == {"/dev/sda ext4": ["deleted /etc/hosts"]}
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert str(tmp_path) not in processes.stdout


def test_cancelled_it_stops_at_once(guestfs: Guestfs, tmp_path: Path) -> None:
    base = tmp_path / "base.raw"
    make_ext4(base, 8 * MiB, FILES)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    image = ImageFile(path=base, format="raw")
    began = time.monotonic()
    with pytest.raises(CancelledError):
        FileSystems(guestfs=guestfs)(
            image,
            image,
            scratch=scratch,
            limit=1,
            seconds=SECONDS,
            control=Control(cancelled=lambda: time.monotonic() > began + 3),
        )
    assert time.monotonic() - began < 30
    assert list(scratch.iterdir()) == []
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert str(tmp_path) not in processes.stdout


# -- where its kernel comes from --


def deadline() -> Deadline:
    return Deadline.after(60, way="test", control=Control())


def put_kernel(root: Path, version: str) -> Path:
    (root / "boot").mkdir(parents=True, exist_ok=True)
    (root / "boot" / f"vmlinuz-{version}").write_bytes(b"kernel")
    modules = root / "lib/modules" / version / "kernel"
    modules.mkdir(parents=True)
    return root


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIBGUESTFS_PATH", "SUPERMIN_KERNEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("clean")
def test_an_installed_kernel_needs_nothing(tmp_path: Path) -> None:
    root = put_kernel(tmp_path / "root", "6.1.0-1")
    found = arrange(None, tmp_path / "cache", deadline(), root=root)
    assert (found.before, found.environment) == ((), {})


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("inside", [False, True], ids=["the folder itself", "a folder of such"])
def test_an_unpacked_kernel_is_prepared_once(tmp_path: Path, inside: bool) -> None:
    named = tmp_path / "unpacked"
    put_kernel(named / "linux-image-6.unpacked" if inside else named, "6.1.0-1")
    root = tmp_path / "root"
    root.mkdir()
    found = arrange(named, tmp_path / "cache", deadline(), root=root)
    modules = Path(found.environment["SUPERMIN_MODULES"])
    assert (modules / "modules.dep").exists()
    assert Path(found.environment["SUPERMIN_KERNEL"]).name == "vmlinuz-6.1.0-1"
    assert found.before[:2] == ("unshare", "--mount")
    made = (modules / "modules.dep").stat().st_mtime_ns
    assert arrange(named, tmp_path / "cache", deadline(), root=root) == found
    assert (modules / "modules.dep").stat().st_mtime_ns == made
    (root / "lib/modules").mkdir(parents=True)
    assert arrange(named, tmp_path / "cache", deadline(), root=root).before == ()


@pytest.mark.usefixtures("clean")
def test_without_a_kernel_it_says_what_to_install(tmp_path: Path) -> None:
    for named in (None, tmp_path):
        with pytest.raises(NoApplianceError, match="no kernel") as caught:
            arrange(named, tmp_path / "cache", deadline(), root=tmp_path)
        assert "linux-image" in caught.value.remedy


def test_what_the_agents_own_environment_says_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBGUESTFS_PATH", "/srv/appliance")
    assert arrange(None, tmp_path, deadline(), root=tmp_path).environment == {}


@pytest.mark.usefixtures("clean")
def test_without_libguestfs_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoApplianceError, match="guestfish is not installed"):
        arrange(None, tmp_path, deadline(), root=put_kernel(tmp_path / "root", "6.1.0-1"))
