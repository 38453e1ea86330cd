"""Our layers under QEMU's tools, and QEMU's images under our reader."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from homeport.dataplane.qcow2 import (
    ChainReader,
    LayerReader,
    LayerWriter,
    UnsupportedQcow2Error,
    create_overlay,
    read_header,
    read_map,
    rewrite_backing,
)
from homeport.model.extent import Extent, ExtentSet
from homeport.units import GiB, KiB, MiB, TiB

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-utils"),
]

BLOCK = 4 * KiB


def run(*command: str | Path) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def check(image: Path) -> None:
    found = json.loads(run("qemu-img", "check", "--output=json", image))
    assert not {"leaks", "corruptions", "check-errors"} & {key for key in found if found[key]}


def qemu_io(image: Path, *commands: str, image_format: str = "qcow2") -> None:
    words = [word for command in commands for word in ("-c", command)]
    run("qemu-io", "-d", "unmap", "-f", image_format, *words, image)


def guest_bytes(image: Path, image_format: str = "qcow2") -> bytes:
    raw = image.with_suffix(".asraw")
    run("qemu-img", "convert", "-f", image_format, "-O", "raw", image, raw)
    body = raw.read_bytes()
    raw.unlink()
    return body


def raw_disk(path: Path, size: int, seed: int) -> Path:
    """A sparse raw file with some random blocks."""
    rng = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(size)
        for _ in range(20):
            at = rng.randrange(size) // BLOCK * BLOCK
            file.seek(at)
            file.write(rng.randbytes(min(3 * BLOCK, size - at)))
    return path


def qemu_map(image: Path) -> tuple[ExtentSet, ExtentSet]:
    """Data and zero extents of one layer alone, as `qemu-img map` tells them."""
    alone = {"driver": "qcow2", "backing": None, "file": {"driver": "file", "filename": str(image)}}
    listed = json.loads(run("qemu-img", "map", "--output=json", "json:" + json.dumps(alone)))
    present = [one for one in listed if one["present"]]
    data = (Extent(one["start"], one["length"]) for one in present if one["data"])
    zero = (Extent(one["start"], one["length"]) for one in present if not one["data"])
    return ExtentSet(data), ExtentSet(zero)


def pieces(size: int, seed: int, *, zeroes_only: bool) -> list[tuple[int, bytes | int]]:
    """Ascending offsets with data, or a length of zeroes; the disk's tail is always among them."""
    rng = random.Random(seed)
    blocks = -(-size // BLOCK)
    starts = sorted({*rng.sample(range(blocks), min(blocks, 120)), blocks - 1})
    made: list[tuple[int, bytes | int]] = []
    for start, following in zip(starts, [*starts[1:], blocks], strict=True):
        count = min(following - start, rng.choice([1, 1, 1, 3, 40, 300]))
        length = min(count * BLOCK, size - start * BLOCK)
        as_zero = zeroes_only or rng.random() < 0.4
        made.append((start * BLOCK, length if as_zero else rng.randbytes(length)))
    return made


def write_layer(
    path: Path, size: int, backing: Path, what: Sequence[tuple[int, bytes | int]]
) -> None:
    with LayerWriter(path, size=size, backing=backing.name, backing_format="raw") as writer:
        for offset, body in what:
            if isinstance(body, int):
                writer.zero(offset, body)
            else:
                writer.data(offset, body)
        writer.finish()


def apply(path: Path, what: Sequence[tuple[int, bytes | int]]) -> None:
    with path.open("r+b") as file:
        for offset, body in what:
            file.seek(offset)
            file.write(bytes(body))  # an int makes as many zero bytes


@pytest.mark.parametrize(
    ("size", "zeroes_only"),
    [
        pytest.param(MiB, True, id="1 MiB of zeroes only"),
        pytest.param(10 * MiB + 512, False, id="10 MiB and a sector"),
        pytest.param(GiB + 12 * KiB, False, id="just over one L2 table"),
        pytest.param(3 * TiB, False, id="3 TiB"),
    ],
)
def test_a_written_layer_is_sound_and_equals_the_model(
    tmp_path: Path, size: int, zeroes_only: bool
) -> None:
    base = raw_disk(tmp_path / "base.raw", size, seed=1)
    model = raw_disk(tmp_path / "model.raw", size, seed=1)
    layer = tmp_path / "layer.qcow2"
    what = pieces(size, seed=2, zeroes_only=zeroes_only)
    write_layer(layer, size, base, what)
    apply(model, what)
    check(layer)
    run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", layer, model)
    assert qemu_map(layer) == (read_map(layer).data, read_map(layer).zero)

    qemu_io(layer, f"write -P 7 {size // 2 // 512 * 512} 70k", f"write -P 9 {size - 512} 512")
    qemu_io(model, f"write -P 7 {size // 2 // 512 * 512} 70k", image_format="raw")
    qemu_io(model, f"write -P 9 {size - 512} 512", image_format="raw")
    check(layer)
    run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", layer, model)


@pytest.mark.parametrize("size", [MiB, 10 * MiB + 512, 3 * TiB], ids=["small", "odd", "huge"])
def test_an_empty_overlay_is_what_qemu_img_would_make(tmp_path: Path, size: int) -> None:
    base = raw_disk(tmp_path / "base.raw", size, seed=3)
    ours, theirs = tmp_path / "ours.qcow2", tmp_path / "theirs.qcow2"
    create_overlay(ours, size=size, backing="base.raw", backing_format="raw")
    options = "cluster_size=128k,extended_l2=on"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "-b", base, "-F", "raw", theirs)
    check(ours)
    asked = ("virtual-size", "cluster-size", "backing-filename-format", "format-specific")
    shown = [json.loads(run("qemu-img", "info", "--output=json", one)) for one in (ours, theirs)]
    told = [{key: one.get(key) for key in asked} for one in shown]
    assert told[0] == told[1]
    assert ours.stat().st_blocks <= theirs.stat().st_blocks
    qemu_io(ours, "write -P 1 0 4k", f"write -z {size // 2 // BLOCK * BLOCK} 64k")
    check(ours)


def create(path: Path, size: int, options: str, base: Path | None = None) -> Path:
    backing = ("-b", base, "-F", "raw") if base else ()
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, *backing, path, str(size))
    return path


VARIANTS = [
    pytest.param("cluster_size=128k,extended_l2=on", id="as rotations make them"),
    pytest.param("cluster_size=16k,extended_l2=on", id="the smallest extended clusters"),
    pytest.param("cluster_size=64k", id="QEMU's default"),
    pytest.param("compat=0.10", id="version 2"),
    pytest.param("cluster_size=512", id="the smallest clusters"),
    pytest.param("cluster_size=2M", id="the largest clusters"),
    pytest.param("lazy_refcounts=on", id="lazy refcounts"),
    pytest.param("compression_type=zstd", id="another compression type"),
]


def scribble(image: Path, size: int, seed: int) -> None:
    """Writes, zeroes and discards by QEMU, in no order; the disk's tail too."""
    rng = random.Random(seed)
    commands = [f"write -P 3 {size - 512} 512"]
    for number in range(60):
        at = rng.randrange(size - MiB) // 512 * 512
        length = rng.choice([512, BLOCK, 20 * KiB, 300 * KiB])
        verb = rng.choice(
            [f"write -P {number + 1}", f"write -P {number + 1}", "write -z", "discard"]
        )
        commands.append(f"{verb} {at} {length}")
    qemu_io(image, *commands)


@pytest.mark.parametrize("options", VARIANTS)
def test_maps_and_bytes_of_qemus_own_images(tmp_path: Path, options: str) -> None:
    size = 12 * MiB + 1536
    base = raw_disk(tmp_path / "base.raw", size, seed=4)
    image = create(tmp_path / "image.qcow2", size, options, base)
    scribble(image, size, seed=5)
    with LayerReader(image) as reader:
        assert (reader.map.data, reader.map.zero) == qemu_map(image)
    with ChainReader([image, base], base_format="raw") as chain:
        expected = guest_bytes(image)
        assert chain.read(0, size) == expected
        for extent in chain.allocated().complement(size):
            assert not any(expected[extent.start : extent.end])


@pytest.mark.parametrize("preallocation", ["metadata", "falloc", "full"])
def test_preallocated_images(tmp_path: Path, preallocation: str) -> None:
    size = 4 * MiB
    image = create(tmp_path / "image.qcow2", size, f"preallocation={preallocation}")
    scribble(image, size, seed=6)
    with ChainReader([image], base_format="qcow2") as chain:
        assert chain.read(0, size) == guest_bytes(image)


def test_a_chain_of_layers_of_growing_size(tmp_path: Path) -> None:
    """A disk resized twice while it was protected, ours and QEMU's layers in turn."""
    base = raw_disk(tmp_path / "base.raw", 3 * MiB, seed=7)
    paths = [base]
    for number, size in enumerate((3 * MiB, 5 * MiB, 6 * MiB + 512)):
        path = tmp_path / f"layer{number}.qcow2"
        kind = "raw" if number == 0 else "qcow2"
        create_overlay(path, size=size, backing=paths[0].name, backing_format=kind)
        scribble(path, size, seed=8 + number)
        paths.insert(0, path)
    with ChainReader(paths, base_format="raw") as chain:
        assert chain.size == 6 * MiB + 512
        assert chain.read(0, chain.size) == guest_bytes(paths[0])


def test_a_layer_read_and_written_again_is_the_same(tmp_path: Path) -> None:
    """What capture and landing do to a closed layer, without the way between."""
    size = 40 * MiB + 512
    base = raw_disk(tmp_path / "base.raw", size, seed=9)
    closed, landed = tmp_path / "closed.qcow2", tmp_path / "landed.qcow2"
    create_overlay(closed, size=size, backing=base.name, backing_format="raw")
    scribble(closed, size, seed=10)
    with LayerReader(closed) as reader:
        parts = [(one.start, reader.read(one.start, one.length)) for one in reader.map.data]
        zeroes = [(one.start, one.length) for one in reader.map.zero]
        write_layer(landed, size, base, sorted([*parts, *zeroes], key=lambda part: part[0]))
        assert read_map(landed).changed == reader.map.changed
    check(landed)
    run("qemu-img", "compare", closed, landed)


@pytest.mark.parametrize("options", VARIANTS)
def test_the_backing_name_moves_and_qemu_follows(tmp_path: Path, options: str) -> None:
    size = 2 * MiB
    base = raw_disk(tmp_path / "base.raw", size, seed=11)
    image = create(tmp_path / "image.qcow2", size, options, base)
    qemu_io(image, "write -P 5 4k 8k")
    expected = guest_bytes(image)
    for name in ("renamed.raw", "r", "renamed-with-a-much-longer-name-than-before.raw", "b.raw"):
        base = base.rename(tmp_path / name)
        rewrite_backing(image, name, "raw")
        shown = json.loads(run("qemu-img", "info", "--output=json", image))
        assert (shown["backing-filename"], shown["backing-filename-format"]) == (name, "raw")
        check(image)
        assert guest_bytes(image) == expected
    run("qemu-img", "rebase", "-u", "-b", "b.raw", "-F", "raw", image)
    base.rename(tmp_path / "again.raw")
    rewrite_backing(image, "again.raw", "raw")
    assert guest_bytes(image) == expected


def test_the_backing_name_goes_and_comes(tmp_path: Path) -> None:
    image = create(tmp_path / "image.qcow2", MiB, "cluster_size=64k")
    base = raw_disk(tmp_path / "base.raw", MiB, seed=12)
    rewrite_backing(image, base.name, "raw")
    assert guest_bytes(image) == base.read_bytes()
    rewrite_backing(image, None, None)
    assert not any(guest_bytes(image))
    check(image)


def compressed(folder: Path) -> Path:
    raw = raw_disk(folder / "base.raw", MiB, seed=13)
    run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, folder / "image.qcow2")
    return folder / "image.qcow2"


def encrypted(folder: Path) -> Path:
    secret = ("--object", "secret,id=key,data=abc123")
    options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10"
    image = folder / "image.qcow2"
    run("qemu-img", "create", "-q", *secret, "-f", "qcow2", "-o", options, image, "1M")
    return image


def external(folder: Path) -> Path:
    return create(folder / "image.qcow2", MiB, f"data_file={folder / 'data.raw'}")


@pytest.mark.parametrize(
    ("make", "feature"),
    [(compressed, "compressed"), (encrypted, "encrypted"), (external, "external file")],
)
def test_what_only_qemu_can_read_is_named(
    tmp_path: Path, make: Callable[[Path], Path], feature: str
) -> None:
    with pytest.raises(UnsupportedQcow2Error, match=feature) as caught:
        read_map(make(tmp_path))
    assert "qemu-nbd" in caught.value.remedy


def test_internal_snapshots_are_counted(tmp_path: Path) -> None:
    image = create(tmp_path / "image.qcow2", MiB, "cluster_size=64k")
    assert read_header(image).snapshots == 0
    run("qemu-img", "snapshot", "-c", "before", image)
    assert read_header(image).snapshots == 1
