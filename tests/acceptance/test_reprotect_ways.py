"""
What a resync sends, after each kind of failover and after each way to lose track of the old disks.

Blocks that really differ are counted from the disks' own content, by qemu-img, on both sides.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from homeport.lab.commands import run
from homeport.model.planning import Way
from homeport.model.position import Position
from homeport.units import KiB, MiB
from tests.acceptance.images import BLOCK, HeldFiles, bytes_in, freed
from tests.acceptance.pair import Pair

pytestmark = [pytest.mark.real, pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(300)]


def planned(pair: Pair) -> None:
    pair.fail_over(planned=True)


def unplanned(pair: Pair) -> None:
    pair.fail_over()


def older(pair: Pair) -> None:
    """A point with newer ones landed; what lies beyond it differs too."""
    chosen = pair.points()[-1]
    for _ in range(2):
        pair.newer_point()
    pair.fail_over(point=str(chosen))
    assert pair.points()[-1] > chosen


def named(first: Callable[..., object], *others: Callable[..., object]) -> list[Any]:
    """Cases named after what they do; beside the first one they are long."""
    long = [pytest.param(one, id=one.__name__, marks=[pytest.mark.long]) for one in others]
    return [pytest.param(first, id=first.__name__), *long]


@pytest.mark.parametrize("fails_over", named(older, planned, unplanned))
def test_an_exact_resync_sends_what_differs(pair: Pair, fails_over: Callable[[Pair], None]) -> None:
    sends_what_differs(pair, fails_over)


def sends_what_differs(pair: Pair, fails_over: Callable[[Pair], None]) -> None:
    """The whole case, for disks of any format."""
    fails_over(pair)
    pair.commit()
    here, there = pair.here, pair.there
    review = pair.review(**pair.kept)
    assert review.way is Way.EXACT, review.reason
    common = review.plan.common
    old = pair.raw(there, common)
    with pair.store_cut(here, seen_from=there):
        job = pair.start_reprotect()
        pair.shipped(job)
        in_store = bytes_in(pair.stage.store(here))
    result = pair.done(job).result or {}
    differ = pair.sent_exactly(old, Position.parse(result["point"]))
    assert 0 < in_store <= differ * 1.05
    pair.same_at_both()
    pair.records(here)


def committed(pair: Pair) -> HeldFiles:
    """Failed over and committed; the old side's files."""
    pair.fail_over(planned=True)
    pair.commit()
    return pair.files(pair.there)


def touched(pair: Pair) -> tuple[str, int]:
    """Few blocks of the old data disk are written from outside, by another tool."""
    base = committed(pair).base("web-data")
    for at in (3 * MiB, 40 * MiB, 63 * MiB):
        run(["qemu-io", "-f", "raw", "-c", f"write -q -P 0x5a {at} {4 * KiB}", freed(base)])
    return "was written to from outside", 3


def restored(pair: Pair) -> tuple[str, int]:
    """A file of the same name, from elsewhere, with other content."""
    base = committed(pair).base("web-data")
    other = base.with_suffix(".other")
    shutil.copyfile(base, other)
    with other.open("r+b") as file:
        file.seek(20 * MiB)
        file.write(b"restored from elsewhere " * 4096)
    other.replace(freed(base))
    return "was written to from outside", 24


def maps_lost(pair: Pair) -> tuple[str, int]:
    """What the points between the two sides had changed is not known any more."""
    older(pair)
    pair.commit()
    for path in (pair.files(pair.here).folder / "maps").iterdir():
        path.unlink()
    return "no point is known to both sides", 1


@pytest.mark.parametrize("loses", named(touched, restored, maps_lost))
def test_a_differential_resync_sends_the_blocks_that_differ(
    pair: Pair, loses: Callable[[Pair], tuple[str, int]]
) -> None:
    reason, least = loses(pair)
    there = pair.there
    review = pair.review(**pair.kept)
    (data,) = [disk for disk in review.disks if disk.disk == "web-data"]
    assert data.way is Way.DIFFERENTIAL
    assert reason in data.reason
    old = pair.raw(there, review.plan.common or pair.files(there).ledger.stands_at)
    result = pair.done(pair.start_reprotect()).result or {}
    assert result["way"] == "differential"
    point = Position.parse(result["point"])
    total = pair.sent_exactly(old, point, compared=data.disk)
    assert total >= least * BLOCK
    assert result["bytes_moved"] <= total * 1.05
    pair.same_at_both()
    pair.records(pair.here)
