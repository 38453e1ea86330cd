"""What a reprotect goes into: kept, asked for, made anew, fixed or refused; and then made so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homeport.errors import HomeportError
from homeport.model.codec import to_plain
from homeport.model.ids import HostName, ItemId, SiteName
from homeport.model.machine import PowerState
from homeport.model.messages import StoreAddress
from homeport.model.operations import AskFacts
from homeport.model.requests import CacheRequest, ProtectRequest, ReprotectRequest
from homeport.model.resources import (
    GroupLock,
    Hold,
    LockLevel,
    Resource,
    ResourceKind,
    SiteResources,
)
from homeport.model.review import Review, Row
from homeport.orchestration import accept
from homeport.orchestration.ports import JobState
from homeport.orchestration.reprotect import read_reversal
from homeport.orchestration.reversal import make_review
from homeport.units import GiB
from tests.hosts import FakeHost
from tests.unit.orchestration.scripted import VAULT, Deck
from tests.unit.orchestration.stages import (
    COMMITTED,
    commit,
    disable,
    done,
    failover,
    item_of,
    protect,
    reprotect,
)

GROUP, SET, RESERVATION = ResourceKind
EAST, WEST = SiteName("east"), SiteName("west")
ROWS = [
    "direction",
    "resource group",
    "virtual network",
    "replica managed disks",
    "cache store",
    "availability set",
    "capacity reservation",
]


def review(deck: Deck, **asked: Any) -> Review:
    """As the API makes it."""
    with deck.look() as books:
        given = read_reversal(books, books.find_item("shop"), ReprotectRequest(**asked))
    item = given.item
    running = deck.host(item.running.host).do_facts(AskFacts(item=item.id))
    old = deck.host(item.standby.host).do_facts(given.question(running))
    return make_review(given, running, old)


def rows(made: Review) -> dict[str, Row]:
    return {row.setting: row for row in made.rows}


def codes(made: Review) -> list[str]:
    return [problem["code"] for problem in made.problems]


def put(deck: Deck, *resources: Resource, site: SiteName = EAST) -> None:
    with deck.books() as books:
        for resource in resources:
            books.resources.put(site, resource)


def join(deck: Deck, kind: ResourceKind, name: str, *machines: str, site: SiteName = EAST) -> None:
    with deck.books() as books:
        for machine in machines:
            books.resources.join(site, machine, kind, name)


def held(deck: Deck, site: SiteName) -> SiteResources:
    with deck.look() as books:
        return books.resources.around(site).held


def named(kind: ResourceKind, name: str, **carries: Any) -> Resource:
    return Resource(kind=kind, name=name, **carries)


def original_gone(deck: Deck) -> None:
    """The primary's machine and its disks are lost."""
    deck.east.copies.clear()
    deck.east.machines.clear()
    deck.tick()


class TestRows:
    def test_they_are_those_of_the_table_in_its_order(self, deck: Deck) -> None:
        done(deck, *COMMITTED)
        made = review(deck)
        assert [row.setting for row in made.rows] == ROWS
        assert [row.value for row in made.rows] == [
            "west -> east", "none", "lan -> lan", "disks", "file:///west", "none", "none",
        ]  # fmt: skip
        assert not any(row.new for row in made.rows)

    def test_they_are_shown_though_a_side_is_silent(self, deck: Deck) -> None:
        done(deck, *COMMITTED)
        with deck.look() as books:
            given = read_reversal(books, books.find_item("shop"), ReprotectRequest())
        made = make_review(given, None, None)
        assert [row.setting for row in made.rows] == ROWS
        assert codes(made) == ["SiteUnreachable", "SiteUnreachable"]

    def test_asking_changes_nothing(self, deck: Deck, tmp_path: Path) -> None:
        done(deck, *COMMITTED)
        original_gone(deck)
        before = _bytes(deck, tmp_path)
        made = review(deck, networks={"lan": "dmz"}, cache=CacheRequest(url="file:///new"))
        assert made.rows
        assert _bytes(deck, tmp_path) == before


def _bytes(deck: Deck, folder: Path) -> bytes:
    with deck.catalog.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return (folder / VAULT).read_bytes()


class TestProtect:
    def test_a_group_is_made_and_the_rest_is_none(self, deck: Deck) -> None:
        done(deck, protect())
        assert held(deck, WEST).resources == (named(GROUP, "shop-asr", made_for=item_of(deck).id),)
        assert held(deck, WEST).members(GROUP, "shop-asr") == ("shop",)
        assert deck.view().facts["placed"].startswith("w1 is the only host that fits")

    def test_it_stands_for_the_sources_group_and_set(self, deck: Deck) -> None:
        put(deck, named(GROUP, "prod"), named(SET, "web"))
        join(deck, GROUP, "prod", "shop")
        join(deck, SET, "web", "shop")
        done(deck, protect())
        made = held(deck, WEST)
        assert (made.of("shop", GROUP), made.of("shop", SET)) == ("prod-asr", "web-asr")

    def test_what_is_asked_for_is_used_and_nothing_made(self, deck: Deck) -> None:
        hold = {HostName("w1"): Hold(memory=2 * GiB, vcpus=1)}
        asked = (named(GROUP, "rg"), named(SET, "as"), named(RESERVATION, "cr", holds=hold))
        put(deck, *asked, site=WEST)
        done(deck, protect(resource_group="rg", availability_set="as", capacity_reservation="cr"))
        made = held(deck, WEST)
        assert [made.of("shop", kind) for kind in (GROUP, SET, RESERVATION)] == ["rg", "as", "cr"]
        assert len(made.resources) == 3

    @pytest.mark.parametrize(
        ("asked", "code"),
        [
            ({"resource_group": "x"}, "UnknownResourceGroup"),
            ({"availability_set": "x"}, "UnknownAvailabilitySet"),
            ({"capacity_reservation": "x"}, "UnknownCapacityReservation"),
            ({"host": "w9"}, "UnknownHost"),
            ({"pool": "x"}, "NoPool"),
            ({"resource_group": "../x"}, "InvalidName"),
            ({"availability_set": "taken"}, "NoHostForAvailabilitySet"),
            ({}, "CapacityHeldBack"),
        ],
        ids=str,
    )
    def test_refused_and_nothing_made(self, deck: Deck, asked: dict[str, Any], code: str) -> None:
        hold = {HostName("w1"): Hold(memory=8 * GiB, vcpus=0)}
        deck.west.add_machine("mail")
        deck.tick()
        put(deck, named(SET, "taken"), site=WEST)
        join(deck, SET, "taken", "mail", site=WEST)
        if code == "CapacityHeldBack":
            put(deck, named(RESERVATION, "r", holds=hold), site=WEST)
        before = held(deck, WEST)
        with pytest.raises(HomeportError) as refused:
            deck.accept(protect(**asked))
        assert refused.value.code == code
        assert held(deck, WEST) == before
        with deck.look() as books:
            assert books.items() == ()

    def test_two_of_a_set_are_not_placed_on_one_host(self, deck: Deck) -> None:
        deck.east.add_machine("mail")
        deck.tick()
        put(deck, named(SET, "web"), site=WEST)
        done(deck, protect(availability_set="web"))
        request = ProtectRequest(
            vm="mail", source_site="east", target_site="west", availability_set="web"
        )
        with pytest.raises(HomeportError) as refused:
            deck.accept(lambda books: accept.protect(books, request))
        assert refused.value.code == "NoHostForAvailabilitySet"
        assert "shop on w1" in refused.value.message

    def test_what_was_made_goes_with_the_item(self, deck: Deck) -> None:
        done(deck, protect(), disable())
        assert held(deck, WEST) == SiteResources()


class TestGroup:
    def protected_in(self, deck: Deck, group: str = "prod") -> None:
        put(deck, named(GROUP, group), named(GROUP, "other"))
        join(deck, GROUP, group, "shop")
        done(deck, *COMMITTED)

    def test_the_original_machines_is_fixed_and_why(self, deck: Deck) -> None:
        self.protected_in(deck)
        row = rows(review(deck))["resource group"]
        assert (row.value, row.new) == ("prod", False)
        assert "original machine shop" in row.fixed

    @pytest.mark.parametrize(("asked", "found"), [("other", ["TargetGroupFixed"]), ("prod", [])])
    def test_another_is_refused_the_same_is_not(
        self, deck: Deck, asked: str, found: list[str]
    ) -> None:
        self.protected_in(deck)
        assert codes(review(deck, resource_group=asked)) == found

    def test_the_job_refuses_what_the_review_has_refused(self, deck: Deck) -> None:
        self.protected_in(deck)
        job = deck.do(reprotect(resource_group="other"))
        assert (job.state, job.error and job.error["code"]) == (
            JobState.FAILED,
            "TargetGroupFixed",
        )
        assert held(deck, EAST).of("shop", GROUP) == "prod"

    def test_it_can_be_chosen_where_the_original_machine_is_gone(self, deck: Deck) -> None:
        self.protected_in(deck)
        original_gone(deck)
        made = review(deck, resource_group="other")
        assert (codes(made), rows(made)["resource group"].fixed) == ([], "")
        done(deck, reprotect(resource_group="other"))
        assert held(deck, EAST).of("shop", GROUP) == "other"

    def test_one_that_is_gone_is_made(self, deck: Deck) -> None:
        self.protected_in(deck)
        with deck.books() as books:
            books.resources.remove(EAST, GROUP, "prod")
        row = rows(review(deck))["resource group"]
        assert (row.value, row.new) == ("prod-asr", True)
        done(deck, reprotect())
        assert held(deck, EAST).of("shop", GROUP) == "prod-asr"

    def test_a_machine_that_was_moved_meanwhile_is_refused(self, deck: Deck) -> None:
        self.protected_in(deck)
        join(deck, GROUP, "other", "shop")
        assert codes(review(deck)) == ["OldPlaceChanged"]

    def test_a_locked_group_is_named(self, deck: Deck) -> None:
        self.protected_in(deck)
        lock = GroupLock(name="audit", level=LockLevel.DELETE)
        put(deck, named(GROUP, "prod", lock=lock))
        (problem,) = review(deck).problems
        assert (problem["code"], "audit" in problem["message"]) == ("GroupLocked", True)


class TestSetAndCapacity:
    def test_a_set_that_is_gone_is_made(self, deck: Deck) -> None:
        put(deck, named(SET, "web"))
        join(deck, SET, "web", "shop")
        done(deck, *COMMITTED)
        with deck.books() as books:
            books.resources.remove(EAST, SET, "web")
        row = rows(review(deck))["availability set"]
        assert (row.value, row.new) == ("web-asr", True)
        done(deck, reprotect())
        assert held(deck, EAST).members(SET, "web-asr") == ("shop",)

    def test_a_reservation_that_is_gone_is_made_for_what_the_machine_needs(
        self, deck: Deck
    ) -> None:
        put(deck, named(RESERVATION, "cr"))
        join(deck, RESERVATION, "cr", "shop")
        done(deck, *COMMITTED)
        with deck.books() as books:
            books.resources.remove(EAST, RESERVATION, "cr")
        done(deck, reprotect())
        made = held(deck, EAST).find(RESERVATION, "cr-asr")
        assert made is not None
        assert made.holds == {HostName("e1"): Hold(memory=GiB, vcpus=1)}

    @pytest.mark.parametrize("text", ["", "b"], ids=["none", "another"])
    def test_another_or_none_is_chosen(self, deck: Deck, text: str) -> None:
        put(deck, named(SET, "a"), named(SET, "b"))
        join(deck, SET, "a", "shop")
        done(deck, *COMMITTED)
        assert rows(review(deck, availability_set=text))["availability set"].value == (
            text or "none"
        )
        done(deck, reprotect(availability_set=text))
        assert held(deck, EAST).of("shop", SET) == (text or None)

    def test_a_member_that_came_to_the_old_host_is_named(self, deck: Deck) -> None:
        put(deck, named(SET, "web"))
        join(deck, SET, "web", "shop", "mail")
        done(deck, *COMMITTED)
        deck.east.add_machine("mail")
        deck.tick()
        (problem,) = review(deck).problems
        assert problem["code"] == "NoHostForAvailabilitySet"
        assert "mail on e1" in problem["message"]
        assert review(deck, availability_set="").problems == ()

    @pytest.mark.parametrize(
        ("memory", "member", "found"),
        [(8, False, ["CapacityHeldBack"]), (8, True, []), (7, False, [])],
        ids=["held for others", "it draws on it", "enough beside"],
    )
    def test_what_is_held_back_is_looked_at(
        self, deck: Deck, memory: int, member: bool, found: list[str]
    ) -> None:
        done(deck, *COMMITTED)
        hold = {HostName("e1"): Hold(memory=memory * GiB, vcpus=1)}
        put(deck, named(RESERVATION, "r", holds=hold))
        if member:
            join(deck, RESERVATION, "r", "shop")
        assert codes(review(deck)) == found

    @pytest.mark.parametrize(
        ("memory", "code"), [(8, "CapacityHeldBack"), (7, None)], ids=["held back", "beside"]
    )
    def test_a_failover_takes_nothing_that_is_held_for_others(
        self, deck: Deck, memory: int, code: str | None
    ) -> None:
        done(deck, protect())
        hold = {HostName("w1"): Hold(memory=memory * GiB, vcpus=1)}
        put(deck, named(RESERVATION, "r", holds=hold), site=WEST)
        if code is None:
            done(deck, failover())
            return
        with pytest.raises(HomeportError) as refused:
            deck.accept(failover())
        assert refused.value.code == code

    def test_running_machines_that_leave_too_little_are_a_note(self, deck: Deck) -> None:
        done(deck, *COMMITTED)
        for number in range(8):
            deck.east.add_machine(f"x{number}")
        deck.tick()
        made = review(deck)
        assert made.problems == ()
        assert any("Running machines leave 0 B" in note for note in made.notes)


class TestNetworks:
    def test_another_rewrites_the_mapping_and_says_so(self, deck: Deck) -> None:
        done(deck, *COMMITTED)
        deck.east.networks = ("lan", "dmz")
        deck.tick()
        made = review(deck, networks={"lan": "dmz"})
        assert rows(made)["virtual network"].value == "lan -> dmz"
        assert any("west -> east is rewritten: lan -> dmz" in note for note in made.notes)
        done(deck, reprotect(networks={"lan": "dmz"}))
        with deck.look() as books:
            assert books.network_map(WEST, EAST) == {"lan": "dmz"}

    def test_nothing_is_said_where_nothing_changes(self, deck: Deck) -> None:
        done(deck, *COMMITTED)
        assert not any("rewritten" in note for note in review(deck).notes)

    @pytest.mark.parametrize(
        ("asked", "makes", "found", "value"),
        [
            ({}, (), ["NetworkMissing"], "lan -> lan"),
            ({}, ("network",), [], "lan -> lan-asr"),
            ({"lan": "dmz"}, ("network",), ["NetworkMissing"], "lan -> dmz"),
            ({"lan": None}, (), [], "lan -> not attached"),
        ],
        ids=["the agent makes none", "made", "asked for, so not made", "not attached"],
    )
    def test_one_that_is_missing(
        self,
        deck: Deck,
        asked: dict[str, str | None],
        makes: tuple[str, ...],
        found: list[str],
        value: str,
    ) -> None:
        done(deck, *COMMITTED)
        deck.east.networks, deck.east.makes = ("other",), makes
        deck.tick()
        made = review(deck, networks=asked)
        assert codes(made) == found
        row = rows(made)["virtual network"]
        assert (row.value, row.new) == (value, value.endswith("-asr"))

    def test_one_that_is_made_is_there_and_mapped_from_then_on(self, deck: Deck) -> None:
        done(deck, *COMMITTED)
        deck.east.networks, deck.east.makes = ("other",), ("network",)
        deck.tick()
        done(deck, reprotect())
        assert "lan-asr" in deck.east.networks
        with deck.look() as books:
            assert books.network_map(WEST, EAST) == {"lan": "lan-asr"}


class TestStorage:
    def lose_account(self, deck: Deck, *makes: str) -> None:
        done(deck, *COMMITTED)
        original_gone(deck)
        deck.east.pools, deck.east.makes = ("others",), makes
        deck.tick()

    def test_an_account_that_is_gone_is_made_after_the_secondarys(self, deck: Deck) -> None:
        self.lose_account(deck, "pool")
        made = review(deck)
        row = rows(made)["replica managed disks"]
        assert (row.value, row.new, codes(made)) == ("disksasr", True, [])
        done(deck, reprotect())
        assert "disksasr" in deck.east.pools
        assert deck.view().standby.pool == "disksasr"

    def test_an_agent_that_cannot_make_it_is_told_beforehand(self, deck: Deck) -> None:
        self.lose_account(deck)
        assert codes(review(deck)) == ["PoolMissing"]

    def test_one_that_went_while_the_disks_are_there_is_not_made(self, deck: Deck) -> None:
        done(deck, *COMMITTED)
        deck.east.pools, deck.east.makes = ("others",), ("pool",)
        deck.tick()
        assert codes(review(deck)) == ["OldPlaceChanged"]

    def test_unmanaged_disks_lie_in_a_storage_account(self, deck: Deck) -> None:
        done(deck, *COMMITTED)
        from dataclasses import replace

        shape = deck.west.definitions["shop"]
        disks = tuple(replace(disk, managed=False) for disk in shape.disks)
        deck.west.definitions["shop"] = replace(shape, disks=disks)
        settings = [row.setting for row in review(deck).rows]
        assert settings == [("storage account" if "disks" in one else one) for one in ROWS]

    @pytest.mark.parametrize(
        ("makes", "found"), [((), ["PoolFixedByDisks"]), (("other-pool",), [])]
    )
    def test_another_pool_than_the_old_disks_is_a_full_copy(
        self, deck: Deck, makes: tuple[str, ...], found: list[str]
    ) -> None:
        done(deck, *COMMITTED)
        deck.east.pools, deck.east.makes = ("disks", "fast"), makes
        deck.tick()
        made = review(deck, pool="fast")
        assert (made.way.value, codes(made)) == ("full", found)


class TestCache:
    def test_another_is_refused_where_other_items_use_it(self, deck: Deck) -> None:
        deck.west.add_machine("mail")
        deck.tick()
        back = ProtectRequest(vm="mail", source_site="west", target_site="east")
        done(deck, lambda books: accept.protect(books, back), *COMMITTED)
        made = review(deck, cache=CacheRequest(url="file:///new"))
        (problem,) = made.problems
        assert (problem["code"], "mail" in problem["cause"]) == ("CacheInUse", True)

    def test_another_is_the_sites_from_then_on(self, deck: Deck) -> None:
        done(deck, *COMMITTED, reprotect(cache=CacheRequest(url="file:///new")))
        with deck.look() as books:
            assert books.cache_of(WEST) == StoreAddress(name="west", url="file:///new")


class TestHost:
    @pytest.fixture
    def second(self, deck: Deck) -> FakeHost:
        """A second host in the primary site."""
        host = FakeHost(
            name=HostName("e2"), site=EAST, store=deck.east.store, now=lambda: deck.clock[0]
        )
        deck.more[host.name] = host
        done(deck, *COMMITTED)
        return host

    def test_the_replica_moves_by_a_full_copy(self, deck: Deck, second: FakeHost) -> None:
        made = review(deck, host="e2")
        assert (made.way.value, codes(made)) == ("full", [])
        assert any("moves to e2" in note for note in made.notes)
        done(deck, reprotect(host="e2"))
        item = item_of(deck)
        assert (item.primary.host, item.id in second.copies) == ("e2", True)
        assert deck.view().state == "Protected"

    def test_the_old_hosts_things_are_removed_when_it_is_back(
        self, deck: Deck, second: FakeHost
    ) -> None:
        deck.east.deaf = True
        deck.tick(120)
        done(deck, reprotect(host="e2"))
        with deck.look() as books:
            assert list(books.left_orders(item_of(deck).id)) == ["e1"]
        assert deck.east.machines["shop"] is not PowerState.ABSENT

    def test_home_again_on_the_other_host(self, deck: Deck, second: FakeHost) -> None:
        done(deck, reprotect(host="e2"), failover(planned=True), commit(), reprotect())
        assert deck.view().running.host == "e2"

    def test_a_job_that_fails_there_leaves_the_item_committed(
        self, deck: Deck, second: FakeHost
    ) -> None:
        from tests.hosts import REFUSED

        second.fails["prepare-replica"] = REFUSED
        assert deck.do(reprotect(host="e2")).state is JobState.FAILED
        assert deck.view().state == "Failover committed"
        second.fails.clear()
        done(deck, reprotect())
        assert deck.view().standby.host == "e2"


def test_five_round_trips_leave_the_same_names(deck: Deck) -> None:
    put(deck, named(GROUP, "prod"), named(SET, "web"))
    join(deck, GROUP, "prod", "shop")
    join(deck, SET, "web", "shop")
    done(deck, *COMMITTED, reprotect(), failover(planned=True), commit())
    done(deck, reprotect(keep_machine=True))
    first = _configuration(deck)
    for _ in range(4):
        for _way in ("there", "home"):
            done(deck, failover(planned=True), commit(), reprotect(keep_machine=True))
    assert _configuration(deck) == first


def _configuration(deck: Deck) -> Any:
    item = item_of(deck)
    with deck.look() as books:
        return (
            item.primary,
            item.recovery,
            [to_plain(SiteResources, held(deck, site)) for site in (EAST, WEST)],
            books.network_mappings(),
            books.item(ItemId(item.id)).facts["places"],
        )
