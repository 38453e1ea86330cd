"""Which resync: the cheapest that is known to be right, by a table of what both sides hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.model.ids import DiskName
from homeport.model.operations import SideFacts
from homeport.model.planning import Way, bytes_between, common_point, plan_resync
from homeport.model.position import Position
from homeport.units import GiB, KiB, MiB
from tests.unit.model.builders import DISK, at, disk_facts, held, side

LINE = [held(number, changed=number * KiB) for number in range(1, 6)]


@pytest.mark.parametrize(
    ("old", "running", "common"),
    [
        pytest.param([1, 2, 3], [1, 2, 3], 3, id="all of it"),
        pytest.param([1, 2, 3], [1, 2], 2, id="the old side has more"),
        pytest.param([1, 2], [1, 2, 3], 2, id="the running side has more"),
        pytest.param([3], [1, 2, 3], 3, id="the old side has merged its layers"),
        pytest.param([1], [2, 3], None, id="no number in common"),
        pytest.param([], [1], None, id="the old side proves nothing"),
        pytest.param([1], [], None, id="the running side proves nothing"),
    ],
)
def test_the_common_point(old: list[int], running: list[int], common: int | None) -> None:
    found = common_point(
        side([held(number) for number in old]), side([held(number) for number in running])
    )
    assert found == (None if common is None else at(common))


def test_equal_numbers_of_other_content_are_nothing_in_common() -> None:
    old = side([held(1), held(2, "other")])
    assert common_point(old, side([held(1), held(2)])) == at(1)
    assert common_point(side([held(2, "other")]), side([held(1), held(2)])) is None


@pytest.mark.parametrize(
    ("common", "booted", "bytes_"),
    [
        pytest.param(3, 3, 0, id="booted from what both hold"),
        pytest.param(3, 5, 9 * KiB, id="booted from a newer point"),
        pytest.param(5, 3, 9 * KiB, id="booted from an older point: what came after differs"),
        pytest.param(1, 2, 2 * KiB, id="the common point itself is not counted"),
    ],
)
def test_bytes_between_the_common_point_and_the_boot(common: int, booted: int, bytes_: int) -> None:
    running = side(LINE, stands_at=at(booted))
    assert bytes_between(running, at(common)).get(DISK, 0) == bytes_


def test_a_disk_without_a_figure_is_not_one_that_nothing_was_written_to() -> None:
    running = side(LINE, written={})
    assert plan_way(side(LINE), running)[0] is Way.EXACT
    assert "not known yet" in plan_way(side(LINE), running)[1]
    assert plan_way(side(LINE), replace(running, written={DISK: 0}))[0] is Way.NOTHING


def test_without_a_common_point_nothing_is_known_between() -> None:
    assert bytes_between(side(LINE), None) == {}


def plan_way(old: SideFacts, running: SideFacts) -> tuple[Way, str]:
    plan = plan_resync(old, running)
    return plan.way, plan.reason


@pytest.mark.parametrize(
    ("old", "written", "way", "reason"),
    [
        pytest.param(side(LINE), 0, Way.NOTHING, "nothing was written", id="both are the same"),
        pytest.param(side(LINE), 9 * KiB, Way.EXACT, "change maps", id="something was written"),
        pytest.param(
            side(LINE, tracked=False), 0, Way.DIFFERENTIAL, "maps are lost", id="a lost ledger"
        ),
        pytest.param(
            side(LINE, disk_facts(untouched=False, reason="somebody wrote")),
            0,
            Way.DIFFERENTIAL,
            "somebody wrote",
            id="touched from outside",
        ),
        pytest.param(
            side(LINE, disk_facts(untouched=False)),
            0,
            Way.DIFFERENTIAL,
            "from outside",
            id="touched, nobody knows by whom",
        ),
        pytest.param(side([held(1, "x")]), 0, Way.DIFFERENTIAL, "no point", id="nothing in common"),
        pytest.param(
            side(LINE, disk_facts(size=GiB)), 0, Way.DIFFERENTIAL, "larger", id="larger there"
        ),
        pytest.param(
            side(LINE, disk_facts(size=32 * MiB)), 0, Way.NOTHING, "nothing", id="smaller there"
        ),
        pytest.param(
            side(LINE, disk_facts(exists=False)), 0, Way.FULL, "no disk", id="the disk is gone"
        ),
        pytest.param(
            side(LINE, disk_facts("other")), 0, Way.FULL, "no disk", id="another disk is there"
        ),
    ],
)
def test_the_way_and_why(old: SideFacts, written: int, way: Way, reason: str) -> None:
    found = plan_way(old, side(LINE, written={DISK: written}))
    assert found[0] is way
    assert reason in found[1]


def two(**second: Any) -> SideFacts:
    written = {DISK: 0, "web-vdb": 0}
    return side(LINE, disk_facts(), disk_facts("web-vdb", **second), written=written)


def test_each_disk_has_its_own_way_and_the_dearest_names_the_plan() -> None:
    plan = plan_resync(two(exists=False), two())
    assert [disk.way for disk in plan.disks] == [Way.NOTHING, Way.FULL]
    assert plan.way is Way.FULL
    assert plan.reason == plan.disks[1].reason
    assert (plan.reads, plan.sends) == (10 * MiB, 10 * MiB)


def test_what_a_comparison_may_cost_is_bounded_by_what_is_allocated() -> None:
    old = side([held(1, "x")], disk_facts(allocated=20 * MiB))
    (disk,) = plan_resync(old, side(LINE)).disks
    assert disk.reads == 20 * MiB
    assert disk.sends == 30 * MiB + 64 * 16  # both sides' data, and a digest a MiB


def test_an_exact_resync_sends_what_differs() -> None:
    running = side(LINE, written={DISK: MiB}, stands_at=at(3))
    (disk,) = plan_resync(side(LINE), running).disks
    assert disk.sends == disk.reads == MiB + 9 * KiB


def test_no_disks_no_work() -> None:
    empty = side(LINE).__class__(
        item=side().item, machine_state=side().machine_state, disks=(), held=(), stands_at=None
    )
    plan = plan_resync(empty, empty)
    assert (plan.way, plan.reason, plan.sends) == (Way.NOTHING, "no disks", 0)


def test_ways_are_ranked_as_they_cost() -> None:
    assert sorted(Way, key=lambda way: way.rank) == [
        Way.NOTHING,
        Way.EXACT,
        Way.DIFFERENTIAL,
        Way.FULL,
    ]


facts = st.builds(
    lambda exists, untouched, tracked, states: side(
        [held(number, state) for number, state in enumerate(states, 1)],
        disk_facts(exists=exists, untouched=untouched),
        tracked=tracked,
    ),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.lists(st.sampled_from("ab"), max_size=4),
)


@given(facts, facts, st.integers(0, MiB))
def test_nothing_is_ever_guessed(old: SideFacts, running: SideFacts, written: int) -> None:
    """Maps are trusted only from a point that both prove, on a disk nobody touched."""
    running = SideFacts(
        item=running.item,
        machine_state=running.machine_state,
        disks=running.disks,
        held=running.held,
        stands_at=running.stands_at,
        written={DiskName(DISK): written},
    )
    plan = plan_resync(old, running)
    if plan.way in (Way.NOTHING, Way.EXACT):
        assert plan.common is not None
        assert old.tracked
        assert old.disks[0].exists
        assert old.disks[0].untouched
        assert (plan.way is Way.EXACT) or written == 0
    if plan.common is not None:
        assert isinstance(plan.common, Position)
        assert plan.common in {point.position for point in old.held}
        assert plan.common in {point.position for point in running.held}
