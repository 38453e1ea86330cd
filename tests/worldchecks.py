"""
What must hold of two sites' files at any moment, with qemu-img as the judge.

Used by the tests that drive `tests.world`: what each listed point, each image set aside and the
running machine hold is compared with what a plain bytearray remembered.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from homeport.agent.held import HeldItem
from homeport.model.ledger import DiskChain, Unsent
from homeport.model.machine import PowerState
from homeport.model.position import Position
from tests.world import ITEM, Host, read_image

Disks = Mapping[str, bytes]


def check_points(host: Host, remembered: Mapping[Position, Disks]) -> None:
    """Every point listed on the host is what its disks were at that moment."""
    for point in host.ledger.points:
        for disk, content in remembered[point.position].items():
            same(host.bytes_of(point.position, disk), content, f"{host.name} {point.position}")


def check_unsent(host: Host, expected: Mapping[tuple[str, str], bytes]) -> None:
    """Every image set aside opens by itself and holds what was remembered of it."""
    held = host.shelf.peek(ITEM)
    for chain, unsent in set_aside(host):
        path = held.path(unsent.path)
        found = read_image(path, format_of(held, chain, unsent))
        same(found, expected[host.name, unsent.path], f"{host.name} {unsent.path}")


def set_aside(host: Host) -> Iterator[tuple[DiskChain, Unsent]]:
    for chain in host.ledger.disks:
        for unsent in chain.set_aside:
            yield chain, unsent


def format_of(held: HeldItem, chain: DiskChain, unsent: Unsent) -> str:
    return chain.disk.format.value if unsent.path == unsent.base else "qcow2"


def check_running(host: Host, truth: Disks) -> None:
    """The machine's disks are what its guest wrote."""
    held = host.shelf.peek(ITEM)
    for chain in host.ledger.disks:
        name = chain.active or chain.base
        found = read_image(held.path(name), held.format_of(chain, name))
        same(found, truth[chain.name], f"{host.name} {name}")


def check_files(host: Host) -> None:
    """No file in the item's folder or beside it that the ledger does not speak of, none missing."""
    held = host.shelf.peek(ITEM)
    ledger = held.ledger
    spoken = held.files()
    within = {path for chain in ledger.disks for path in (held.folder / chain.name).glob("*")}
    beside = {path for path in host.pool.iterdir() if path.is_file()}
    assert within | beside <= spoken, sorted(map(str, (within | beside) - spoken))
    whole = {path for chain in ledger.disks if chain.whole for path in held.images_of(chain)}
    missing = [path for path in whole if not path.exists()]
    assert not missing, missing
    points = {path.name for path in (held.folder / "points").glob("*")}
    assert points == {point.position.key for point in ledger.points}
    maps = {path.name.partition(".")[0] for path in (held.folder / "maps").glob("*")}
    assert maps <= {past.position.key for past in ledger.past}
    assert not list(held.folder.glob("*.partial"))


def check_images(host: Host) -> None:
    """Every qcow2 file is sound."""
    held = host.shelf.peek(ITEM)
    for path in held.files():
        if path.suffix == ".qcow2" and path.exists():
            done = subprocess.run(
                ["qemu-img", "check", "-U", "--output=json", str(path)],
                capture_output=True,
                text=True,
                check=False,
            )
            found = json.loads(done.stdout)
            bad = {key: found.get(key, 0) for key in ("corruptions", "leaks", "check-errors")}
            assert done.returncode == 0, (path, bad, done.stderr)
            assert not any(bad.values()), (path, bad)


def check_released(host: Host, truth: Disks | None, names: Mapping[str, str]) -> None:
    """Nothing is left; with `truth` the machine's disks lie there under their names, by disk."""
    kept = {} if truth is None else {name: truth[disk] for disk, name in names.items()}
    assert {path.name for path in host.pool.iterdir()} == set(kept)
    for name, content in kept.items():
        path = host.pool / name
        same(read_image(path, path.suffix.removeprefix(".")), content, str(path))
    assert not list((host.root / host.name / "cache" / "v1").rglob("*"))
    assert not host.shelf.has(ITEM)
    if truth is not None:
        assert host.compute.state("web") is not PowerState.ABSENT
        named = host.compute.sources("web").persistent.values()
        assert {Path(path).name for path in named} == set(kept)
        assert host.compute.note("web") is None


def same(found: bytes, expected: bytes, what: str) -> None:
    """Equal, or the first block that differs is named."""
    if found == expected:
        return
    assert len(found) == len(expected), f"{what}: {len(found)} bytes, not {len(expected)}"
    at = next(i for i in range(0, len(found), 512) if found[i : i + 512] != expected[i : i + 512])
    seen, wanted = found[at : at + 64], expected[at : at + 64]
    raise AssertionError(f"{what} differs at {at}: {seen!r}, not {wanted!r}")
