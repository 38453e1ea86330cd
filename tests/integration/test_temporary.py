"""Temporary replicas: there while a seed or a resync reads, gone afterwards however it ended."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homeport.agent import temporary
from homeport.agent.loop import one_pass
from homeport.agent.reporting import report_item
from homeport.dataplane.pipeline import Control
from homeport.dataplane.points import backing_of
from homeport.errors import CancelledError, TransientError
from homeport.model.compaction import needed_positions, next_pair
from homeport.model.ledger import ReadReplica
from homeport.model.planning import Way
from homeport.orchestration.resynced import TEMPORARY_PREFIX
from homeport.units import KiB, MiB
from tests.crashes import CrashError, Mortal
from tests.world import ITEM, Host, World, read_image

pytestmark = pytest.mark.real


def seeding(root: Path) -> World:
    world = World(root, formats={"vda": "qcow2", "vdb": "raw"}, size=MiB)
    world.write("vda", 3 * KiB, b"seed" * 3000)
    world.write("vdb", 0, b"data" * 500)
    world.protect()
    return world


def resyncing(way: Way | None) -> Callable[[Path], World]:
    def make(root: Path) -> World:
        world = seeding(root)
        world.replicate()
        world.write("vda", 100 * KiB, b"landed" * 100)
        world.capture()
        world.write("vdb", 200 * KiB, b"never sent" * 100)
        world.fail_over()
        world.write("vda", 300 * KiB, b"west" * 100)
        world.commit()
        world.reprotect(way=way)
        return world

    return make


STAGES = {
    "seed": seeding,
    "exact resync": resyncing(None),
    "differential resync": resyncing(Way.DIFFERENTIAL),
    "full resync": resyncing(Way.FULL),
}


@pytest.fixture(params=STAGES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return STAGES[request.param](tmp_path)


def replicas(host: Host) -> list[Path]:
    return sorted(host.pool.rglob(f"{temporary.PREFIX}*"))


def told(host: Host) -> list[str]:
    """As the server's task looks for them."""
    report = report_item(host.shelf, ITEM)
    return [
        entry.name
        for entry in report.ledger
        if entry.gone_at is None and Path(entry.name).name.startswith(TEMPORARY_PREFIX)
    ]


def nothing_left(host: Host) -> None:
    assert replicas(host) == []
    assert told(host) == []
    assert host.ledger.reading == ()


def arrives(world: World) -> None:
    world.replicate(3)
    position = world.standby.ledger.stands_at
    assert position is not None
    for disk in world.disks:
        assert world.standby.bytes_of(position, disk) == world.remembered()[disk]
    nothing_left(world.running)


def watch(host: Host, look: Callable[[tuple[Path, ...]], None]) -> None:
    """Call `look` with the files whenever a disk is opened to be read."""
    inner = host.shelf.means.open_reader

    def opened(paths: tuple[Path, ...], base_format: str) -> Any:
        look(paths)
        return inner(paths, base_format)

    host.shelf.means = replace(host.shelf.means, open_reader=opened)


def test_one_is_there_for_each_disk_while_it_is_read(world: World) -> None:
    host, seen = world.running, []

    def look(paths: tuple[Path, ...]) -> None:
        (replica,) = replicas(host)
        assert paths[0] == replica
        assert told(host) == [str(replica)]
        assert backing_of(replica) == paths[1]
        assert replica.stat().st_mode & 0o777 == 0o400
        assert read_image(replica, "qcow2") == read_image(paths[1], format_of(host, paths[1]))
        pinned_below(host)
        seen.append(replica.parent.name)

    watch(host, look)
    arrives(world)
    assert sorted(set(seen)) == world.disks


def format_of(host: Host, path: Path) -> str:
    held = host.shelf.peek(ITEM)
    chain = next(one for one in held.ledger.disks if path in held.images_of(one))
    return held.format_of(chain, held.name_of(path))


def pinned_below(host: Host) -> None:
    """Whatever had landed, nothing below the one that is read would be joined now."""
    ledger = host.ledger
    (replica,) = ledger.reading
    chain = ledger.chain(replica.disk)
    assert next_pair(chain, needed_positions(ledger), up_to=replica.position) is None


def test_it_is_named_alike_when_the_reading_is_begun_again(world: World) -> None:
    host, names, times = world.running, [], set()

    def fails(paths: tuple[Path, ...]) -> None:
        names.append(paths[0].name)
        times.update(one.made_at for one in host.ledger.made if one.name == str(paths[0]))
        if len(names) < 3:
            raise TransientError("The disk does not answer.")

    watch(host, fails)
    for _ in range(2):
        with suppress(TransientError):
            host.one_pass()
        nothing_left(host)
        world.clock.pass_time(1)
    assert len(times) == 1, "the vault keeps a line for each time"
    arrives(world)
    assert len(set(names[:3])) == 1
    entries = [entry for entry in host.ledger.made if TEMPORARY_PREFIX in entry.name]
    assert len(entries) == len({entry.name for entry in entries})
    assert all(entry.gone_at is not None for entry in entries)


def test_cancelled_in_the_middle_of_the_reading_it_is_gone(world: World) -> None:
    host = world.running
    opened: list[tuple[Path, ...]] = []
    watch(host, opened.append)
    control = Control(cancelled=lambda: bool(opened))
    with pytest.raises(CancelledError), host.shelf.turn(ITEM, control) as work:
        one_pass(work)
    nothing_left(host)
    arrives(world)


def test_killed_while_it_is_read_it_is_gone_with_the_next_start(world: World) -> None:
    host = world.running

    def dies(paths: tuple[Path, ...]) -> None:
        life.dead = True
        raise CrashError("killed")

    watch(host, dies)
    with Mortal().living() as life, pytest.raises(CrashError):
        host.one_pass()
    assert len(replicas(host)) == len(told(host)) == 1
    kept = others(host)
    host.restart()
    nothing_left(host)
    assert others(host) == kept
    arrives(world)


def others(host: Host) -> dict[Path, bytes]:
    files = (path for path in host.pool.rglob("*") if path.is_file())
    return {
        path: hashlib.sha256(path.read_bytes()).digest()
        for path in files
        if not path.name.startswith(temporary.PREFIX) and path.name != "ledger.json"
    }


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("stage", ["seed", "exact resync"])
def test_dying_at_any_effect_of_its_life_leaves_nothing(
    stage: str, before: bool, tmp_path: Path
) -> None:
    for effect in range(100):
        root = tmp_path / "world"
        world = STAGES[stage](root)
        host = world.running
        chain, position = host.ledger.disks[0], host.ledger.captured[-1].position
        with (
            Mortal(effect, before=before).living() as life,
            suppress(CrashError),
            host.shelf.turn(ITEM, Control()) as work,
            temporary.reading(work, chain, position) as reader,
        ):
            assert reader.size == MiB
        died = life.dead
        host.restart()
        nothing_left(host)
        shutil.rmtree(root)
        if not died:
            assert effect == 5, life.effects
            return
    pytest.fail("it never lived to its end")


def test_one_that_could_not_be_removed_goes_before_the_next_work(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.running
    inner = Path.unlink

    def stuck(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith(temporary.PREFIX) and not path.name.endswith(".partial"):
            raise OSError(5, "Input/output error")
        inner(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", stuck)
        with pytest.raises(OSError, match="Input/output"):
            world.replicate(1)
        assert len(told(host)) == 1
    arrives(world)


def test_a_leftover_holds_what_it_stands_on_until_it_is_swept(tmp_path: Path) -> None:
    world = seeding(tmp_path)
    world.replicate()
    host = world.running
    for number in range(3):
        world.write("vda", number * 8 * KiB, bytes([number + 1]) * 4000)
        world.capture()
    held = host.shelf.peek(ITEM)
    chain = held.ledger.disks[0]
    top = chain.stands_at
    assert top is not None
    left = ReadReplica(disk=chain.name, path=temporary.name_of(held, chain), position=top)
    held.save(reading=(left,))
    pinned_below(host)
    held.path(left.path).write_bytes(b"left over")
    held.sweep_files()
    assert held.path(left.path).exists()
    assert temporary.sweep(held, host.shelf.means) == 1
    assert temporary.sweep(held, host.shelf.means) == 0
    nothing_left(host)
