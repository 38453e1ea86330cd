"""Points from a source's files to a target's files over a folder, QEMU's tools as the judge."""

from __future__ import annotations

import importlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from homeport.dataplane.bases import BaseTakenError
from homeport.dataplane.findings import Findings
from homeport.dataplane.landing import (
    acknowledge,
    acknowledged,
    land_delta,
    leftovers,
    next_manifest,
    sweep,
)
from homeport.dataplane.layout import DamagedObjectError, ItemStore
from homeport.dataplane.pipeline import Control
from homeport.dataplane.resync import Comparison, answer_digests
from homeport.dataplane.seeding import land_seed, ship_seed
from homeport.dataplane.shipping import ship_found, ship_layer, ship_manifest
from homeport.model.extent import ExtentSet
from homeport.model.ids import Digest, DiskName, ItemId, VaultId
from homeport.model.machine import DiskFormat
from homeport.model.manifest import DiskImage, StoredObject
from homeport.model.position import Position
from homeport.providers.disks import nbd
from homeport.providers.disks.nbd import NbdDisk, NbdMissingError, NbdServerError
from homeport.providers.disks.opening import open_base, open_reader
from homeport.providers.store.folder import open_folder
from homeport.units import KiB, MiB
from tests.unit.dataplane.points import manifest_of

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("qemu-nbd") is None, reason="needs qemu-utils"),
]

DISK = DiskName("root")
FREE = Control()
ODD = 10 * MiB + 512
FORMATS = [DiskFormat.RAW, DiskFormat.QCOW2]


def run(*command: str | Path) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def assert_identical(first: Path, first_format: str, second: Path, second_format: str) -> None:
    run("qemu-img", "compare", "-f", first_format, "-F", second_format, first, second)


def assert_sound(image: Path) -> None:
    found = json.loads(run("qemu-img", "check", "--output=json", image))
    assert not {"leaks", "corruptions", "check-errors"} & {key for key in found if found[key]}


@dataclass
class Site:
    """One side: a folder with a chain whose layers name each other as libvirt's do."""

    folder: Path
    items: ItemStore
    image_format: DiskFormat
    size: int
    chain: list[Path] = field(default_factory=list)  # base first

    @property
    def top(self) -> tuple[Path, str]:
        top = self.chain[-1]
        return top, self.image_format.value if top == self.chain[0] else "qcow2"


@dataclass
class Source(Site):
    """Writes through QEMU, one overlay a point."""

    previous: Position | None = None
    state: Digest | None = None
    random: random.Random = field(default_factory=lambda: random.Random(4))

    def begin(self) -> None:
        base = self.folder / "base"
        options = () if self.image_format is DiskFormat.RAW else ("-o", "cluster_size=64k")
        run(
            "qemu-img",
            "create",
            "-q",
            "-f",
            self.image_format.value,
            *options,
            base,
            str(self.size),
        )
        self.chain.append(base)
        self._write(base, self.image_format.value)

    def write_layer(self) -> Path:
        below, below_format = self.top
        layer = self.folder / f"layer-{len(self.chain)}.qcow2"
        options = "cluster_size=128k,extended_l2=on"
        backing = ("-b", below.name, "-F", below_format)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, *backing, layer)
        self.chain.append(layer)
        self._write(layer, "qcow2")
        return layer

    def _write(self, image: Path, image_format: str) -> None:
        commands = [f"write -P {self.random.randrange(1, 255)} {self.size - 512} 512"]
        for _ in range(12):
            start = self.random.randrange(self.size // 512 - 600) * 512
            length = self.random.choice([512, 4096, 70 * KiB, 256 * KiB])
            verb = self.random.choice(
                [f"write -P {self.random.randrange(1, 255)}", "write -z", "discard"]
            )
            commands.append(f"{verb} {start} {length}")
        words = [word for command in commands for word in ("-c", command)]
        run("qemu-io", "-d", "unmap", "-f", image_format, *words, image)

    def ship(self, position: Position, image: DiskImage) -> None:
        ship_manifest(self.items, manifest_of(self.items, position, self.previous, image))
        self.previous, self.state = position, image.state

    def ship_seed(self, position: Position) -> None:
        stored: dict[int, StoredObject] = {}
        with open_reader(self.chain, self.image_format.value) as reader:
            image = ship_seed(
                self.items,
                position=position,
                disk=DISK,
                size=self.size,
                read=reader.read,
                allocated=reader.allocated(),
                done={},
                record=stored.__setitem__,
                control=FREE,
                part=4 * MiB,
            )
        self.ship(position, image)

    def ship_layer(self, position: Position) -> None:
        layer = self.write_layer()
        shipped = ship_layer(
            self.items,
            position=position,
            disk=DISK,
            layer=layer,
            size=self.size,
            before=self.state,
            control=FREE,
        )
        self.ship(position, shipped.image)


@dataclass
class Target(Site):
    """Lands whatever comes, in order."""

    position: Position | None = None
    states: dict[DiskName, Digest] = field(default_factory=dict)

    def land(self) -> bool:
        manifest = next_manifest(self.items, after=self.position, states=self.states, epoch=1)
        if manifest is None:
            return False
        image = manifest.disks[0]
        if self.position is None:
            self._land_seed(manifest.position, image)
        else:
            self._land_delta(manifest.position, image)
        self.position, self.states = manifest.position, dict(manifest.states)
        acknowledge(self.items, self.position, self.states)
        return True

    def _land_seed(self, position: Position, image: DiskImage) -> None:
        path = self.folder / "replica"
        base = open_base(
            path, image_format=self.image_format, size=self.size, cluster_size=64 * KiB
        )
        landed: dict[int, Digest] = {}
        try:
            land_seed(
                self.items,
                image,
                position=position,
                base=base,
                done=landed,
                record=landed.__setitem__,
                control=FREE,
            )
        finally:
            base.close()
        self.chain.append(path)

    def _land_delta(self, position: Position, image: DiskImage) -> None:
        below, below_format = self.top
        path = self.folder / f"{position}.qcow2"
        land_delta(
            self.items,
            image,
            position=position,
            path=path,
            backing=below.name,
            backing_format=below_format,
            control=FREE,
        )
        self.chain.append(path)


@pytest.fixture
def sides(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Source, Target]:
    """A source and a target whose disks have the format and size of the test's parameter."""
    image_format, size = request.param
    items = ItemStore(open_folder(tmp_path / "store", create=True), VaultId("v"), ItemId("vm"))
    for name in ("east", "west"):
        (tmp_path / name).mkdir()
    source = Source(tmp_path / "east", items, image_format, size)
    source.begin()
    return source, Target(tmp_path / "west", items, image_format, size)


each_disk = pytest.mark.parametrize(
    "sides",
    [(image_format, size) for image_format in FORMATS for size in (ODD, 64 * MiB)],
    ids=[f"{image_format}, {size}" for image_format in FORMATS for size in ("odd", "even")],
    indirect=True,
)


@each_disk
def test_g1_every_point_equals_the_source_at_its_moment(sides: tuple[Source, Target]) -> None:
    source, target = sides
    source.ship_seed(Position(1, 0))
    for sequence in range(1, 5):
        source.ship_layer(Position(1, sequence))
    while target.land():
        assert_identical(*source_at(source, len(target.chain)), *target.top)
    assert target.position == Position(1, 4)
    assert_sound(target.top[0])
    heard = acknowledged(source.items)
    assert heard is not None
    sweep(source.items, up_to=heard.position)
    assert len(leftovers(source.items)) == 1  # the word that it has landed


def source_at(source: Source, depth: int) -> tuple[Path, str]:
    path = source.chain[depth - 1]
    return path, source.image_format.value if depth == 1 else "qcow2"


@each_disk
def test_a_seed_is_as_sparse_as_its_disk(sides: tuple[Source, Target]) -> None:
    source, target = sides
    source.ship_seed(Position(1, 0))
    target.land()
    with open_reader(source.chain, source.image_format.value) as reader:
        data = reader.allocated().total
    assert target.chain[0].stat().st_blocks * 512 <= data * 2 + 512 * KiB


@each_disk
def test_a_differential_resync_makes_the_old_disk_the_running_one(
    sides: tuple[Source, Target],
) -> None:
    source, target = sides
    source.ship_seed(Position(1, 0))
    target.land()
    source.write_layer()
    source.write_layer()
    old = target.chain[0]

    def answer() -> bool:
        return answer_digests(
            source.items,
            disk=DISK,
            open_reader=lambda: open_reader([old], target.image_format.value),
            control=FREE,
        )

    position = Position(2, 0)
    with open_reader(tuple(reversed(source.chain)), source.image_format.value) as reader:
        begin = partial(
            Comparison,
            source.items,
            position=position,
            disk=DISK,
            read=reader.read,
            size=source.size,
            allocated=reader.allocated(),
            window=4 * MiB,
        )
        with Findings(
            lambda control: begin(control=control), control=FREE, pause=answer
        ) as findings:
            shipped = ship_found(
                source.items,
                position=position,
                disk=DISK,
                read=reader.read,
                findings=findings,
                size=source.size,
                control=FREE,
            )
    target._land_delta(position, shipped.image)
    assert_identical(source.chain[-1], "qcow2", *target.top)
    assert_sound(target.top[0])


@each_disk
def test_g9_a_damaged_point_leaves_the_ones_before_it_usable(
    sides: tuple[Source, Target],
) -> None:
    source, target = sides
    source.ship_seed(Position(1, 0))
    source.ship_layer(Position(1, 1))
    source.ship_layer(Position(1, 2))
    key = source.items.prefix + source.items.delta_key(Position(1, 2), DISK)
    body = source.items.store.get(key)
    source.items.store.put(key, body[:100] + bytes([body[100] ^ 1]) + body[101:])
    assert target.land()
    assert target.land()
    with pytest.raises(DamagedObjectError):
        target.land()
    assert sorted(path.name for path in target.folder.iterdir()) == ["1-1.qcow2", "replica"]
    assert_identical(source.chain[1], "qcow2", *target.top)


class TestThroughQemu:
    @pytest.fixture
    def disk(self, tmp_path: Path) -> Path:
        path = tmp_path / "disk.raw"
        with path.open("wb") as file:
            file.truncate(ODD)
            file.write(random.Random(1).randbytes(300 * KiB))
            file.seek(ODD - 512)
            file.write(b"t" * 512)
        return path

    @pytest.fixture
    def forms(self, disk: Path) -> dict[str, tuple[tuple[Path, ...], str]]:
        """The same disk in forms that only QEMU reads."""
        folder = disk.parent
        compressed, overlay, vmdk = folder / "c.qcow2", folder / "o.qcow2", folder / "d.vmdk"
        run("qemu-img", "convert", "-c", "-O", "qcow2", disk, compressed)
        run(
            "qemu-img", "create", "-q", "-f", "qcow2", "-b", compressed.name, "-F", "qcow2", overlay
        )
        run("qemu-img", "convert", "-O", "vmdk", disk, vmdk)
        return {
            "compressed": ((compressed,), "qcow2"),
            "overlay on compressed": ((overlay, compressed), "qcow2"),
            "vmdk": ((vmdk,), "vmdk"),
        }

    @pytest.mark.parametrize("form", ["compressed", "overlay on compressed", "vmdk"])
    def test_forms_we_do_not_read_are_read(
        self, disk: Path, forms: dict[str, tuple[tuple[Path, ...], str]], form: str
    ) -> None:
        paths, image_format = forms[form]
        with open_reader(paths, image_format) as reader:
            assert isinstance(reader, NbdDisk)
            assert reader.read(0, ODD) == disk.read_bytes()
            assert reader.bytes_read == reader.size == ODD
            allocated = reader.allocated()
            assert allocated.covers(ExtentSet.of(0, 300 * KiB))
            assert allocated.total < MiB
            with pytest.raises(ValueError, match="not within"):
                reader.read(ODD - 1, 2)

    def test_a_vmdk_s_odd_tail_is_there(self, disk: Path) -> None:
        with NbdDisk(disk, image_format="raw") as reader:
            assert reader.read(ODD - 512, 512) == b"t" * 512

    @pytest.mark.parametrize("name", ["plain", "with, comma", "with=equals"])
    def test_any_file_name_is_opened(self, disk: Path, name: str) -> None:
        path = disk.rename(disk.with_name(name))
        with NbdDisk(path, image_format="raw") as reader:
            assert reader.size == ODD

    def test_closing_ends_the_server_and_leaves_nothing(self, disk: Path) -> None:
        reader = NbdDisk(disk, image_format="raw")
        server = reader._server
        assert server.poll() is None
        reader.close()
        reader.close()
        assert server.poll() is not None

    def test_a_damaged_image_says_what_qemu_said(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.qcow2"
        path.write_bytes(b"QFI\xfb" + bytes(600))
        with pytest.raises(NbdServerError, match="qcow2 version") as caught:
            NbdDisk(path, image_format="qcow2")
        assert caught.value.path == path

    def test_g2_a_killed_reader_leaves_no_server(self, disk: Path) -> None:
        program = (
            "import sys, time\n"
            "from pathlib import Path\n"
            "from homeport.providers.disks.nbd import NbdDisk\n"
            "disk = NbdDisk(Path(sys.argv[1]), image_format='raw')\n"
            "print(disk._server.pid, flush=True)\n"
            "time.sleep(60)\n"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(disk)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert child.stdout is not None
            server = os.pidfd_open(int(child.stdout.readline()))
            child.send_signal(signal.SIGKILL)
            ended, _, _ = select.select([server], [], [], 30)
            os.close(server)
            assert ended
        finally:
            child.kill()
            child.communicate()

    def test_without_libnbd_it_says_which_package_is_missing(
        self, monkeypatch: pytest.MonkeyPatch, disk: Path
    ) -> None:
        def missing(name: str) -> object:
            raise ImportError(name)

        nbd.load_binding.cache_clear()
        before = list(sys.path)
        with monkeypatch.context() as patched:
            patched.setattr(importlib, "import_module", missing)
            with pytest.raises(NbdMissingError) as caught:
                NbdDisk(disk, image_format="raw")
        assert "python3-libnbd" in caught.value.remedy
        assert sys.path == before
        nbd.load_binding.cache_clear()


class TestAQcow2Base:
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Iterator[Callable[..., NbdDisk]]:
        made: list[NbdDisk] = []

        def open_again(size: int = ODD, cluster_size: int = 64 * KiB) -> NbdDisk:
            base = open_base(
                tmp_path / "base.qcow2",
                image_format=DiskFormat.QCOW2,
                size=size,
                cluster_size=cluster_size,
            )
            assert isinstance(base, NbdDisk)
            made.append(base)
            return base

        yield open_again
        for base in made:
            base.close()

    @pytest.mark.parametrize("cluster_size", [4 * KiB, 64 * KiB, 2 * MiB], ids=str)
    def test_is_made_like_the_disk_it_replicates(
        self, tmp_path: Path, opened: Callable[..., NbdDisk], cluster_size: int
    ) -> None:
        opened(cluster_size=cluster_size).close()
        facts = json.loads(run("qemu-img", "info", "--output=json", tmp_path / "base.qcow2"))
        assert (facts["virtual-size"], facts["cluster-size"]) == (ODD, cluster_size)

    def test_is_gone_on_with_after_a_crash(
        self, tmp_path: Path, opened: Callable[..., NbdDisk]
    ) -> None:
        first = opened()
        first.write(0, b"a" * MiB)
        first.flush()
        first._server.kill()  # QEMU and we are gone; what was flushed is not
        first.close()
        second = opened()
        second.write(MiB, b"b" * MiB)
        second.zero(512 * KiB, MiB)
        second.zero(8 * MiB, 2 * MiB)
        second.flush()
        second.close()
        expected = tmp_path / "expected"
        expected.write_bytes(
            b"a" * (512 * KiB) + bytes(MiB) + b"b" * (512 * KiB) + bytes(ODD - 2 * MiB)
        )
        assert_identical(expected, "raw", tmp_path / "base.qcow2", "qcow2")
        run("qemu-img", "check", "-q", "-r", "leaks", tmp_path / "base.qcow2")
        assert_sound(tmp_path / "base.qcow2")

    def test_zeroes_where_nothing_is_take_no_room(
        self, tmp_path: Path, opened: Callable[..., NbdDisk]
    ) -> None:
        base = opened(size=64 * MiB)
        before = (tmp_path / "base.qcow2").stat().st_blocks
        base.zero(0, 64 * MiB)
        base.flush()
        base.close()
        assert (tmp_path / "base.qcow2").stat().st_blocks == before

    @pytest.mark.parametrize(
        ("size", "cluster_size"),
        [(2 * ODD, 64 * KiB), (ODD, 4 * KiB)],
        ids=["another size", "other clusters"],
    )
    def test_something_else_in_its_place_is_not_touched(
        self, tmp_path: Path, opened: Callable[..., NbdDisk], size: int, cluster_size: int
    ) -> None:
        opened().close()
        before = (tmp_path / "base.qcow2").read_bytes()
        with pytest.raises(BaseTakenError):
            opened(size=size, cluster_size=cluster_size)
        assert (tmp_path / "base.qcow2").read_bytes() == before

    def test_a_file_that_is_no_image_is_not_touched(
        self, tmp_path: Path, opened: Callable[..., NbdDisk]
    ) -> None:
        (tmp_path / "base.qcow2").write_bytes(b"somebody's")
        with pytest.raises(BaseTakenError):
            opened()
        assert (tmp_path / "base.qcow2").read_bytes() == b"somebody's"
