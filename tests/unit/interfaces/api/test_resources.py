"""Groups, sets and reservations over the API: made, changed, listed, and refused with reasons."""

from __future__ import annotations

from typing import Any

import pytest

from homeport.errors import HomeportError, NotFoundError
from homeport.model.ids import HostName
from homeport.model.requests import (
    CapacityRequest,
    GroupRequest,
    ProtectRequest,
    ReprotectRequest,
    SetRequest,
)
from homeport.model.resources import Hold, ResourceKind
from homeport.units import GiB
from tests.unit.interfaces.api.conftest import Lab
from tests.unit.orchestration.stages import COMMITTED, done, protect, reprotect

GROUP, SET, RESERVATION = ResourceKind
Put = GroupRequest | SetRequest | CapacityRequest


def hold(memory: int = 1, vcpus: int = 1, host: str = "e1") -> dict[HostName, Hold]:
    return {HostName(host): Hold(memory=memory * GiB, vcpus=vcpus)}


KINDS: dict[str, tuple[ResourceKind, Put]] = {
    "a group": (GROUP, GroupRequest(members=("shop",))),
    "a set": (SET, SetRequest(members=("shop",))),
    "a reservation": (RESERVATION, CapacityRequest(holds=hold(), members=("shop",))),
}


@pytest.mark.parametrize(("kind", "asked"), KINDS.values(), ids=KINDS)
class TestEveryKind:
    def test_made_listed_shown_emptied_deleted(
        self, lab: Lab, kind: ResourceKind, asked: Put
    ) -> None:
        made = lab.client.put_resource("east", "one", asked)
        assert (made.kind, made.members, made.stand) == (kind.value, ("shop",), ("shop on e1",))
        assert lab.client.resources("east", kind) == (made,)
        assert lab.client.resource("east", kind, "one") == made
        assert lab.client.resources("west", kind) == ()
        lab.client.put_resource("east", "one", type(asked)(members=()))
        lab.client.delete_resource("east", kind, "one")
        assert lab.client.resources("east", kind) == ()

    def test_in_use_it_is_not_deleted_and_its_users_are_named(
        self, lab: Lab, kind: ResourceKind, asked: Put
    ) -> None:
        lab.client.put_resource("east", "one", asked)
        with pytest.raises(HomeportError) as refused:
            lab.client.delete_resource("east", kind, "one")
        assert (refused.value.code, "shop" in refused.value.message) == ("ResourceInUse", True)
        assert lab.client.resource("east", kind, "one").members == ("shop",)

    def test_a_member_that_is_gone_does_not_keep_it(
        self, lab: Lab, kind: ResourceKind, asked: Put
    ) -> None:
        lab.client.put_resource("east", "one", asked)
        lab.deck.east.machines.clear()
        lab.deck.tick()
        lab.client.delete_resource("east", kind, "one")

    def test_what_is_left_out_stays(self, lab: Lab, kind: ResourceKind, asked: Put) -> None:
        made = lab.client.put_resource("east", "one", asked)
        assert lab.client.put_resource("east", "one", type(asked)()) == made

    def test_a_machine_leaves_the_one_it_was_in(
        self, lab: Lab, kind: ResourceKind, asked: Put
    ) -> None:
        lab.client.put_resource("east", "one", type(asked)(members=("shop",)))
        lab.client.put_resource("east", "two", type(asked)(members=("shop",)))
        members = {one.name: one.members for one in lab.client.resources("east", kind)}
        assert members == {"one": (), "two": ("shop",)}

    @pytest.mark.parametrize(
        ("site", "name", "members", "code"),
        [
            ("north", "one", None, "NotFound"),
            ("east", "-x", None, "InvalidName"),
            ("east", "one", ("nobody",), "UnknownMachine"),
        ],
    )
    def test_refused(
        self,
        lab: Lab,
        kind: ResourceKind,
        asked: Put,
        site: str,
        name: str,
        members: tuple[str, ...] | None,
        code: str,
    ) -> None:
        with pytest.raises(HomeportError) as refused:
            lab.client.put_resource(site, name, type(asked)(members=members))
        assert refused.value.code == code
        assert lab.client.resources("east", kind) == ()

    def test_one_that_is_not_there(self, lab: Lab, kind: ResourceKind, asked: Put) -> None:
        code = "Unknown" + kind.words.title().replace(" ", "")
        for call in (lab.client.resource, lab.client.delete_resource):
            with pytest.raises(NotFoundError) as missing:
                call("east", kind, "one")
            assert missing.value.code == code
        assert isinstance(asked, GroupRequest | SetRequest | CapacityRequest)


class TestLocks:
    def test_put_on_named_and_lifted(self, lab: Lab) -> None:
        locked = lab.client.put_resource(
            "east", "rg", GroupRequest(lock="delete", lock_name="audit")
        )
        assert (locked.lock, locked.lock_name) == ("delete", "audit")
        assert lab.client.put_resource("east", "rg", GroupRequest()).lock == "delete"
        assert lab.client.put_resource("east", "rg", GroupRequest(lock="none")).lock is None

    @pytest.mark.parametrize(("level", "members_change"), [("read-only", False), ("delete", True)])
    def test_what_it_keeps_from_being_done(
        self, lab: Lab, level: Any, members_change: bool
    ) -> None:
        lab.client.put_resource("east", "rg", GroupRequest(lock=level))
        with pytest.raises(HomeportError) as refused:
            lab.client.delete_resource("east", GROUP, "rg")
        assert refused.value.code == "GroupLocked"
        if members_change:
            assert lab.client.put_resource("east", "rg", GroupRequest(members=("shop",))).members
            return
        with pytest.raises(HomeportError) as refused:
            lab.client.put_resource("east", "rg", GroupRequest(members=("shop",)))
        assert refused.value.code == "GroupLocked"

    def test_a_reprotect_into_a_locked_group_is_refused(self, lab: Lab) -> None:
        lab.client.put_resource("east", "rg", GroupRequest(members=("shop",)))
        done(lab.deck, *COMMITTED)
        lab.client.put_resource("east", "rg", GroupRequest(lock="read-only", lock_name="audit"))
        (problem,) = lab.client.review("shop").problems
        assert (problem["code"], "audit" in problem["message"]) == ("GroupLocked", True)
        job = lab.end(lab.client.reprotect("shop"))
        assert (job.error or {})["code"] == "GroupLocked"
        lab.client.put_resource("east", "rg", GroupRequest(lock="none"))
        assert lab.end(lab.client.reprotect("shop")).succeeded


class TestSets:
    def test_two_on_one_host_are_refused(self, lab: Lab) -> None:
        lab.deck.east.add_machine("mail")
        lab.deck.tick()
        with pytest.raises(HomeportError) as refused:
            lab.client.put_resource("east", "web", SetRequest(members=("shop", "mail")))
        assert refused.value.code == "NoHostForAvailabilitySet"
        assert lab.client.resources("east", SET) == ()

    def test_a_replica_standing_by_is_a_member(self, lab: Lab) -> None:
        done(lab.deck, protect())
        made = lab.client.put_resource("west", "web", SetRequest(members=("shop",)))
        assert made.stand == ("shop on w1",)


class TestCapacity:
    def test_what_is_left_of_it_is_told(self, lab: Lab) -> None:
        asked = CapacityRequest(holds=hold(4, 2), members=("shop",))
        (found,) = lab.client.put_resource("east", "r", asked).holds
        assert (found.memory_left, found.vcpus_left) == (3 * GiB, 1)

    @pytest.mark.parametrize(
        ("holds", "code"),
        [
            (hold(9), "HostTooSmall"),
            (hold(1, 3), "HostTooSmall"),
            (hold(5), "HostTooSmall"),
            (hold(-1), "InvalidRequest"),
            (hold(host="e9"), "UnknownHost"),
            (hold(host="w1"), "UnknownHost"),
        ],
        ids=[
            "more memory than the host has",
            "more vCPUs than it has CPUs",
            "more than another reservation leaves",
            "less than nothing",
            "no such host",
            "a host of another site",
        ],
    )
    def test_what_cannot_be_promised_is_refused(
        self, lab: Lab, holds: dict[HostName, Hold], code: str
    ) -> None:
        lab.client.put_resource("east", "other", CapacityRequest(holds=hold(4, 0)))
        with pytest.raises(HomeportError) as refused:
            lab.client.put_resource("east", "r", CapacityRequest(holds=holds))
        assert refused.value.code == code

    def test_a_hold_of_nothing_is_none(self, lab: Lab) -> None:
        made = lab.client.put_resource("east", "r", CapacityRequest(holds=hold(0, 0)))
        assert made.holds == ()


@pytest.mark.parametrize(
    "body",
    [{"lock": "some"}, {"colour": "red"}, {"members": "shop"}],
    ids=["no such lock", "no such field", "no list"],
)
def test_a_malformed_request_is_told(lab: Lab, body: dict[str, Any]) -> None:
    answer = lab.http.put("/v1/sites/east/resource-groups/rg", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "InvalidRequest")


def test_a_site_shows_all_it_has(lab: Lab) -> None:
    done(lab.deck, protect())
    lab.client.put_resource("west", "web", SetRequest())
    lab.client.put_resource("west", "r", CapacityRequest(holds=hold(host="w1")))
    site = lab.client.site("west")
    assert [one.name for one in site.resource_groups] == ["shop-asr"]
    assert site.resource_groups[0].made_by_homeport
    assert [one.name for one in site.availability_sets] == ["web"]
    assert [one.name for one in site.capacity_reservations] == ["r"]
    assert [(one.name, one.host) for one in site.storage_accounts] == [("disks", "w1")]
    assert site.networks == ("lan",)


class TestReview:
    CUSTOM = ReprotectRequest(availability_set="", networks={"lan": None}, way="full")

    @pytest.mark.parametrize("asked", [ReprotectRequest(), CUSTOM], ids=["empty", "customised"])
    def test_it_changes_nothing_and_is_the_same_again(
        self, lab: Lab, asked: ReprotectRequest
    ) -> None:
        done(lab.deck, *COMMITTED)
        before = self.dump(lab)
        made = lab.client.review("shop", asked)
        assert lab.client.review("shop", asked) == made
        assert self.dump(lab) == before

    def dump(self, lab: Lab) -> list[Any]:
        with lab.deck.catalog.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            return list(driver.iterdump())

    @pytest.mark.parametrize(
        ("asked", "code", "status"),
        [
            ({"resource_group": "x"}, "UnknownResourceGroup", 404),
            ({"availability_set": "x"}, "UnknownAvailabilitySet", 404),
            ({"capacity_reservation": "x"}, "UnknownCapacityReservation", 404),
            ({"pool": "x"}, "UnknownPool", 404),
            ({"host": "x"}, "UnknownHost", 404),
            ({"way": "exact"}, "InvalidWay", 422),
            ({"keep_machine": False}, "OriginalMachineKept", 409),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("verb", ["review", "reprotect"])
    def test_what_is_not_there_is_refused_at_once(
        self, lab: Lab, verb: str, asked: dict[str, Any], code: str, status: int
    ) -> None:
        done(lab.deck, *COMMITTED)
        before = lab.snapshot()
        answer = lab.http.post(f"/v1/items/shop/{verb}", json=asked)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert lab.snapshot() == before

    def test_a_network_that_is_not_there_is_a_problem_of_the_review(self, lab: Lab) -> None:
        done(lab.deck, *COMMITTED)
        made = lab.client.review("shop", ReprotectRequest(networks={"lan": "nowhere"}))
        assert [problem["code"] for problem in made.problems] == ["NetworkMissing"]


class TestEstimates:
    def test_what_resyncs_took_is_kept_beside_what_was_estimated(self, lab: Lab) -> None:
        done(lab.deck, *COMMITTED)
        planned = lab.client.review("shop")
        lab.end(lab.client.reprotect("shop"))
        (record,) = lab.client.item("shop").resyncs
        assert record.direction == "west -> east"
        assert (record.way, record.planned) == ("exact", planned.sends)
        assert record.moved is not None
        assert record.low <= record.estimated <= record.high
        assert record.actual >= record.preparing > 0
        assert record.changed is not None
        assert "time to prepare" in lab.client.estimate("shop").basis.partition(";")[2]
        assert lab.client.estimate("shop").resyncs == (record,)

    def test_the_last_ten_are_kept(self, lab: Lab) -> None:
        done(lab.deck, *COMMITTED)
        from tests.unit.orchestration.stages import commit, failover

        for _ in range(12):
            done(lab.deck, reprotect(keep_machine=True), failover(planned=True), commit())
        found = lab.client.item("shop").resyncs
        assert len(found) == 10
        assert sorted(found, key=lambda one: one.ended_at) == list(found)

    def test_what_it_rests_on_is_told(self, lab: Lab) -> None:
        done(lab.deck, *COMMITTED)
        first = "not measured yet, assumed: comparisons, digest rate, rate of deltas"
        assert first in lab.client.estimate("shop").basis
        lab.deck.east.digest_rate = 5e6
        assert "measured of this item: digest rate" in lab.client.estimate("shop").basis


def test_a_request_for_a_host_says_which_was_taken(lab: Lab) -> None:
    asked = ProtectRequest(vm="shop", source_site="east", target_site="west", host="w1")
    lab.end(lab.client.protect(asked))
    assert lab.client.item("shop").facts["placed"].startswith("w1 was asked for")
