"""Rescue on real files: points listed, proved, copied out and booted, also from what is damaged."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from homeport.agent.ledgers import load_ledger, save_ledger
from homeport.dataplane.points import run_tool
from homeport.dataplane.qcow2 import LayerReader, LayerWriter, read_header, rewrite_backing
from homeport.errors import NotFoundError
from homeport.interfaces.cli.failure import ExitCode
from homeport.interfaces.cli.main import app
from homeport.model.ids import ItemId
from homeport.model.ledger import ItemLedger
from homeport.model.machine import DiskFormat, Firmware, NicDefinition
from homeport.model.manifest import decode_manifest, encode_manifest
from homeport.model.position import Position
from homeport.rescue import (
    BootOptions,
    Depth,
    FoundItem,
    NothingFoundError,
    PointDamagedError,
    Prover,
    boot,
    definition,
    export,
    find_item,
    find_items,
)
from homeport.rescue.booting import MachineEndedError, NoFirmwareError, command_line
from homeport.rescue.finding import UnknownItemError
from homeport.rescue.proving import NoWholePointError
from homeport.rescue.taking import ExportExistsError, ExportIntoSourceError
from homeport.units import KiB, MiB
from tests.world import ITEM, World, read_image

pytestmark = pytest.mark.real

Memory = dict[Position, dict[str, bytes]]


@dataclass(frozen=True)
class Site:
    """A target's pool, apart from every agent, and what its points must hold."""

    pool: Path
    memory: Memory

    @property
    def newest(self) -> Position:
        """The newest point whose content is remembered."""
        return max(self.memory)

    @property
    def folder(self) -> Path:
        """The item's own."""
        return next((self.pool / "homeport").iterdir())

    def layer(self, disk: str, position: Position) -> Path:
        return self.folder / disk / f"{position.key}.qcow2"

    def item(self) -> FoundItem:
        return find_item(self.pool, None)

    def prover(self, depth: Depth = Depth.CONTENT) -> Prover:
        return Prover(self.item(), depth)

    def ledger(self) -> ItemLedger:
        return load_ledger(self.folder)


def protected(root: Path, **formats: str) -> World:
    """A machine whose seed has landed."""
    world = World(root, formats=formats or {"vda": "qcow2", "vdb": "raw"})
    world.write("vda", 0, b"first" * 1000)
    world.write("vdb", 64 * KiB, b"data" * 500)
    world.protect()
    world.replicate()
    return world


def remember(world: World) -> Memory:
    """Three more points, each with what its disks must hold."""
    remembered = {}
    for step in range(3):
        world.write("vda", step * 8 * KiB, bytes([step + 1]) * 4096)
        world.zero("vdb", 64 * KiB + step * 4 * KiB, 4 * KiB)
        world.write("vdb", 256 * KiB, os.urandom(8 * KiB))
        remembered[world.capture()] = world.remembered()
    return remembered


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Made once; nobody changes it."""
    world = protected(tmp_path_factory.mktemp("original"))
    memory = remember(world)
    return Site(world.west.pool, memory)


@pytest.fixture
def site(original: Site, tmp_path: Path) -> Site:
    """A copy of the pool, for a test to spoil."""
    pool = tmp_path / "site" / "pool"
    shutil.copytree(original.pool, pool)
    return Site(pool, original.memory)


def flip(path: Path, offset: int) -> None:
    """One bit of a file, in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def flip_data(path: Path) -> None:
    """One bit of what a layer holds for the guest."""
    with LayerReader(path) as reader:
        at = int(reader.map.runs.host[0])
    flip(path, at)


def state_of(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below a folder, so that a touch shows."""
    return {
        str(path.relative_to(folder)): (facts.st_size, facts.st_mtime_ns, facts.st_ino)
        for path in sorted(folder.rglob("*"))
        for facts in [path.stat()]
    }


def exported(item: FoundItem, out: Path, position: Position | None = None) -> dict[str, bytes]:
    """The disks of a point that was proved and copied out."""
    point, _, _ = Prover(item, Depth.CONTENT).choose(position)
    made = export(point, item.folder, out, DiskFormat.RAW)
    return {name: path.read_bytes() for name, path in made.disks.items()}


class TestWhole:
    @pytest.mark.parametrize("image_format", ["raw", "qcow2"])
    def test_every_point_is_found_proved_and_equals_its_moment(
        self, tmp_path: Path, image_format: str
    ) -> None:
        world = protected(tmp_path / "world", vda=image_format, vdb="raw")
        site = Site(world.west.pool, remember(world))
        listed = {record.position for record in world.west.ledger.points}
        prover = site.prover()
        assert {point.position for point in prover.item.points} == listed
        for point in prover.item.points:
            verdict = prover.check(point)
            assert verdict.whole, verdict
            # All but each disk's base has a digest of its own.
            assert verdict.proved == verdict.files - len(point.disks)
        for position, disks in site.memory.items():
            assert exported(prover.item, tmp_path / str(position), position) == disks

    @pytest.mark.parametrize("where", ["pool", "homeport", "item"])
    def test_any_of_the_three_folders_will_do(self, site: Site, where: str) -> None:
        folders = {"pool": site.pool, "homeport": site.pool / "homeport", "item": site.folder}
        assert find_items(folders[where])[0].item == ITEM

    def test_a_pool_that_was_moved_is_as_good(self, site: Site, tmp_path: Path) -> None:
        moved = tmp_path / "elsewhere" / "west"
        moved.parent.mkdir()
        site.pool.rename(moved)
        assert exported(find_item(moved, "web"), tmp_path / "out") == site.memory[site.newest]

    def test_a_base_that_was_copied_without_its_time_is_noted(self, site: Site) -> None:
        os.utime(next(site.pool.glob("*vdb-ASRReplica*")))
        prover = site.prover()
        verdict = prover.check(prover.item.points[0])
        assert verdict.whole
        assert any("is a copy" in note for note in verdict.notes)

    def test_a_base_somebody_wrote_to_is_noted(self, tmp_path: Path) -> None:
        world = protected(tmp_path / "world")
        flip(next(world.west.pool.glob("*vdb-ASRReplica*")), 1024 * KiB)
        prover = Site(world.west.pool, {}).prover()
        assert any("was written to" in n for n in prover.check(prover.item.points[0]).notes)

    def test_nothing_in_the_folder_is_touched(self, site: Site, tmp_path: Path) -> None:
        before = state_of(site.pool)
        exported(site.item(), tmp_path / "out")
        assert state_of(site.pool) == before

    def test_agents_go_on_beside_it_before_and_after_a_failover(self, tmp_path: Path) -> None:
        world = protected(tmp_path / "world")
        site = Site(world.west.pool, remember(world))
        item = site.item()
        world.write("vda", 0, b"later" * 100)
        world.capture()
        assert exported(item, tmp_path / "before", site.newest) == site.memory[site.newest]
        world.fail_over()
        world.write("vda", 0, b"west" * 100)
        assert exported(site.item(), tmp_path / "after", site.newest) == site.memory[site.newest]


class TestMerged:
    @pytest.fixture
    def merged(self, tmp_path: Path) -> tuple[Site, World]:
        """Of many points two are listed; what lay between them and below is merged."""
        world = protected(tmp_path / "world")
        memory = remember(world)
        held = world.west.shelf.peek(ITEM)
        first, _, last = sorted(memory)
        kept = {first, last}
        held.save(points=tuple(p for p in held.ledger.points if p.position in kept))
        layers = len(held.ledger.disks[0].layers)
        world.replicate(1)
        assert len(held.ledger.disks[0].layers) < layers - 2
        held.save(points=tuple(p for p in held.ledger.points if p.position in kept))
        return Site(world.west.pool, {first: memory[first], last: memory[last]}), world

    @pytest.mark.parametrize("without", [False, True], ids=["with ledger", "without ledger"])
    def test_merged_points_are_whole_and_equal_their_moment(
        self, merged: tuple[Site, World], tmp_path: Path, *, without: bool
    ) -> None:
        site, _ = merged
        if without:
            (site.folder / "ledger.json").unlink()
        for position, disks in site.memory.items():
            assert exported(site.item(), tmp_path / str(position), position) == disks

    def test_a_merged_layer_that_lost_an_extent_is_found_by_its_maps(
        self, merged: tuple[Site, World]
    ) -> None:
        site, _ = merged
        layer = site.layer("web-vdb", site.newest)
        with LayerReader(layer) as reader:
            start, length = next(iter(reader.map.data)).start, 4 * KiB
        size = read_header(layer).size
        below, kind = read_header(layer).backing_name, read_header(layer).backing_format
        with LayerWriter(layer, size=size, backing=below, backing_format=kind) as writer:
            writer.zero(start, length)
            writer.finish()
        prover = site.prover()
        problems = prover.check(prover.item.point(site.newest)).problems
        assert any("does not hold what its change maps say" in one for one in problems)


class TestWithoutLedger:
    @pytest.mark.parametrize("damage", ["missing", "cut", "altered"])
    def test_manifests_and_headers_say_the_same(
        self, site: Site, tmp_path: Path, damage: str
    ) -> None:
        with_ledger = site.item()
        path = site.folder / "ledger.json"
        if damage == "missing":
            path.unlink()
        elif damage == "cut":
            path.write_bytes(path.read_bytes()[:-100])
        else:
            path.write_text(path.read_text().replace('"epoch"', '"epic"'))
        item = site.item()
        assert item.problem
        assert item.ledger is None
        assert item.name == "web"
        assert [point.position for point in item.points] == [
            point.position for point in with_ledger.points
        ]
        for mine, theirs in zip(item.points, with_ledger.points, strict=True):
            assert [disk.files for disk in mine.disks] == [disk.files for disk in theirs.disks]
        assert exported(item, tmp_path / "out") == site.memory[site.newest]

    def test_a_base_alone_is_found_by_its_name(self, site: Site) -> None:
        (site.folder / "ledger.json").unlink()
        for disk in ("web-vda", "web-vdb"):
            shutil.rmtree(site.folder / disk)
        _, *later = sorted((site.folder / "points").iterdir())
        for path in later:
            path.unlink()
        (point,) = site.item().points
        assert [len(disk.files) for disk in point.disks] == [1, 1]
        assert site.prover().check(point).whole

    def test_a_guest_that_writes_a_header_into_its_disk_leads_nowhere(self, tmp_path: Path) -> None:
        world = World(tmp_path / "w", formats={"vda": "raw"})
        secret = tmp_path / "secret"
        secret.write_bytes(b"not the guest's" * 100)
        forged = tmp_path / "forged.qcow2"
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(secret), "-F", "raw"]
        run_tool([*argv, str(forged)])
        world.write("vda", 0, forged.read_bytes()[:4096])
        world.protect()
        world.replicate()
        site = Site(world.west.pool, {})
        (site.folder / "ledger.json").unlink()
        assert all(secret not in disk.files for p in site.item().points for disk in p.disks)
        assert exported(site.item(), tmp_path / "out") == world.remembered()


class TestDamage:
    def test_a_flipped_bit_in_a_layer_is_found_and_the_next_older_whole_one_taken(
        self, site: Site
    ) -> None:
        flip_data(site.layer("web-vda", site.newest))
        prover = site.prover()
        point, verdict, passed = prover.choose()
        assert verdict.whole
        assert point.position < site.newest
        newer = [one.position for one in prover.item.points if one.position > point.position]
        assert list(passed) == newer
        assert "web-vda" in passed[site.newest].problems[0]

    def test_a_damaged_point_that_is_asked_for_is_refused_with_the_next_older_one(
        self, site: Site
    ) -> None:
        flip_data(site.layer("web-vda", site.newest))
        prover = site.prover()
        with pytest.raises(PointDamagedError) as refused:
            prover.choose(site.newest)
        instead = refused.value.instead
        assert instead is not None
        assert f"--point {instead}" in refused.value.remedy
        assert prover.check(prover.item.point(instead)).whole

    def test_every_bit_of_a_layer_that_a_guest_can_see_counts(self, site: Site) -> None:
        layer = site.layer("web-vdb", site.newest)
        whole = layer.read_bytes()
        with LayerReader(layer) as reader:
            runs = zip(reader.map.runs.host.tolist(), reader.map.runs.lengths.tolist(), strict=True)
            places = [at + length * part // 7 for at, length in runs for part in range(7)]
        for at in places:
            flip(layer, at)
            prover = site.prover()
            assert not prover.check(prover.item.points[0]).whole, at
            layer.write_bytes(whole)

    @pytest.mark.parametrize("without", [False, True], ids=["with ledger", "without ledger"])
    def test_a_missing_layer_spoils_what_stands_on_it_and_nothing_else(
        self, site: Site, tmp_path: Path, *, without: bool
    ) -> None:
        first, second, third = sorted(site.memory)
        if without:
            (site.folder / "ledger.json").unlink()
        site.layer("web-vdb", second).unlink()
        prover = site.prover()
        verdicts = {point.position: prover.check(point).whole for point in prover.item.points}
        assert [verdicts[one] for one in (first, second, third)] == [True, False, False]
        assert exported(prover.item, tmp_path / "out", first) == site.memory[first]

    @pytest.mark.parametrize("left", [0, 100, 4096, -1])
    def test_a_cut_layer_is_found_by_its_structure_alone(self, site: Site, left: int) -> None:
        layer = site.layer("web-vda", site.newest)
        os.truncate(layer, left if left >= 0 else layer.stat().st_size // 2)
        prover = site.prover(Depth.STRUCTURE)
        assert not prover.check(prover.item.points[0]).whole

    def test_a_layer_of_another_point_in_its_place_is_found(self, site: Site) -> None:
        _, second, third = sorted(site.memory)
        shutil.copy(site.layer("web-vdb", second), site.layer("web-vdb", third))
        prover = site.prover()
        assert not prover.check(prover.item.point(third)).whole

    def test_an_altered_manifest_is_named_at_its_point(self, site: Site) -> None:
        path = site.folder / "points" / site.newest.key
        path.write_bytes(path.read_bytes().replace(b'"web"', b'"wob"', 1))
        prover = site.prover(Depth.STRUCTURE)
        verdict = prover.check(prover.item.point(site.newest))
        assert "its manifest" in verdict.problems[0]

    @pytest.mark.parametrize("what", ["item", "position"])
    def test_a_foreign_manifest_is_not_believed(self, site: Site, what: str) -> None:
        path = site.folder / "points" / site.newest.key
        manifest = decode_manifest(path.read_bytes())
        foreign = {"item": ItemId("f" * 32), "position": Position(7, 7)}[what]
        path.write_bytes(encode_manifest(replace(manifest, **{what: foreign})))
        prover = site.prover(Depth.STRUCTURE)
        verdict = prover.check(prover.item.point(site.newest))
        assert not verdict.whole

    def test_no_whole_point_is_said_with_every_reason(self, site: Site) -> None:
        next(site.pool.glob("*vda-ASRReplica*")).unlink()
        with pytest.raises(NoWholePointError) as refused:
            site.prover(Depth.STRUCTURE).choose()
        assert "is missing" in refused.value.cause

    def test_a_point_the_ledger_has_no_file_for_is_named(self, site: Site) -> None:
        ledger = site.ledger()
        chain = ledger.disks[0]
        save_ledger(site.folder, ledger.with_chain(replace(chain, layers=())))
        prover = site.prover(Depth.STRUCTURE)
        assert "the ledger names no file" in prover.check(prover.item.points[0]).problems[0]

    def test_a_header_that_names_another_file_is_noted_and_the_ledger_followed(
        self, site: Site, tmp_path: Path
    ) -> None:
        rewrite_backing(site.layer("web-vda", site.newest), "nowhere.qcow2", "qcow2")
        prover = site.prover(Depth.STRUCTURE)
        point = prover.item.point(site.newest)
        assert any("the ledger is followed" in note for note in prover.check(point).notes)
        made = export(point, site.folder, tmp_path / "out", DiskFormat.RAW)
        got = {name: path.read_bytes() for name, path in made.disks.items()}
        assert got == site.memory[site.newest]


class TestRefusals:
    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(NothingFoundError):
            find_items(tmp_path)

    def test_another_items_name(self, original: Site) -> None:
        with pytest.raises(UnknownItemError, match="no item mail"):
            find_item(original.pool, "mail")

    def test_several_items_and_none_named(self, site: Site) -> None:
        shutil.copytree(site.folder, site.folder.with_name("mail.01234567"))
        with pytest.raises(UnknownItemError, match="several"):
            find_item(site.pool, None)

    def test_a_point_that_is_not_there(self, original: Site) -> None:
        with pytest.raises(NotFoundError):
            original.item().point(Position(9, 9))

    def test_nothing_is_replaced_by_an_export(self, original: Site, tmp_path: Path) -> None:
        item = original.item()
        (tmp_path / "web-vdb.raw").write_bytes(b"mine")
        with pytest.raises(ExportExistsError):
            export(item.points[0], item.folder, tmp_path, DiskFormat.RAW)
        assert (tmp_path / "web-vdb.raw").read_bytes() == b"mine"
        assert not (tmp_path / "web-vda.raw").exists()

    def test_nothing_is_written_into_the_folder_itself(self, original: Site) -> None:
        item = original.item()
        with pytest.raises(ExportIntoSourceError):
            export(item.points[0], item.folder, item.folder / "out", DiskFormat.RAW)


class TestTaking:
    def test_qcow2_copies_stand_alone(self, site: Site, tmp_path: Path) -> None:
        item = site.item()
        made = export(item.points[0], item.folder, tmp_path / "out", DiskFormat.QCOW2)
        shutil.rmtree(site.pool)
        for name, path in made.disks.items():
            assert read_image(path, "qcow2") == site.memory[site.newest][name]

    def test_copies_are_sparse(self, original: Site, tmp_path: Path) -> None:
        item = original.item()
        made = export(item.points[0], item.folder, tmp_path / "out", DiskFormat.RAW)
        facts = made.disks["web-vda"].stat()
        assert facts.st_size == 4 * MiB
        assert facts.st_blocks * 512 < 2 * MiB

    def test_the_definition_names_the_copies_and_nothing_of_the_old_place(
        self, original: Site, tmp_path: Path
    ) -> None:
        point = original.item().points[0]
        point = replace(point, machine=replace(point.machine, nvram=b"variables"))
        made = export(point, original.folder, tmp_path / "out", DiskFormat.QCOW2)
        text = definition(point, made)
        domain = ET.fromstring(text)
        sources = [one.get("file") for one in domain.findall("./devices/disk/source")]
        assert sources == [str(path) for path in made.disks.values()]
        assert {one.get("type") for one in domain.findall("./devices/disk/driver")} == {"qcow2"}
        assert domain.findtext("./os/nvram") == str(made.nvram)
        assert "/east/" not in text
        assert made.nvram is not None
        assert made.nvram.read_bytes() == b"variables"


SECTOR_SAYS = b"homeport rescue boots\r\n"


def talking_sector() -> bytes:
    """A boot sector that says a line on the first serial port, and shuts the machine off."""
    text = 0x7C00 + 0x60
    code = bytes(
        [
            *(0x31, 0xC0, 0x8E, 0xD8),  # xor ax, ax; mov ds, ax
            *(0xBE, text & 0xFF, text >> 8),  # mov si, text
            *(0xBA, 0xF8, 0x03),  # mov dx, 0x3f8
            0xAC,  # next: lodsb
            *(0x84, 0xC0),  # test al, al
            *(0x74, 0x03),  # jz done
            0xEE,  # out dx, al
            *(0xEB, 0xF8),  # jmp next
            *(0xBA, 0x04, 0x06),  # done: mov dx, 0x604 (q35: ACPI's power control)
            *(0xB8, 0x00, 0x20),  # mov ax, 0x2000
            *(0xEF, 0xF4),  # out dx, ax; hlt
        ]
    )
    return code.ljust(0x60, b"\0") + (SECTOR_SAYS + b"\0").ljust(510 - 0x60, b"\0") + b"\x55\xaa"


class TestBooting:
    def test_a_machine_boots_from_a_point_and_leaves_no_trace(self, tmp_path: Path) -> None:
        world = World(tmp_path / "w", formats={"vda": "raw", "vdb": "qcow2"})
        world.protect()
        world.replicate()
        world.write("vda", 0, talking_sector())
        world.capture()
        before = state_of(world.west.pool)
        log, scratch = tmp_path / "serial", tmp_path / "scratch"
        scratch.mkdir()
        point, _, _ = Site(world.west.pool, {}).prover().choose()
        boot(point, BootOptions(serial_log=log, headless=True, scratch=scratch))
        assert SECTOR_SAYS in log.read_bytes()
        assert state_of(world.west.pool) == before
        assert list(scratch.iterdir()) == []

    def test_a_machine_that_cannot_start_is_an_error(self, original: Site, tmp_path: Path) -> None:
        point = original.item().points[0]
        options = BootOptions(accel="none-such", headless=True, serial_log=tmp_path / "log")
        with pytest.raises(MachineEndedError):
            boot(point, options)

    def test_the_machine_is_as_its_definition_says(self, original: Site, tmp_path: Path) -> None:
        point = original.item().points[0]
        argv = command_line(point, BootOptions(headless=True), tmp_path)
        line = " ".join(argv)
        assert "-m 64 -smp 1" in line
        assert "q35,accel=tcg" in line
        assert line.index("drive=disk0,bootindex=1") < line.index("drive=disk1,bootindex=2")
        nodes = [json.loads(argv[at + 1]) for at, word in enumerate(argv) if word == "-blockdev"]
        for node in nodes:
            below = node["backing"]
            while below:
                assert below["read-only"]
                assert below["file"]["read-only"]
                below = below.get("backing")

    @pytest.mark.parametrize(("online", "closed"), [(False, "on"), (True, "off")])
    def test_the_network_is_closed_unless_asked(
        self, original: Site, tmp_path: Path, *, online: bool, closed: str
    ) -> None:
        point = original.item().points[0]
        nic = NicDefinition(mac="52:54:00:00:00:07", network="lan", model="e1000e")
        point = replace(point, machine=replace(point.machine, nics=(nic,)))
        line = " ".join(command_line(point, BootOptions(online=online), tmp_path))
        assert f"user,id=net0,restrict={closed}" in line
        assert "e1000e,netdev=net0,mac=52:54:00:00:00:07" in line

    def test_uefi_machines_get_a_copy_of_their_variables(
        self, original: Site, tmp_path: Path
    ) -> None:
        point = original.item().points[0]
        machine = replace(point.machine, firmware=Firmware.UEFI, nvram=b"v" * 540672)
        line = " ".join(command_line(replace(point, machine=machine), BootOptions(), tmp_path))
        assert "readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd" in line
        assert (tmp_path / "nvram.fd").read_bytes() == machine.nvram

    def test_a_host_without_firmware_says_so(
        self, original: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("homeport.rescue.booting.FIRMWARE_FOLDERS", (tmp_path,))
        point = original.item().points[0]
        machine = replace(point.machine, firmware=Firmware.UEFI)
        with pytest.raises(NoFirmwareError):
            command_line(replace(point, machine=machine), BootOptions(), tmp_path)


class TestCommand:
    def run(self, *line: object, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["rescue", *(str(word) for word in line)])
        assert result.exit_code == code, result.output
        return result.stdout

    def test_it_lists_what_is_there(self, original: Site) -> None:
        listed = self.run(original.pool)
        for position in original.memory:
            assert str(position) in listed

    def test_verifying_names_what_is_damaged(self, site: Site) -> None:
        flip_data(site.layer("web-vda", site.newest))
        assert "DAMAGED" not in self.run(site.pool)
        assert "DAMAGED" in self.run(site.pool, "--verify")
        (item,) = json.loads(self.run(site.pool, "--verify", "--json"))
        assert [one["whole"] for one in item["points"]][:1] == [False]

    def test_it_copies_out_the_newest_whole_point(self, original: Site, tmp_path: Path) -> None:
        out = tmp_path / "out"
        made = json.loads(self.run(original.pool, "--export", out, "--json"))
        assert made["point"] == str(original.item().points[0].position)
        for name, content in original.memory[original.newest].items():
            assert Path(made["disks"][name]).read_bytes() == content

    def test_a_damaged_point_asked_for_ends_with_integritys_code(
        self, site: Site, tmp_path: Path
    ) -> None:
        flip_data(site.layer("web-vda", site.newest))
        options = ("--point", site.newest, "--export", tmp_path / "out")
        self.run(site.pool, *options, code=ExitCode.INTEGRITY)
        assert not (tmp_path / "out").exists()
        self.run(site.pool, *options, "--no-verify")

    def test_a_definition_is_all_that_is_printed(self, original: Site, tmp_path: Path) -> None:
        text = self.run(original.pool, "--export", tmp_path / "out", "--xml")
        assert ET.fromstring(text).findtext("name") == "web"

    @pytest.mark.parametrize("options", [("--xml",), ("--boot", "--export", "x"), ("--point", "x")])
    def test_lines_that_make_no_sense(self, original: Site, options: tuple[str, ...]) -> None:
        self.run(original.pool, *options, code=ExitCode.USAGE)

    def test_a_folder_with_nothing_in_it(self, tmp_path: Path) -> None:
        self.run(tmp_path, code=ExitCode.NOT_FOUND)
