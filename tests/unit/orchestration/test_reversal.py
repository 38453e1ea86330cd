"""What a reprotect may be asked for, and where its figures come from."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete

from homeport.catalog import tables
from homeport.errors import NotFoundError, RefusedError
from homeport.model.operations import AskFacts, SideFacts
from homeport.model.planning import Way
from homeport.model.requests import CacheRequest, ReprotectRequest
from homeport.model.review import Review
from homeport.orchestration.ports import JobState
from homeport.orchestration.rates import as_sides_digest, rates_of
from homeport.orchestration.reprotect import read_reversal
from homeport.orchestration.reversal import make_review, parse_way
from homeport.units import GiB, MiB
from tests.unit.orchestration.scripted import Deck
from tests.unit.orchestration.stages import COMMITTED, done, reprotect

STORE = CacheRequest(url="file:///new", options={"a": "b"})


def review(deck: Deck, **asked: Any) -> Review:
    with deck.catalog.read() as rows:
        given = read_reversal(rows, rows.find_item("shop"), ReprotectRequest(**asked))
    running = deck.west.do_facts(AskFacts(item=given.item.id))
    return make_review(given, running, deck.east.do_facts(given.question(running)))


def take_stores_away(deck: Deck) -> None:
    with deck.catalog.write() as rows:
        rows.session.execute(delete(tables.caches).where(tables.caches.c.site == "west"))


def codes(made: Review) -> list[str]:
    return [problem["code"] for problem in made.problems]


@pytest.mark.parametrize(
    ("store_there", "asked", "problems"),
    [
        (True, None, []),
        (True, STORE, []),
        (True, CacheRequest(url="file:///west"), []),
        (False, None, ["NoCacheStore"]),
        (False, STORE, []),
    ],
    ids=["there", "there, another asked", "there, the same asked", "none", "none, one asked"],
)
def test_the_cache_store_of_the_running_site(
    deck: Deck, store_there: bool, asked: CacheRequest | None, problems: list[str]
) -> None:
    done(deck, *COMMITTED)
    if not store_there:
        take_stores_away(deck)
    made = review(deck, cache=asked)
    assert codes(made) == problems
    row = next(row for row in made.rows if row.setting == "cache store")
    assert row.new is (asked is STORE)


def test_a_store_that_is_asked_for_is_the_sites_from_then_on(deck: Deck) -> None:
    done(deck, *COMMITTED)
    take_stores_away(deck)
    with pytest.raises(RefusedError) as caught:
        deck.do(reprotect())
    assert caught.value.code == "NoCacheStore"
    done(deck, reprotect(cache=STORE))
    with deck.catalog.read() as rows:
        assert rows.cache_of("west").url == STORE.url


def test_a_refused_reprotect_makes_no_store(deck: Deck) -> None:
    done(deck, *COMMITTED)
    take_stores_away(deck)
    deck.east.available = 0
    job = deck.do(reprotect(cache=STORE))
    assert job.state is JobState.FAILED
    with deck.catalog.read() as rows:
        assert rows.site("west").cache is None


def test_a_pool_that_is_asked_for_is_the_old_sides_seat(deck: Deck) -> None:
    done(deck, *COMMITTED)
    deck.east.copies.clear()
    deck.east.pools = ("disks", "fast")
    deck.tick()
    settings = {row.setting: row.value for row in review(deck, pool="fast").rows}
    assert settings["replica managed disks"] == "fast"
    with pytest.raises(NotFoundError) as unknown:
        review(deck, pool="none")
    assert unknown.value.code == "UnknownPool"
    done(deck, reprotect(pool="fast"))
    assert deck.view().standby.pool == "fast"


@pytest.mark.parametrize(
    ("asked", "way", "common"),
    [
        (None, Way.EXACT, True),
        ("differential", Way.DIFFERENTIAL, True),
        ("full", Way.FULL, False),
    ],
)
def test_a_way_can_only_be_dearer(deck: Deck, asked: str | None, way: Way, common: bool) -> None:
    done(deck, *COMMITTED)
    made = review(deck, way=asked)
    assert {disk.way for disk in made.disks} == {made.way} == {way}
    assert (made.plan.common is not None) is common
    assert all(disk.reason == made.reason for disk in made.disks)


def test_a_disk_touched_from_outside_is_compared_by_itself(deck: Deck) -> None:
    done(deck, *COMMITTED)
    with deck.catalog.read() as rows:
        item = rows.find_item("shop").item.id
    deck.east.copies[item].untouched = False
    assert review(deck).way is Way.DIFFERENTIAL


@pytest.mark.parametrize("text", ["exact", "nothing", "", "FULL"])
def test_a_way_that_could_be_wrong_is_not_taken(text: str) -> None:
    with pytest.raises(RefusedError) as caught:
        parse_way(text)
    assert caught.value.code == "InvalidWay"


def side(rate: float) -> SideFacts:
    from homeport.model.ids import ItemId
    from homeport.model.machine import PowerState

    return SideFacts(
        item=ItemId("i"),
        machine_state=PowerState.OFF,
        disks=(),
        held=(),
        stands_at=None,
        digest_rate=rate,
    )


@pytest.mark.parametrize(
    ("facts", "digests", "link", "digest"),
    [
        ({}, (0.0, 0.0), 0.0, 0.0),
        ({}, (5e6, 3e6), 0.0, 3e6),
        ({}, (5e6, 0.0), 0.0, 5e6),
        ({"enable_took": 10.0, "enable_moved": GiB}, (0.0, 0.0), GiB / 10, 0.0),
        (
            {"enable_took": 10.0, "enable_moved": MiB},
            (0.0, 0.0),
            0.0,
            0.0,
        ),
    ],
    ids=[
        "nothing measured",
        "the slower digests",
        "one digests",
        "a first copy",
        "a first copy that says nothing",
    ],
)
def test_rates_are_measured_ones_where_there_are_some(
    facts: dict[str, float], digests: tuple[float, float], link: float, digest: float
) -> None:
    rates = as_sides_digest(rates_of(facts), side(digests[0]), side(digests[1]))
    assert (rates.link, rates.digest) == (link, digest)
