"""
An agent that dies at every durable effect of everything it does, and is started again.

Each case is done once undisturbed, and once for every effect with a death before it and one after
it: then the agent begins anew and gets the same order again. What comes of it must be what came of
the undisturbed run: roles, names, points, machines, and every byte by qemu-img.
"""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from homeport.model import operations as ops
from homeport.model.planning import Way
from homeport.model.position import Position
from homeport.units import KiB, MiB
from tests.crashes import CrashError, Mortal
from tests.integration.test_state_machine import scratch
from tests.world import ITEM, NETWORKS, VAULT, Host, World, read_image
from tests.worldchecks import check_files, check_images, format_of, set_aside

pytestmark = pytest.mark.real

Act = Callable[[], Any]
Case = Callable[[], tuple[World, Act]]
NUMBERS = re.compile(r"\d{6}-\d{10}|\d+-\d+")
SAMPLE = 37
"""In a quick run one death in so many is tried, the first one shifting from case to case."""


@dataclass
class Stage:
    """A world brought to where a case begins, which can be brought there again."""

    world: World
    kept: Path = field(init=False)

    def __post_init__(self) -> None:
        self.kept = self.world.root.with_name(self.world.root.name + ".kept")
        shutil.copytree(self.world.root, self.kept)
        self._machines = [copy.deepcopy(host.compute.machines) for host in self._hosts()]
        self._at = self.world.clock.at

    def _hosts(self) -> tuple[Host, Host]:
        return self.world.east, self.world.west

    def reset(self) -> None:
        shutil.rmtree(self.world.root)
        shutil.copytree(self.kept, self.world.root)
        self.world.clock.at = self._at
        for host, machines in zip(self._hosts(), self._machines, strict=True):
            host.compute.machines.clear()
            host.compute.machines.update(copy.deepcopy(machines))
            host.restart()

    def remove(self) -> None:
        shutil.rmtree(self.kept)


# -- what comes of it --


def outcome(world: World) -> dict[str, Any]:
    return {host.name: outcome_at(host) for host in (world.east, world.west)}


def outcome_at(host: Host) -> dict[str, Any]:
    machines = {
        name: (
            machine.state,
            {target: plain(path) for target, path in host.compute.sources(name).persistent.items()},
            host.compute.note(name),
        )
        for name, machine in host.compute.machines.items()
    }
    if not host.shelf.has(ITEM):
        held = {path.name: content(path) for path in host.pool.iterdir() if path.is_file()}
        return {"machines": machines, "pool": held, "folder": (host.pool / "homeport").exists()}
    check_files(host)
    check_images(host)
    return {"machines": machines, **ledger_of(host)}


def ledger_of(host: Host) -> dict[str, Any]:
    held, ledger = host.shelf.peek(ITEM), host.ledger
    assert ledger.rotating is None
    assert ledger.committing is None
    aside = {
        plain(unsent.path): read_image(held.path(unsent.path), format_of(held, chain, unsent))
        for chain, unsent in set_aside(host)
    }
    tops = {chain.name: chain.active or chain.top for chain in ledger.disks if chain.whole}
    return {
        "role": (ledger.role, ledger.epoch, ledger.committed, ledger.resyncing, ledger.ended),
        "booted": ledger.booted,
        "test": ledger.test,
        "bases": [chain.base for chain in ledger.disks],
        "points": {
            plain(str(point.position)): {
                chain.name: host.bytes_of(point.position, chain.name) for chain in ledger.disks
            }
            for point in ledger.points
        },
        "now": {
            chain.name: read_image(
                held.path(tops[chain.name]), held.format_of(chain, tops[chain.name])
            )
            for chain in ledger.disks
            if chain.name in tops
        },
        "aside": aside,
        "made": {(entry.kind, entry.name, entry.gone_at is None) for entry in ledger.made},
    }


def plain(name: str) -> str:
    """A name without its positions: a resync that is ordered again takes a new one."""
    return NUMBERS.sub("#", name)


def content(path: Path) -> bytes:
    return read_image(path, path.suffix.removeprefix("."))


# -- the cases --


def new_world() -> World:
    world = World(scratch(), formats={"vda": "qcow2", "vdb": "raw"}, size=MiB)
    world.write("vda", 3 * KiB, b"seed" * 3000)
    world.write("vdb", 0, b"data" * 500)
    return world


def protected() -> World:
    world = new_world()
    world.protect()
    world.replicate(2)
    write(world, 1)
    return world


def write(world: World, number: int) -> None:
    world.write("vda", number * 20 * KiB, bytes([number]) * 9000)
    world.write("vdb", number * 8 * KiB, bytes([number]) * 4000)
    world.zero("vdb", 100 * KiB + number * 8 * KiB, 4 * KiB)


def with_points(count: int) -> World:
    world = protected()
    for number in range(2, 2 + count):
        write(world, number)
        world.capture()
    write(world, 30)
    return world


def failed_over(*, older: bool = False) -> World:
    world = with_points(2)
    world.fail_over(world.standby.ledger.points[-2].position if older else None)
    write(world, 9)
    return world


def reversed_(way: Way | None = None, *, older: bool = False) -> World:
    world = failed_over(older=older)
    world.commit()
    world.reprotect(way=way)
    write(world, 12)
    return world


def rounds(*hosts: Host, times: int = 2) -> Act:
    def act() -> None:
        for _ in range(times):
            for host in hosts:
                host.one_pass()

    return act


def armed(world: World) -> Act:
    facts = world.east.order(ops.CheckSource(machine="web"))
    prepare = ops.PrepareTarget(
        item=ITEM, name="web", vault=VAULT, epoch=1, definition=facts.definition, pool="default"
    )
    arm = ops.Arm(
        item=ITEM,
        name="web",
        vault=VAULT,
        epoch=1,
        machine="web",
        cache=world.east.cache,
        policy=world.policy,
    )
    return orders((world.west, prepare), (world.east, arm))


def orders(*given: tuple[Host, Any]) -> Act:
    def act() -> None:
        for host, order in given:
            host.order(order)

    return act


def promotion(world: World, position: Position, epoch: int) -> ops.Promote:
    return ops.Promote(
        item=ITEM,
        epoch=epoch,
        position=position,
        machine="web",
        networks=NETWORKS,
        guest_timeout=0,
    )


def arming() -> tuple[World, Act]:
    world = new_world()
    return world, armed(world)


def shipping_a_seed() -> tuple[World, Act]:
    world = new_world()
    world.protect()
    return world, rounds(world.east)


def landing_a_seed() -> tuple[World, Act]:
    world = new_world()
    world.protect()
    world.east.one_pass()
    return world, rounds(world.west)


def capturing() -> tuple[World, Act]:
    world = protected()
    world.clock.pass_time(10)
    return world, rounds(world.east, times=1)


def landing() -> tuple[World, Act]:
    world = protected()
    for number in (2, 3):
        write(world, number)
        world.clock.pass_time(10)
        world.east.one_pass()
    return world, rounds(world.west)


def committing_live() -> tuple[World, Act]:
    world = protected()
    for number in (2, 3):
        write(world, number)
        world.clock.pass_time(10)
        world.east.one_pass()
    world.west.one_pass()
    return world, rounds(world.east)


def committing_while_off() -> tuple[World, Act]:
    world, act = committing_live()
    world.east.compute.stop("web", timeout=0)
    return world, act


def pruning_and_merging() -> tuple[World, Act]:
    world = protected()
    world.clock.at = world.clock.at.replace(minute=0)
    for number, minutes in enumerate((5, 60, 5, 5, 60), start=2):
        world.clock.pass_time(minutes * 60)
        write(world, number)
        world.capture()
    world.clock.pass_time(timedelta(hours=3).total_seconds())
    return world, rounds(world.west)


def last_capture() -> tuple[World, Act]:
    world = protected()
    return world, orders((world.east, ops.FinalCapture(item=ITEM, epoch=1, timeout=0)))


def fencing() -> tuple[World, Act]:
    world = protected()
    return world, orders((world.east, ops.Fence(item=ITEM, epoch=2, lock="lock")))


def unfencing() -> tuple[World, Act]:
    world = protected()
    world.east.order(ops.FinalCapture(item=ITEM, epoch=1, timeout=0))
    world.east.order(ops.Fence(item=ITEM, epoch=2))
    return world, orders((world.east, ops.Unfence(item=ITEM, epoch=3)))


def promoting() -> tuple[World, Act]:
    world = with_points(2)
    newest = world.west.ledger.points[-1].position
    return world, orders((world.west, promotion(world, newest, 2)))


def promoting_an_older_point() -> tuple[World, Act]:
    world = with_points(2)
    older = world.west.ledger.points[0].position
    return world, orders((world.west, promotion(world, older, 2)))


def changing_the_point() -> tuple[World, Act]:
    world = failed_over()
    older = world.west.ledger.points[0].position
    return world, orders((world.west, promotion(world, older, 3)))


def demoting() -> tuple[World, Act]:
    world = failed_over(older=True)
    return world, orders((world.west, ops.Demote(item=ITEM, epoch=3)))


def accepting() -> tuple[World, Act]:
    world = failed_over()
    return world, orders((world.west, ops.Accept(item=ITEM, epoch=2)))


def reprotecting(way: Way | None, *, older: bool = False) -> Callable[[], tuple[World, Act]]:
    def case() -> tuple[World, Act]:
        world = failed_over(older=older)
        world.commit()
        prepare, reverse = world.reprotect_orders(way=way)
        return world, orders((world.east, prepare), (world.west, reverse))

    return case


def shipping_a_resync() -> tuple[World, Act]:
    world = reversed_()
    return world, rounds(world.west)


def landing_a_resync(way: Way | None) -> Callable[[], tuple[World, Act]]:
    def case() -> tuple[World, Act]:
        world = reversed_(way)
        world.west.one_pass()
        return world, rounds(world.east)

    return case


def ending_a_direction() -> tuple[World, Act]:
    """The first point has landed: points beyond the booted one go, what stands on them stays."""
    world = failed_over()
    world.change_point(world.west.ledger.points[0].position)
    write(world, 14)
    world.commit()
    world.reprotect()
    world.west.one_pass()
    world.east.one_pass()
    return world, rounds(world.west)


def booting_a_test() -> tuple[World, Act]:
    world = with_points(2)
    position = world.west.ledger.points[0].position
    boot = ops.TestBoot(item=ITEM, position=position, machine="web-test", guest_timeout=0)
    return world, orders((world.west, boot))


def cleaning_up() -> tuple[World, Act]:
    world, act = booting_a_test()
    act()
    return world, orders((world.west, ops.TestCleanup(item=ITEM, machine="web-test")))


def expiring() -> tuple[World, Act]:
    world = reversed_()
    world.replicate(2)
    world.clock.pass_time(timedelta(days=7, hours=12).total_seconds())
    world.replicate(1)
    return world, rounds(world.east)


def releasing(
    world: World, owner: Host, *, off: bool = False
) -> Callable[[], tuple[World, Act]] | Any:
    if off:
        owner.compute.stop("web", timeout=0)
    epoch = world.epoch
    given = [
        (host, ops.Release(item=ITEM, epoch=epoch, owner=host is owner))
        for host in (world.east, world.west)
    ]
    return world, orders(*given)


def releasing_at_home() -> tuple[World, Act]:
    world = with_points(2)
    return releasing(world, world.east)


def releasing_while_off() -> tuple[World, Act]:
    world = with_points(2)
    return releasing(world, world.east, off=True)


def releasing_away() -> tuple[World, Act]:
    world = reversed_()
    world.replicate(2)
    return releasing(world, world.west)


def releasing_in_a_full_copy() -> tuple[World, Act]:
    """The old disks that were to be replaced are given back."""
    return releasing(world := reversed_(Way.FULL), world.west)


CASES: dict[str, Callable[[], tuple[World, Act]]] = {
    "arm": arming,
    "ship a seed": shipping_a_seed,
    "land a seed": landing_a_seed,
    "rotate and ship": capturing,
    "land": landing,
    "commit live": committing_live,
    "commit while off": committing_while_off,
    "prune and merge": pruning_and_merging,
    "final capture": last_capture,
    "fence": fencing,
    "unfence": unfencing,
    "promote": promoting,
    "promote an older point": promoting_an_older_point,
    "change the point": changing_the_point,
    "demote": demoting,
    "accept": accepting,
    "reprotect": reprotecting(None),
    "reprotect from an older point": reprotecting(None, older=True),
    "reprotect in full": reprotecting(Way.FULL),
    "reprotect by comparison": reprotecting(Way.DIFFERENTIAL),
    "ship a resync": shipping_a_resync,
    "land a resync": landing_a_resync(None),
    "land a full resync": landing_a_resync(Way.FULL),
    "end a direction": ending_a_direction,
    "test": booting_a_test,
    "clean up a test": cleaning_up,
    "expire": expiring,
    "release at home": releasing_at_home,
    "release while off": releasing_while_off,
    "release away": releasing_away,
    "release in a full copy": releasing_in_a_full_copy,
}


# -- the matrix --


def deaths(effects: int, *, every: int, first: int) -> Iterator[tuple[int, bool]]:
    both = [(at, before) for at in range(effects) for before in (True, False)]
    return iter(both[first % min(every, len(both)) :: every])


def go_through(
    name: str,
    case: Case,
    *,
    every: int,
    stage: Callable[[World], Stage] = Stage,
    outcome: Callable[[World], dict[str, Any]] = outcome,
) -> int:
    """
    Die at the effects of a case, one in `every`, and do it again; how many deaths that were.

    What comes of it must be the `outcome` of doing it undisturbed.
    """
    world, act = case()
    begin = stage(world)
    try:
        with Mortal().living() as life:
            act()
        expected, effects = outcome(world), life.effects
        assert effects, "nothing was done"
        count = 0
        for at, before in deaths(len(effects), every=every, first=len(name)):
            begin.reset()
            with Mortal(at, before=before).living(), suppress(CrashError):
                act()
            for host in (world.east, world.west):
                host.restart()
            moment = f"{name}: died {'before' if before else 'after'} effect {at}, {effects[at]}"
            again(act, moment)
            differs(expected, outcome(world), moment)
            count += 1
        return count
    finally:
        begin.remove()
        shutil.rmtree(world.root)


def again(act: Act, moment: str) -> None:
    try:
        act()
    except Exception as error:
        raise AssertionError(f"{moment}; again: {error}") from error


def differs(expected: Any, found: Any, moment: str, at: str = "") -> None:
    if isinstance(expected, dict) and isinstance(found, dict):
        assert expected.keys() == found.keys(), (moment, at, set(expected) ^ set(found))
        for key in expected:
            differs(expected[key], found[key], moment, f"{at}/{key}")
        return
    assert expected == found, (moment, at, str(expected)[:500], str(found)[:500])


@pytest.mark.parametrize("name", CASES)
def test_a_death_here_and_there(name: str) -> None:
    assert go_through(name, CASES[name], every=SAMPLE)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CASES)
def test_a_death_at_every_effect(name: str) -> None:
    assert go_through(name, CASES[name], every=1)
