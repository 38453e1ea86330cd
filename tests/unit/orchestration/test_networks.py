"""Networks of one side on the other, and the maps an item keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.model.item import Side
from homeport.orchestration.networks import fit_networks, networks_of, remember, towards
from tests.hosts import definition_of


@pytest.mark.parametrize(
    ("asked", "mapped", "came_by", "fitted"),
    [
        ({}, {}, {}, "lan"),
        ({}, {}, {"prod": "lan"}, "prod"),
        ({}, {"lan": "dmz"}, {"prod": "lan"}, "dmz"),
        ({"lan": "mine"}, {"lan": "dmz"}, {"prod": "lan"}, "mine"),
        ({"lan": None}, {"lan": "dmz"}, {}, None),
        ({"other": "x"}, {"other": "y"}, {"z": "other"}, "lan"),
        ({}, {}, {"prod": None}, "lan"),
    ],
    ids=[
        "own name",
        "the way it came",
        "mapped",
        "asked",
        "not attached",
        "others' only",
        "came from nowhere",
    ],
)
def test_what_is_asked_comes_first(
    asked: dict[str, str | None],
    mapped: dict[str, str],
    came_by: dict[str, str | None],
    fitted: str | None,
) -> None:
    assert fit_networks(("lan",), asked=asked, mapped=mapped, came_by=came_by) == {"lan": fitted}


NAMES = st.text("abc", min_size=1, max_size=3)


@given(st.dictionaries(NAMES, NAMES, max_size=5).filter(lambda m: len(set(m.values())) == len(m)))
def test_there_and_back_is_where_it_was(there: dict[str, str]) -> None:
    out = fit_networks(tuple(there), asked=there, mapped={})
    back = fit_networks(tuple(filter(None, out.values())), asked={}, mapped={}, came_by=out)
    assert {back[to]: to for to in out.values() if to} == out


def test_each_direction_keeps_its_own_map() -> None:
    facts = remember({}, Side.RECOVERY, {"lan": "dmz"})
    facts = remember(facts, Side.PRIMARY, {"dmz": "lan"})
    assert towards(facts, Side.RECOVERY) == {"lan": "dmz"}
    assert towards(facts, Side.PRIMARY) == {"dmz": "lan"}
    assert towards({}, Side.PRIMARY) == {}


def test_a_machines_networks_are_those_of_its_cards() -> None:
    assert networks_of(definition_of("shop", "dmz")) == ("dmz",)
    assert networks_of(None) == ()
