"""Another pool for the replica: what becomes of the old disks, and whose seat the pool becomes."""

from __future__ import annotations

import pytest

from homeport.errors import RefusedError
from homeport.model.codec import from_plain, to_plain
from homeport.model.ids import ItemId
from homeport.model.operations import AskFacts, SideFacts
from homeport.model.planning import Way
from homeport.model.requests import ReprotectRequest
from homeport.orchestration.ports import JobState
from homeport.orchestration.reprotect import read_reversal
from homeport.orchestration.reversal import make_review
from tests.unit.orchestration.scripted import Deck
from tests.unit.orchestration.stages import COMMITTED, done, reprotect
from tests.unit.orchestration.test_reversal import codes, review


@pytest.fixture
def two_pools(deck: Deck) -> Deck:
    done(deck, *COMMITTED)
    deck.east.pools = ("disks", "fast")
    deck.east.makes = ("other-pool",)
    deck.tick()
    return deck


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"pool": "fast"}, "stays where it is and as it is"),
        ({"way": "full"}, "-replaced-* until it expires"),
        ({"pool": "fast", "way": "full"}, "stays where it is and as it is"),
    ],
    ids=["another pool", "a full copy", "both"],
)
def test_a_full_copy_says_what_becomes_of_the_old_disks(
    two_pools: Deck, asked: dict[str, str], told: str
) -> None:
    made = review(two_pools, **asked)
    assert made.way is Way.FULL
    (actions,) = [disk.actions for disk in made.disks]
    assert actions[0].startswith("created: ")
    assert actions[1].startswith("kept: ")
    assert told in actions[1]
    assert not made.problems


def test_disks_that_are_gone_leave_nothing_to_keep(two_pools: Deck) -> None:
    two_pools.east.copies.clear()
    (actions,) = [disk.actions for disk in review(two_pools, pool="fast").disks]
    assert len(actions) == 1


def test_an_agent_that_cannot_leave_them_is_a_reason_to_refuse(two_pools: Deck) -> None:
    two_pools.east.makes = ()
    assert codes(review(two_pools, pool="fast")) == ["PoolFixedByDisks"]
    assert codes(review(two_pools, pool="disks")) == []


@pytest.mark.parametrize("fails", [True, False], ids=["failed", "done"])
def test_the_pool_is_the_sides_from_when_the_replica_is_in_it(two_pools: Deck, fails: bool) -> None:
    if fails:
        two_pools.east.fails["prepare-replica"] = RefusedError("no", code="NameTaken", remedy="x")
    job = two_pools.do(reprotect(pool="fast"))
    assert job.state is (JobState.FAILED if fails else JobState.SUCCEEDED)
    assert two_pools.view().standby.pool == ("disks" if fails else "fast")
    if fails:
        two_pools.east.fails.clear()
        assert codes(review(two_pools)) == []


def lose_ledger(deck: Deck) -> None:
    """East has lost its ledger of the item; the disks and the machine are there."""
    deck.east.copies.clear()
    deck.east.files = {"disks": ("/disks/vda-ASRReplica.raw", "/disks/vda.raw")}


def test_disks_without_their_ledger_are_refused_in_the_review_already(two_pools: Deck) -> None:
    lose_ledger(two_pools)
    made = review(two_pools)
    assert codes(made) == ["OldDisksUnknown"]
    (words,) = [disk.actions for disk in made.disks]
    assert [word.partition(":")[0] for word in words] == ["not touched"]
    assert "in the way" in made.reason
    job = two_pools.do(reprotect())
    assert job.error is not None
    assert job.error["code"] == "OldDisksUnknown"
    assert "prepare-replica" not in two_pools.east.asked


def test_without_a_ledger_another_pool_takes_a_full_copy(two_pools: Deck) -> None:
    lose_ledger(two_pools)
    made = review(two_pools, pool="fast")
    assert codes(made) == []
    assert made.way is Way.FULL
    assert two_pools.do(reprotect(pool="fast")).state is JobState.SUCCEEDED
    assert two_pools.view().standby.pool == "fast"


def test_another_machine_of_the_name_is_told_and_nothing_is_promised_of_it(two_pools: Deck) -> None:
    two_pools.east.copies.clear()
    two_pools.east.strangers = ("shop",)
    made = review(two_pools)
    assert codes(made) == ["NameTaken"]
    assert made.machine == ("not touched: shop on east, another machine",)


def test_an_agent_one_version_older_tells_nothing_of_names(two_pools: Deck) -> None:
    two_pools.east.copies.clear()
    with two_pools.catalog.read() as rows:
        asked = read_reversal(rows, rows.find_item("shop"), ReprotectRequest())
    running = two_pools.west.do_facts(AskFacts(item=asked.item.id))
    told = to_plain(SideFacts, two_pools.east.do_facts(asked.question(running)))
    for new in ("taken", "stranger"):
        del told[new]
    assert codes(make_review(asked, running, from_plain(SideFacts, told))) == []


def test_a_server_one_version_older_asks_nothing_of_names() -> None:
    asked = from_plain(AskFacts, {"item": "i", "networks": [], "memory": 0, "pool": "disks"})
    assert (asked.name, asked.definition, asked.new_pool) == ("", None, False)


def test_what_is_in_the_way_can_be_of_a_newer_version() -> None:
    asked = to_plain(AskFacts, AskFacts(item=ItemId("i"))) | {"from_tomorrow": 1}
    assert from_plain(AskFacts, asked) == AskFacts(item=ItemId("i"))
