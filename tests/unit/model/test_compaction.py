"""Which layers may become one, and what is set aside when layers leave a chain."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.model.compaction import (
    Pair,
    carried,
    joined_down,
    joined_up,
    needed_positions,
    next_pair,
)
from homeport.model.ids import DiskName
from homeport.model.ledger import DiskChain, ReadReplica, RunningTest
from homeport.model.position import Position
from tests.unit.model.builders import DISK, at, chain, layer, ledger, point, unsent


def needed(*numbers: int) -> set[Position]:
    return {at(number) for number in numbers}


@pytest.mark.parametrize(
    ("layers", "held", "up_to", "lower", "upper"),
    [
        pytest.param([1, 2], (), 2, "base", 1, id="nothing is needed: the lowest pair"),
        pytest.param([1, 2], (0,), 2, "1-1", 2, id="the base is read from: the pair above it"),
        pytest.param([1, 2, 3], (0, 1), 3, "1-2", 3, id="the first that nobody reads from"),
        pytest.param([1, 2], (1, 2), 2, "base", 1, id="what the upper one holds may be needed"),
        pytest.param([1, 2], (), 1, "base", 1, id="up to what has landed"),
    ],
)
def test_a_pair(
    layers: list[int], held: Collection[int], up_to: int, lower: str, upper: int
) -> None:
    found = next_pair(chain(0, layers), needed(*held), up_to=at(up_to))
    assert found is not None
    assert (found.lower, found.upper.position) == (lower, at(upper))


@pytest.mark.parametrize(
    ("layers", "held", "up_to"),
    [
        pytest.param([], (), 9, id="no layers"),
        pytest.param([1], (), None, id="nothing has landed"),
        pytest.param([1, 2], (), 0, id="only the base has landed"),
        pytest.param([1], (0,), 1, id="the base is needed"),
        pytest.param([1, 2], (0, 1), 2, id="everything below the top is needed"),
    ],
)
def test_no_pair(layers: list[int], held: Collection[int], up_to: int | None) -> None:
    limit = None if up_to is None else at(up_to)
    assert next_pair(chain(0, layers), needed(*held), up_to=limit) is None


chains = st.integers(0, 8).map(lambda count: chain(0, range(1, count + 1)))
sets = st.sets(st.integers(0, 8).map(at))


@given(chains, sets, st.integers(0, 8).map(at), st.booleans())
def test_joining_ends_and_loses_no_position_that_is_needed(
    one: DiskChain, held: set[Position], up_to: Position, up: bool
) -> None:
    def positions(of: DiskChain) -> set[Position]:
        return {p for p in (of.base_at, *(x.position for x in of.layers)) if p is not None}

    before, stands_at = positions(one), one.stands_at
    while (pair := next_pair(one, held, up_to=up_to)) is not None:
        goes_up = up and pair.lower != one.base
        one = joined_up(one, pair, changed=0) if goes_up else joined_down(one, pair)
    left = positions(one)
    assert held & before <= left <= before
    assert one.stands_at == stands_at
    assert left == {p for p in before if p in held or p > up_to or p == stands_at} | {
        max(p for p in before if p <= up_to)
    }


def test_going_down_the_lower_name_stays() -> None:
    one = chain(0, [1, 2, 3])
    pair = Pair(lower="1-1", upper=one.layers[1], lower_at=at(1))
    joined = joined_down(one, pair)
    assert [(x.path, x.position) for x in joined.layers] == [("1-1", at(2)), ("1-3", at(3))]


def test_going_up_the_upper_name_stays() -> None:
    one = chain(0, [1, 2, 3])
    pair = Pair(lower="1-1", upper=one.layers[1], lower_at=at(1))
    joined = joined_up(one, pair, changed=77)
    assert [(x.path, x.changed) for x in joined.layers] == [("1-2", 77), ("1-3", 0)]


def test_into_the_base_goes_the_state_too() -> None:
    one = chain(0, [1])
    stated = DiskChain(
        disk=one.disk, base="base", base_at=at(0), layers=(layer(1, state="s"),), active="a"
    )
    joined = joined_down(stated, Pair(lower="base", upper=stated.layers[0], lower_at=at(0)))
    assert (joined.base_at, joined.base_state, joined.layers) == (at(1), "s", ())
    assert (joined.stands_at, joined.state) == (at(1), "s")


class TestNeeded:
    def test_points_are(self) -> None:
        assert needed_positions(ledger(points=(point(1), point(3)))) == needed(1, 3)

    def test_what_is_set_aside_needs_what_it_stands_on(self) -> None:
        one = chain(0, [1, 2], set_aside=(unsent(1), unsent(None)))
        assert needed_positions(ledger(one)) == needed(1)

    def test_a_test_needs_all_below_it_as_it_is(self) -> None:
        test = RunningTest(machine="t", position=at(2), overlays={})
        assert needed_positions(ledger(chain(0, [1, 2, 3]), test=test)) == needed(0, 1, 2)

    def test_a_temporary_replica_needs_all_below_it_of_its_disk_as_it_is(self) -> None:
        reading = (ReadReplica(disk=DISK, path="ms-asr-x", position=at(1)),)
        assert needed_positions(ledger(chain(0, [1, 2, 3]), reading=reading)) == needed(0, 1)
        other = (ReadReplica(disk=DiskName("web-vdb"), path="ms-asr-x", position=at(1)),)
        assert needed_positions(ledger(chain(0, [1, 2, 3]), reading=other)) == set()

    def test_where_the_machine_was_booted_carries_what_lies_beyond(self) -> None:
        one = chain(0, [1], beyond=(layer(2),))
        assert needed_positions(ledger(one, booted=at(1))) == needed(1)

    def test_while_resyncing_the_boot_is_counted_from(self) -> None:
        assert needed_positions(ledger(booted=at(1), resyncing=True)) == needed(1)
        assert needed_positions(ledger(booted=at(1))) == set()


class TestCarried:
    def test_an_image_takes_the_layers_it_stands_on_with_it(self) -> None:
        one = chain(0, [1], set_aside=(unsent(3, "deep"), unsent(0, path="other")))
        first, second = carried(one, (layer(2), layer(3), layer(4)), at(1))
        assert (first.position, first.below) == (at(1), ("1-2", "1-3", "deep"))
        assert second == one.set_aside[1]

    def test_two_share_what_both_stand_on(self) -> None:
        one = chain(0, [1], set_aside=(unsent(2), unsent(3)))
        first, second = carried(one, (layer(2), layer(3)), at(1))
        assert (first.below, second.below) == (("1-2",), ("1-2", "1-3"))

    def test_when_the_base_goes_all_go_with_it(self) -> None:
        one = chain(0, [1], set_aside=(unsent(0), unsent(1), unsent(0, base="older")))
        first, second, third = carried(one, one.layers, None, base="kept")
        assert (first.base, first.below) == ("kept", ())
        assert (second.base, second.below) == ("kept", ("1-1",))
        assert third == one.set_aside[2]
        assert second.names == ("kept", "1-1", "unsent")

    def test_nothing_gone_is_nothing_changed(self) -> None:
        one = chain(0, [1], set_aside=(unsent(1),))
        assert carried(one, (), at(1)) == one.set_aside


class TestChain:
    def test_a_chain_that_is_not_proven_stands_nowhere(self) -> None:
        one = chain(0, [1], proven=False)
        assert (one.stands_at, one.state) == (None, None)
        assert one.chain_at(at(1)) == ("1-1", "base")

    def test_a_disk_to_be_seeded_does_not_say_where_the_item_stands(self) -> None:
        assert ledger(chain(None, whole=False), chain(0, [4])).stands_at == at(4)

    def test_every_file_is_named(self) -> None:
        one = chain(0, [1], active="act", beyond=(layer(2),), set_aside=(unsent(1, "low"),))
        assert one.names == ("base", "1-1", "act")
        assert one.all_names == ("base", "1-1", "act", "1-2", "low", "unsent")

    def test_a_point_beyond_is_read_through_what_is_below_it(self) -> None:
        one = chain(0, [1], beyond=(layer(2), layer(3)))
        assert one.chain_at(at(2)) == ("1-2", "1-1", "base")
        assert (one.file_at(at(3)), one.file_at(at(0))) == ("1-3", "base")
        with pytest.raises(KeyError):
            one.chain_at(at(9))
        with pytest.raises(KeyError):
            one.file_at(at(9))
