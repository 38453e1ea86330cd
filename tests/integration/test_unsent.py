"""Writes set aside, on real file systems: told by file, opened, copied out, expired, discarded."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from homeport.agent.handlers import carry_out
from homeport.agent.operations.order import Bench
from homeport.agent.operations.unsent import READING
from homeport.dataplane import copying
from homeport.dataplane.pipeline import Control
from homeport.dataplane.points import backing_of
from homeport.errors import HomeportError
from homeport.model.codec import to_plain
from homeport.model.ids import DiskName, OperationId
from homeport.model.ledger import Unsent
from homeport.model.messages import OperationOrder, OperationReport, OperationState
from homeport.model.operations import OPERATIONS
from homeport.model.planning import Way
from homeport.model.unsent import DiscardUnsent, ExportUnsent, UnsentDifference, UnsentFiles
from homeport.providers.disks.filesystems import FileSystems
from homeport.units import KiB, MiB
from tests.filesystems import debugfs, guest_writes, make_ext4, put_in_journal
from tests.world import ITEM, Host, World, read_image

pytestmark = pytest.mark.real

DISK = DiskName("web-vda")
SIZE = 8 * MiB
FILES = {"etc/hosts": "127.0.0.1", "etc/passwd": "root", "var/log": "one line\n"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, formats={"vda": "raw"}, size=SIZE)
    for host in (made.east, made.west):
        reads_files(host)
    make_ext4(tmp_path / "guest.raw", SIZE, FILES)
    guest_writes(made, "vda", tmp_path / "guest.raw")
    made.protect()
    made.replicate()
    return made


def reads_files(host: Host) -> None:
    host.shelf.means = replace(host.shelf.means, compare_files=FileSystems())


def changed_by_guest(world: World) -> None:
    """What the guest does to its files, unseen by the other side."""
    image = world.root / "guest.raw"
    changed_in_place(image, world.root / "new")
    guest_writes(world, "vda", image)


def changed_in_place(image: Path, new: Path) -> None:
    new.write_text("never sent " * 100)
    debugfs(image, f"write {new} /etc/new.conf", "rm /etc/hosts", "set_inode_field /var/log size 4")


def lost(world: World) -> bytes:
    """East dies with writes that west never had; home again, they are set aside there."""
    changed_by_guest(world)
    old = bytes(world.truth["vda"])
    world.fail_over()
    world.write("vda", 7 * MiB, b"west goes on" * 50)
    world.commit()
    world.reprotect()
    world.replicate()
    return old


def only(host: Host) -> Unsent:
    (unsent,) = host.ledger.chain(DISK).set_aside
    return unsent


def image_of(host: Host) -> Path:
    return host.shelf.peek(ITEM).path(only(host).path)


def told(found: UnsentDifference) -> list[str]:
    return [f"{one.change} {one.path}" for fs in found.file_systems for one in fs.files]


def refused(host: Host, order: object) -> HomeportError:
    with pytest.raises(HomeportError) as caught:
        host.order(order)
    assert caught.value.remedy
    return caught.value


# -- files --

LOST = ["deleted /etc/hosts", "added /etc/new.conf", "changed /var/log"]


def test_the_files_that_were_never_sent_are_told(world: World) -> None:
    lost(world)
    before = hashlib.sha256(image_of(world.standby).read_bytes()).digest()
    found = world.standby.order(UnsentFiles(item=ITEM, disk=DISK))
    assert told(found) == LOST
    (system,) = found.file_systems
    assert (system.type, system.added, system.changed, system.deleted) == ("ext4", 1, 1, 1)
    new = system.files[1]
    assert (new.size, new.size_before, new.kind) == (1100, None, "file")
    assert new.modified_at is not None
    assert (found.way, found.position) == ("e2fsprogs", only(world.standby).position)
    assert hashlib.sha256(image_of(world.standby).read_bytes()).digest() == before
    assert not (world.standby.shelf.peek(ITEM).folder / READING).exists()


@pytest.mark.parametrize(
    ("what", "codes"),
    [("the image", {"ImageMoved"}), ("the point below", {"ImageMoved", "ImageToolFailed"})],
)
def test_a_file_that_gets_another_name_meanwhile_is_said(
    world: World, what: str, codes: set[str]
) -> None:
    lost(world)
    image = image_of(world.standby)
    moved = image if what == "the image" else Path(str(backing_of(image)))
    moved.rename(moved.with_name("elsewhere"))
    error = refused(world.standby, UnsentFiles(item=ITEM, disk=DISK))
    assert error.code in codes
    assert moved.name in error.message


def test_a_program_that_is_missing_is_not_told_as_a_moved_image(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost(world)
    monkeypatch.setenv("PATH", str(tmp_path))
    export = ExportUnsent(item=ITEM, disk=DISK, path=str(tmp_path / "copy.raw"), format="raw")
    with pytest.raises(HomeportError, match="qemu-img") as caught:
        world.standby.order(export)
    assert caught.value.code != "ImageMoved"


def test_a_long_list_is_cut_and_counted_whole(world: World) -> None:
    lost(world)
    found = world.standby.order(UnsentFiles(item=ITEM, disk=DISK, limit=1))
    (system,) = found.file_systems
    assert (len(system.files), system.total, system.left_out) == (1, 3, 2)


def test_changes_that_are_in_the_journal_only_are_told(world: World) -> None:
    """As a guest leaves them that dies: mounting would replay them, and so does reading."""
    image = world.root / "guest.raw"
    before = image.read_bytes()
    changed_in_place(image, world.root / "new")
    put_in_journal(image, before)
    guest_writes(world, "vda", image)
    assert b"never sent" in bytes(world.truth["vda"])
    world.fail_over()
    world.commit()
    world.reprotect()
    world.replicate()
    assert told(world.standby.order(UnsentFiles(item=ITEM, disk=DISK))) == LOST


def test_partitions_are_told_each_by_itself(tmp_path: Path) -> None:
    world = World(tmp_path, formats={"vda": "raw"}, size=SIZE)
    for host in (world.east, world.west):
        reads_files(host)
    image, start = tmp_path / "guest.raw", MiB
    make_ext4(image, 5 * MiB, {"a": "1", "b": "2"}, offset=start)
    os.truncate(image, SIZE)
    table = "label: dos\nstart=2048, size=8192, type=83\nstart=10240, size=2048, type=82\n"
    subprocess.run(["sfdisk", "-q", str(image)], input=table, text=True, check=True)
    guest_writes(world, "vda", image)
    world.protect()
    world.replicate()
    debugfs(image, "rm /a", offset=start)
    guest_writes(world, "vda", image)
    world.fail_over()
    world.commit()
    world.reprotect()
    world.replicate()
    found = world.standby.order(UnsentFiles(item=ITEM, disk=DISK))
    assert [fs.name for fs in found.file_systems] == ["/dev/sda1", "/dev/sda2"]
    assert told(found) == ["deleted /a"]
    assert "cannot be read here, because" in found.file_systems[1].unreadable


def test_what_nobody_here_can_read_is_said_with_what_to_do(tmp_path: Path) -> None:
    world = World(tmp_path, formats={"vda": "raw"}, size=SIZE)
    reads_files(world.east)
    world.write("vda", 0, b"no file system" * 500)
    world.protect()
    world.replicate()
    world.write("vda", MiB, b"never sent" * 500)
    world.fail_over()
    world.commit()
    world.reprotect()
    world.replicate()
    (system,) = world.standby.order(UnsentFiles(item=ITEM, disk=DISK)).file_systems
    assert (system.type, system.total) == ("unknown", 0)
    assert "export the image" in system.unreadable


def test_an_agent_that_reads_no_files_says_so(world: World) -> None:
    lost(world)
    world.standby.restart()
    assert refused(world.standby, UnsentFiles(item=ITEM, disk=DISK)).code == "FilesUnreadableHere"


def test_reading_ends_in_time_and_leaves_nothing(world: World) -> None:
    lost(world)
    error = refused(world.standby, UnsentFiles(item=ITEM, disk=DISK, seconds=0))
    assert error.code == "FilesTookTooLong"
    assert not (world.standby.shelf.peek(ITEM).folder / READING).exists()


def test_reading_is_refused_without_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lost(world)
    monkeypatch.setattr("homeport.providers.disks.extfiles.free_bytes", lambda folder: 64 * MiB)
    error = refused(world.standby, UnsentFiles(item=ITEM, disk=DISK))
    assert error.code == "NoScratchRoom"
    assert "64 MiB are free" in error.message


# -- the image stays one that opens --


def opens(host: Host, content: bytes) -> None:
    """By its own name alone, as anyone would open it."""
    assert read_image(image_of(host), "qcow2") == content
    subprocess.run(["qemu-img", "check", "-q", str(image_of(host))], check=True)


def test_it_opens_while_points_land_are_merged_and_committed_around_it(world: World) -> None:
    old = lost(world)
    opens(world.standby, old)
    for number in range(12):
        world.write("vda", 6 * MiB + number * 8 * KiB, bytes([number + 1]) * 5000)
        world.capture()
        world.clock.pass_time(1800)
        opens(world.standby, old)
    world.clock.pass_time(86400)
    world.replicate(4)
    opens(world.standby, old)
    assert told(world.standby.order(UnsentFiles(item=ITEM, disk=DISK))) == LOST


def test_it_opens_through_failback_and_the_machine_living_on_above_it(world: World) -> None:
    old = lost(world)
    world.write("vda", 5 * MiB, b"home" * 1000)
    world.fail_over(planned=True)
    home = world.running
    opens(home, old)
    world.commit()
    world.reprotect()
    for number in range(4):
        world.write("vda", 5 * MiB + number * 4 * KiB, bytes([number + 9]) * 4000)
        world.replicate()
        opens(home, old)
    assert told(home.order(UnsentFiles(item=ITEM, disk=DISK))) == LOST


def test_its_listing_says_when_it_expires_and_the_ledger_that_it_is_there(world: World) -> None:
    lost(world)
    unsent = only(world.standby)
    (entry,) = [one for one in world.standby.ledger.made if one.kind == "unsent"]
    assert (entry.name, entry.gone_at) == (str(image_of(world.standby)), None)
    assert entry.made_at == unsent.set_aside_at


# -- its end --


def depth(host: Host) -> int:
    return len(host.ledger.chain(DISK).layers)


def landed_long_ago(world: World) -> None:
    """Points beyond any retention, so that only what is pinned keeps layers apart."""
    for number in range(3):
        world.write("vda", 6 * MiB + number * 8 * KiB, bytes([number + 1]) * 5000)
        world.capture()
    world.clock.pass_time(2 * 86400)
    world.write("vda", 6 * MiB, b"the newest")
    world.capture()
    world.replicate(3)


def gone(host: Host, path: Path) -> None:
    assert not path.exists()
    assert host.ledger.chain(DISK).set_aside == ()
    (entry,) = [one for one in host.ledger.made if one.kind == "unsent"]
    assert entry.gone_at == host.clock.now()


def test_it_expires_by_policy_and_frees_what_it_stood_on(world: World) -> None:
    world.policy = replace(world.policy, unsent_retention=timedelta(days=7))
    lost(world)
    path, point = image_of(world.standby), only(world.standby).position
    landed_long_ago(world)
    pinned = world.standby.ledger.chain(DISK)
    assert point in (pinned.base_at, *(layer.position for layer in pinned.layers))
    world.clock.at = only(world.standby).set_aside_at + timedelta(days=7, seconds=-10)
    world.replicate(1)
    assert path.exists()
    world.clock.pass_time(10)
    world.standby.one_pass()
    gone(world.standby, path)
    world.replicate()
    free = world.standby.ledger.chain(DISK)
    assert point not in (free.base_at, *(layer.position for layer in free.layers))
    assert len(free.layers) < len(pinned.layers)


def test_a_clock_that_jumps_ahead_ends_no_image(world: World) -> None:
    """Nobody gets it back, and a host may be up for a while before its clock is right."""
    world.policy = replace(world.policy, unsent_retention=timedelta(days=7))
    lost(world)
    path = image_of(world.standby)
    landed_long_ago(world)
    world.clock.pass_time(3650 * 86400)
    world.standby.one_pass()
    assert path.exists()
    world.clock.pass_time(-3650 * 86400)
    world.replicate(1)
    assert path.exists()


def test_discarding_removes_it_now_and_once(world: World) -> None:
    lost(world)
    path, point = image_of(world.standby), only(world.standby).position
    landed_long_ago(world)
    order = DiscardUnsent(item=ITEM, disk=DISK, image=path.name)
    done = world.standby.order(order)
    assert done.files == (path.name,)
    assert done.freed > 0
    gone(world.standby, path)
    assert world.standby.order(order).files == ()
    world.replicate()
    free = world.standby.ledger.chain(DISK)
    assert point not in (free.base_at, *(layer.position for layer in free.layers))
    newest = world.standby.ledger.stands_at
    assert newest is not None
    assert world.standby.bytes_of(newest, DISK) == bytes(world.truth["vda"])


def test_a_whole_disk_that_is_the_last_good_copy_stays(world: World) -> None:
    before = bytes(world.truth["vda"])
    changed_by_guest(world)
    after = bytes(world.truth["vda"])
    world.fail_over()
    world.commit()
    world.reprotect(way=Way.FULL)
    image = only_whole(world.standby)
    assert (
        refused(world.standby, DiscardUnsent(item=ITEM, disk=DISK, image=image.name)).code
        == "StillNeeded"
    )
    assert (
        refused(world.standby, UnsentFiles(item=ITEM, disk=DISK, image=image.name)).code
        == "NothingBelow"
    )
    world.clock.pass_time(400 * 86400)
    world.standby.one_pass()
    upon_it = world.standby.ledger.chain(DISK).set_aside[0]
    assert read_image(image, "raw") == before
    assert read_image(world.standby.shelf.peek(ITEM).path(upon_it.path), "qcow2") == after
    world.replicate()
    world.standby.one_pass()
    assert not image.exists()


def only_whole(host: Host) -> Path:
    """The old disk; the image that stood on it went with it."""
    unsent = host.ledger.chain(DISK).set_aside[-1]
    assert unsent.base
    return host.shelf.peek(ITEM).path(unsent.path)


# -- copies --


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_a_copy_stands_by_itself(world: World, tmp_path: Path, image_format: str) -> None:
    old = lost(world)
    path = tmp_path / f"copy.{image_format}"
    order = ExportUnsent(item=ITEM, disk=DISK, path=str(path), format=image_format)
    made = world.standby.order(order)
    assert (made.path, made.size) == (str(path), SIZE)
    assert made.stored == path.stat().st_blocks * 512
    world.standby.order(DiscardUnsent(item=ITEM, disk=DISK, image=image_of(world.standby).name))
    assert read_image(path, image_format) == old
    assert sorted(each.name for each in tmp_path.glob(".*")) == []


def test_asked_again_after_a_crash_the_copy_is_found_or_made_anew(
    world: World, tmp_path: Path
) -> None:
    old = lost(world)
    path = tmp_path / "copy.raw"
    copying.partial_of(path).write_bytes(b"half of it")
    order = ExportUnsent(item=ITEM, disk=DISK, path=str(path), format="raw")
    first = world.standby.order(order)
    world.standby.restart()
    inode = path.stat().st_ino
    assert world.standby.order(order) == first
    assert path.stat().st_ino == inode
    assert path.read_bytes() == old


def bad_paths(world: World) -> dict[str, str]:
    folder = world.standby.shelf.peek(ITEM).folder
    taken = world.root / "taken.qcow2"
    taken.write_bytes(b"another's")
    (world.root / "link").symlink_to(folder)
    return {
        "not absolute": "copy.qcow2",
        "no folder": str(world.root / "none" / "copy.qcow2"),
        "a folder itself": str(world.root),
        "taken by something else": str(taken),
        "among the item's layers": str(folder / DISK / "copy.qcow2"),
        "beside the item's folder": str(folder.parent / "copy.qcow2"),
        "there by way of a link": str(world.root / "link" / "copy.qcow2"),
        "a device": "/dev/null",
    }


def test_no_copy_is_made_where_it_may_not_be(world: World) -> None:
    lost(world)
    for case, path in bad_paths(world).items():
        error = refused(world.standby, ExportUnsent(item=ITEM, disk=DISK, path=path))
        assert error.code == "BadExportPath", case
    assert (world.root / "taken.qcow2").read_bytes() == b"another's"


def test_no_copy_is_made_without_room(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost(world)
    monkeypatch.setattr("homeport.agent.operations.unsent.free_bytes", lambda folder: 4 * KiB)
    error = refused(world.standby, ExportUnsent(item=ITEM, disk=DISK, path=str(tmp_path / "c")))
    assert error.code == "BadExportPath"
    assert "4 KiB are free" in error.message


def test_a_format_nobody_asked_for_is_refused(world: World, tmp_path: Path) -> None:
    lost(world)
    order = ExportUnsent(item=ITEM, disk=DISK, path=str(tmp_path / "c"), format="vmdk")
    assert refused(world.standby, order).code == "BadFormat"


def steered(host: Host, args: Any, control: Control) -> OperationReport:
    kind = next(kind for kind, (taken, _) in OPERATIONS.items() if taken is type(args))
    order = OperationOrder(
        id=OperationId("one"), kind=kind, item=ITEM, args=to_plain(type(args), args)
    )
    return carry_out(Bench(shelf=host.shelf, control=control), order)


def test_a_copy_tells_how_far_it_is(world: World, tmp_path: Path) -> None:
    lost(world)
    seen: list[tuple[int, int]] = []
    control = Control(progress=lambda done, total: seen.append((done, total)))
    order = ExportUnsent(item=ITEM, disk=DISK, path=str(tmp_path / "copy.raw"), format="raw")
    assert steered(world.standby, order, control).state is OperationState.DONE
    assert seen[-1] == (SIZE, SIZE)
    assert seen == sorted(seen)


STOPPABLE: dict[str, Callable[[Path], Any]] = {
    "export": lambda path: ExportUnsent(item=ITEM, disk=DISK, path=str(path)),
    "files": lambda path: UnsentFiles(item=ITEM, disk=DISK),
}


@pytest.mark.parametrize("what", STOPPABLE)
def test_stopped_it_leaves_nothing(world: World, tmp_path: Path, what: str) -> None:
    lost(world)
    before = sorted(world.root.rglob("*"))
    report = steered(
        world.standby, STOPPABLE[what](tmp_path / "copy"), Control(cancelled=lambda: True)
    )
    assert report.state is OperationState.FAILED
    assert report.error is not None
    assert report.error["code"] == "Cancelled"
    assert sorted(world.root.rglob("*")) == before


# -- which one --


def test_a_name_that_is_none_and_a_choice_that_is_open_are_refused(world: World) -> None:
    lost(world)
    for order in (
        UnsentFiles(item=ITEM, disk=DISK, image="none.qcow2"),
        UnsentFiles(item=ITEM, disk=DiskName("web-vdz")),
        ExportUnsent(item=ITEM, disk=DISK, image="none.qcow2", path="/tmp/copy"),
    ):
        assert refused(world.standby, order).code == "NoUnsent"


def test_two_images_of_a_disk_are_told_apart_by_name(world: World) -> None:
    first = lost(world)
    world.fail_over(planned=True)
    world.commit()
    world.reprotect()
    world.replicate()
    image = world.root / "guest.raw"
    image.write_bytes(bytes(world.truth["vda"]))
    debugfs(image, "rm /etc/passwd")
    guest_writes(world, "vda", image)
    second = bytes(world.truth["vda"])
    world.fail_over()
    world.commit()
    world.reprotect()
    world.replicate()
    names = [Path(one.path).name for one in world.standby.ledger.chain(DISK).set_aside]
    assert len(set(names)) == 2
    assert refused(world.standby, UnsentFiles(item=ITEM, disk=DISK)).code == "ManyUnsent"
    found = [
        told(world.standby.order(UnsentFiles(item=ITEM, disk=DISK, image=name))) for name in names
    ]
    assert found == [LOST, ["deleted /etc/passwd"]]
    held = world.standby.shelf.peek(ITEM)
    contents = [
        read_image(held.path(one.path), "qcow2") for one in held.ledger.chain(DISK).set_aside
    ]
    assert contents == [first, second]
