from __future__ import annotations

import pytest

from homeport.dataplane.landing import (
    acknowledge,
    acknowledged,
    ask_again,
    clear_wanted,
    leftovers,
    sweep,
    sweep_all,
    wanted,
)
from homeport.dataplane.layout import (
    DamagedObjectError,
    ForeignObjectError,
    ItemStore,
    RepeatedPositionError,
)
from homeport.dataplane.objects import StoreUnreachableError
from homeport.model.ids import Digest
from homeport.model.position import Position
from homeport.providers.store.memory import MemoryStore
from tests.faults import Fault, FaultyStore
from tests.unit.dataplane.points import DISK, at, flipped, items_of, overwrite, stored

STATES = {DISK: Digest("ab" * 32)}


def _filled(items: ItemStore, *positions: Position) -> ItemStore:
    for position in positions:
        for key in (
            items.manifest_key(position),
            items.delta_key(position, DISK),
            items.seed_key(position, DISK, 0),
            items.digest_key(position, DISK, "held"),
            items.wanted_key(position),
            items.landed_key(position),
        ):
            items.put(key, b"x")
    return items


class TestAcknowledging:
    def test_nothing_has_landed_at_first(self) -> None:
        assert acknowledged(items_of()) is None

    def test_the_newest_is_heard_with_its_states(self) -> None:
        items = items_of()
        for position in (at(9), at(10), at(0, epoch=2), at(2)):
            acknowledge(items, position, STATES)
        heard = acknowledged(items)
        assert heard is not None
        assert (heard.position, heard.states) == (at(0, epoch=2), STATES)

    def test_the_same_twice_is_said_once_and_other_states_are_refused(self) -> None:
        items = items_of()
        acknowledge(items, at(1), STATES)
        acknowledge(items, at(1), STATES)
        with pytest.raises(RepeatedPositionError):
            acknowledge(items, at(1), {DISK: Digest("cd" * 32)})

    @pytest.mark.parametrize("place", [0, 0.5, 1], ids="bit turned at {}".format)
    def test_a_damaged_note_is_not_gone_by_and_can_be_put_right(self, place: float) -> None:
        items = items_of()
        acknowledge(items, at(1), STATES)
        key = items.landed_key(at(1))
        overwrite(items, key, flipped(stored(items, key), place))
        with pytest.raises(DamagedObjectError):
            acknowledged(items)
        acknowledge(items, at(1), STATES)
        heard = acknowledged(items)
        assert heard is not None
        assert heard.states == STATES

    @pytest.mark.parametrize("other", ["another item", "another point"])
    def test_a_foreign_note_is_not_gone_by(self, other: str) -> None:
        items = items_of()
        writer = items_of("vm-2") if other == "another item" else items
        acknowledge(writer, at(1), STATES)
        key = items.landed_key(at(1) if other == "another item" else at(2))
        overwrite(items, key, stored(writer, writer.landed_key(at(1))))
        with pytest.raises(ForeignObjectError):
            acknowledged(items)


def test_what_is_asked_for_again_is_heard_until_it_is_cleared() -> None:
    items = items_of()
    assert wanted(items) == ()
    for position in (at(10), at(9), at(10)):
        ask_again(items, position)
    assert wanted(items) == (at(9), at(10))
    clear_wanted(items, at(9))
    clear_wanted(items, at(9))
    assert wanted(items) == (at(10),)


class TestSweeping:
    def test_takes_all_up_to_the_point_and_nothing_beyond(self) -> None:
        items = _filled(items_of(), at(1), at(2), at(3))
        sweep(items, up_to=at(2))
        left = set(items.list_keys())
        assert left == {items.landed_key(at(2))} | set(_filled(items_of(), at(3)).list_keys())
        sweep(items, up_to=at(2))
        assert set(items.list_keys()) == left

    def test_leaves_other_items_and_names_that_are_not_ours(self) -> None:
        items = _filled(items_of(), at(1))
        neighbour = _filled(items_of("vm-2", store=items.store), at(1))
        for key in ("points/notes.txt", "something/000001-0000000001/else"):
            items.put(key, b"somebody's")
        sweep(items, up_to=at(5))
        assert set(items.list_keys()) == {"points/notes.txt", "something/000001-0000000001/else"}
        assert len(list(neighbour.list_keys())) == 6

    def test_takes_the_manifest_before_what_it_names(self) -> None:
        store = MemoryStore()
        _filled(items_of(store=store), at(1))
        with FaultyStore(store, (Fault("delete", nth=2),)) as faulty:
            items = items_of(store=faulty)
            with pytest.raises(StoreUnreachableError):
                sweep(items, up_to=at(1))
            assert not items.exists(items.manifest_key(at(1)))
            sweep(items, up_to=at(1))
        assert list(items.list_keys()) == [items.landed_key(at(1))]

    def test_of_everything_leaves_nothing_of_the_item(self) -> None:
        items = _filled(items_of(), at(1), at(2))
        items.put("points/notes.txt", b"left by somebody")
        assert len(leftovers(items)) == 13
        assert all(key.startswith("v1/east/vm-1/") for key in leftovers(items))
        neighbour = _filled(items_of("vm-10", store=items.store), at(1))
        sweep_all(items)
        sweep_all(items)
        assert leftovers(items) == []
        assert len(leftovers(neighbour)) == 6
