"""What keeps a machine from being replicated, and what its disks are called."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from homeport.model.host import MachineProblem, UnsupportedMachineError
from homeport.model.machine import DiskFormat, MachineDefinition
from homeport.providers.compute.describing import Host, machine_definition, running_problems
from homeport.providers.compute.domain_xml import parse
from tests.machines import disk_xml, machine_xml, overlay, qcow2_file, raw_file


def described(
    xml: str, *, names: dict[str, str] | None = None, host: Host | None = None
) -> MachineDefinition:
    return machine_definition(xml, names=names, host=host or Host(), problems=[])


def codes(xml: str) -> list[str]:
    with pytest.raises(UnsupportedMachineError) as caught:
        described(xml)
    assert all(problem.message and problem.remedy for problem in caught.value.problems)
    assert all(problem.message in caught.value.message for problem in caught.value.problems)
    return [problem.code for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("driver", "extra", "device", "expected"),
    [
        ("copy_on_read='on'", "", "disk", ["CopyOnRead"]),
        ("cache='unsafe'", "", "disk", ["UnsafeCache"]),
        ("cache='unsafe' copy_on_read='on'", "", "disk", ["CopyOnRead", "UnsafeCache"]),
        ("", "<transient/>", "disk", ["TransientDisk"]),
        ("", "<encryption format='luks'/>", "disk", ["EncryptedDisk"]),
        ("", "", "lun", ["PassedThrough"]),
    ],
)
def test_settings_that_cannot_be(
    tmp_path: Path, driver: str, extra: str, device: str, expected: list[str]
) -> None:
    disk = disk_xml("vda", raw_file(tmp_path / "a.raw"), driver=driver, extra=extra, device=device)
    assert codes(machine_xml(disk)) == expected


@pytest.mark.parametrize("setting", ["cache='writeback'", "cache='none'", "copy_on_read='off'", ""])
def test_settings_that_can(tmp_path: Path, setting: str) -> None:
    disk = disk_xml("vda", raw_file(tmp_path / "a.raw"), driver=setting)
    assert described(machine_xml(disk)).disks[0].name == "a"


def test_fixed_disks_may_have_any_setting(tmp_path: Path) -> None:
    settings = {"driver": "cache='unsafe'", "extra": "<readonly/>"}
    disk = disk_xml("vda", raw_file(tmp_path / "a.raw"), **settings)
    assert described(machine_xml(disk)).disks == ()
    assert running_problems(parse(machine_xml(disk))) == []


def test_an_emulated_tpm(tmp_path: Path) -> None:
    tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
    assert codes(machine_xml(devices=tpm)) == ["EmulatedTpm"]


@pytest.mark.parametrize("name", ["my web", "größe", "a" * 64])
def test_a_machine_whose_name_cannot_be_a_files(name: str) -> None:
    assert codes(machine_xml(name=name)) == ["InvalidName"]


def test_a_disk_whose_files_name_cannot_be_a_disks(tmp_path: Path) -> None:
    disk = disk_xml("vda", raw_file(tmp_path / "my disk.raw"))
    assert codes(machine_xml(disk)) == ["InvalidName"]


def test_a_disk_without_a_size(tmp_path: Path) -> None:
    assert codes(machine_xml(disk_xml("vda", raw_file(tmp_path / "a.raw", 0)))) == ["InvalidName"]


def test_a_disk_over_the_network_and_one_in_a_lost_volume() -> None:
    rbd = "<disk type='network'><source protocol='rbd' name='x'/><target dev='vda'/></disk>"
    lost = "<disk type='volume'><source pool='p' volume='v'/><target dev='vdb'/></disk>"
    assert codes(machine_xml(rbd, lost)) == ["NotLocal", "NotLocal"]


def test_a_format_that_is_neither_raw_nor_qcow2(tmp_path: Path) -> None:
    disk = disk_xml("vda", raw_file(tmp_path / "a.vmdk"), format="vmdk")
    assert codes(machine_xml(disk)) == ["DiskFormat"]


def test_internal_snapshots_below_the_top_count_too(tmp_path: Path) -> None:
    base = qcow2_file(tmp_path / "a.qcow2")
    subprocess.run(["qemu-img", "snapshot", "-c", "one", str(base)], check=True)
    disk = disk_xml("vda", overlay(tmp_path / "o1", base), format="qcow2")
    assert codes(machine_xml(disk)) == ["InternalSnapshots"]


def test_the_callers_problems_come_first_and_none_comes_twice(tmp_path: Path) -> None:
    theirs = MachineProblem(code="Theirs", message="m.", remedy="r.")
    disk = disk_xml("vda", raw_file(tmp_path / "a.raw"), driver="cache='unsafe'")
    found = [theirs, *running_problems(parse(machine_xml(disk)))]
    with pytest.raises(UnsupportedMachineError) as caught:
        machine_definition(machine_xml(disk), names=None, host=Host(), problems=found)
    assert [problem.code for problem in caught.value.problems] == ["Theirs", "UnsafeCache"]


class TestNames:
    def test_two_files_of_one_name_are_told_apart(self, tmp_path: Path) -> None:
        (tmp_path / "b").mkdir()
        first, second = raw_file(tmp_path / "disk.raw"), raw_file(tmp_path / "b/disk.raw")
        found = described(machine_xml(disk_xml("vda", first), disk_xml("vdb", second)))
        assert [disk.name for disk in found.disks] == ["disk", "disk-vdb"]

    def test_a_linked_clone_is_named_and_shaped_by_its_own_file(self, tmp_path: Path) -> None:
        template = raw_file(tmp_path / "debian.raw")
        clone = overlay(tmp_path / "web.qcow2", template, "raw")
        before = described(machine_xml(disk_xml("vda", clone, format="qcow2"))).disks
        assert (before[0].name, before[0].format, before[0].suffix, before[0].cluster_size) == (
            "web",
            DiskFormat.QCOW2,
            ".qcow2",
            128 * 1024,
        )
        top = overlay(tmp_path / "o1.qcow2", clone)
        after = described(machine_xml(disk_xml("vda", top, format="qcow2")), names={"vda": "web"})
        assert after.disks == before

    def test_under_a_name_no_file_has_the_lowest_file_shapes_it(self, tmp_path: Path) -> None:
        top = overlay(tmp_path / "o1", raw_file(tmp_path / "root-ASRReplica.img"), "raw")
        disk = disk_xml("vda", top, format="qcow2")
        found = described(machine_xml(disk), names={"vda": "root"}).disks[0]
        assert (found.name, found.format, found.suffix) == ("root", DiskFormat.RAW, ".img")

    def test_volumes_pools_and_running_sizes_come_from_the_host(self, tmp_path: Path) -> None:
        path = raw_file(tmp_path / "v.raw")
        host = Host(
            pools={str(tmp_path): "ssd"},
            volume_path=lambda pool, volume: str(path) if (pool, volume) == ("p", "v") else None,
            live_size={"vda": 99 * 512}.get,
        )
        disk = "<disk type='volume'><source pool='p' volume='v'/><target dev='vda'/></disk>"
        found = described(machine_xml(disk), host=host).disks[0]
        assert (found.name, found.pool, found.size) == ("v", "ssd", 99 * 512)


def test_variables_that_no_start_has_made_yet_are_none(tmp_path: Path) -> None:
    assert described(machine_xml(os=f"<nvram>{tmp_path}/none.fd</nvram>")).nvram is None
