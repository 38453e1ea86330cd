"""People's API from its own client: a call answers as described, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from homeport.client import Client, JobNotDoneError, UnreachableServerError
from homeport.errors import HomeportError, RefusedError, TransientError
from homeport.model.machine import PowerState
from homeport.model.policy import ReplicationPolicy
from homeport.model.requests import (
    CacheRequest,
    DisableRequest,
    DiskRequest,
    FailoverRequest,
    MachineRequest,
    MappingRequest,
    ProtectRequest,
    ReprotectRequest,
    TestFailoverRequest,
)
from homeport.units import GiB
from tests.unit.interfaces.api.conftest import Lab
from tests.unit.orchestration.stages import (
    COMMITTED,
    PENDING,
    commit,
    done,
    failover,
    protect,
    reprotect,
)

SHOP = ProtectRequest(vm="shop", source_site="east", target_site="west")
MACHINE = MachineRequest(
    site="east", name="mail", memory=GiB, disks=(DiskRequest(name="mail0", size=GiB),)
)


def no_wait(_seconds: float) -> None:
    """Nothing to wait for: the job has ended."""


class TestSites:
    def test_health_names_version_and_vault(self, lab: Lab) -> None:
        assert lab.client.health().state == "ok"

    def test_a_new_site_comes_with_a_token_that_its_agents_can_use(self, lab: Lab) -> None:
        made = lab.client.add_site("north", CacheRequest(url="file:///n", options={"key": "s3cr"}))
        assert made.site.cache is not None
        assert made.site.cache.options == ("key",)
        assert "s3cr" not in lab.http.get("/v1/sites").text
        body = {"site": "north", "host": "n1", "agent_version": "1", "protocol": 2, "wait": 0}
        for token, status in ((made.token, 200), ("other", 401)):
            header = {"Authorization": f"Bearer {token}"}
            assert lab.http.post("/agent/v1/sync", json=body, headers=header).status_code == status
        assert [host.name for host in lab.client.site("north").hosts] == ["n1"]
        assert lab.client.renew_token("north") != made.token
        header = {"Authorization": f"Bearer {made.token}"}
        assert lab.http.post("/agent/v1/sync", json=body, headers=header).status_code == 401

    def test_sites_show_hosts_with_what_they_have(self, lab: Lab) -> None:
        east = next(site for site in lab.client.sites() if site.name == "east")
        assert east.hosts[0].alive
        assert east.hosts[0].inventory is not None
        assert [pool.name for pool in east.hosts[0].inventory.pools] == ["disks"]

    def test_a_cache_store_can_be_replaced(self, lab: Lab) -> None:
        report = lab.client.set_cache("east", CacheRequest(url="s3://bucket/east"))
        assert report.cache is not None
        assert report.cache.url == "s3://bucket/east"

    def test_a_network_mapping_is_shown_at_both_sites(self, lab: Lab) -> None:
        asked = MappingRequest(source_site="east", network="lan", target_site="west", to="dmz")
        made = lab.client.map_network(asked)
        for site in lab.client.sites():
            assert site.network_mappings == (made,)


class TestPolicies:
    def test_the_default_is_there_from_the_start(self, lab: Lab) -> None:
        (policy,) = lab.client.policies()
        assert policy.name == "default"
        assert policy.interval == timedelta(seconds=60)
        assert policy.rpo_target == timedelta(minutes=5)
        assert policy.retention == timedelta(days=1)

    def test_one_is_made_and_changed_field_by_field(self, lab: Lab) -> None:
        quick = ReplicationPolicy(name="quick", interval=timedelta(seconds=5))
        assert lab.client.add_policy(quick) == quick
        changed = lab.client.change_policy("quick", retention=timedelta(days=3))
        assert (changed.interval, changed.retention) == (quick.interval, timedelta(days=3))
        assert lab.client.policy("quick") == changed

    def test_seconds_are_taken_for_spans(self, lab: Lab) -> None:
        answer = lab.http.put("/v1/policies/slow", json={"interval": 120, "rpo_target": 600})
        assert answer.status_code == 200
        assert lab.client.policy("slow").interval == timedelta(minutes=2)


class TestMachines:
    def test_they_are_listed_with_their_item(self, lab: Lab) -> None:
        assert [(vm.site, vm.name, vm.item) for vm in lab.client.vms()] == [("east", "shop", None)]
        done(lab.deck, *PENDING)
        assert {(vm.site, vm.item) for vm in lab.client.vms()} == {
            ("east", "shop"),
            ("west", "shop"),
        }
        assert [vm.site for vm in lab.client.vms("west")] == ["west"]

    def test_disks_of_an_items_machine_are_not_called_by_their_layers(self, lab: Lab) -> None:
        done(lab.deck, *PENDING)
        told = lab.deck.east.inventory().machines
        assert [machine.disks for machine in told] == [()]  # or what lies on top at the moment
        assert {vm.disks for vm in lab.client.vms()} == {("disk0",)}

    def test_one_is_made_stopped_started_and_deleted(self, lab: Lab) -> None:
        made = lab.client.create_vm(MACHINE)
        assert made.definition is not None
        assert (made.state, made.definition.name) == (PowerState.RUNNING, "mail")
        lab.deck.tick()
        assert lab.client.stop_vm("east", "mail", timeout=1).state is PowerState.OFF
        assert lab.client.start_vm("east", "mail").state is PowerState.RUNNING
        told = lab.client.delete_vm("east", "mail")
        assert (told.removed, told.kept) == ((), {"/disks/mail.raw": ""})
        lab.deck.tick()
        assert [vm.name for vm in lab.client.vms()] == ["shop"]

    def test_its_disks_go_too_when_that_is_asked(self, lab: Lab) -> None:
        lab.client.create_vm(MACHINE)
        lab.deck.tick()
        told = lab.client.delete_vm("east", "mail", disks=True)
        assert told.removed == ("/disks/mail.raw",)
        assert told.kept == {"/iso": "it is not a file"}

    def test_the_fenced_machine_is_not_started(self, lab: Lab) -> None:
        done(lab.deck, *PENDING)
        assert lab.client.vm("east", "shop").state is PowerState.OFF
        with pytest.raises(RefusedError) as caught:
            lab.client.start_vm("east", "shop")
        assert caught.value.code == "MachineLocked"
        assert lab.deck.east.machines["shop"] is PowerState.OFF
        lab.client.stop_vm("west", "shop")
        lab.client.start_vm("west", "shop")

    @pytest.mark.parametrize(
        ("site", "name", "code"),
        [
            ("east", "shop", "MachineLocked"),
            ("west", "shop", "MachineProtected"),
        ],
    )
    def test_a_machine_of_an_item_is_not_deleted(
        self, lab: Lab, site: str, name: str, code: str
    ) -> None:
        done(lab.deck, *PENDING)
        with pytest.raises(RefusedError) as caught:
            lab.client.delete_vm(site, name)
        assert caught.value.code == code
        assert name in lab.deck.host(site[0] + "1").machines

    def test_a_test_machine_is_left_to_its_cleanup(self, lab: Lab) -> None:
        done(lab.deck, protect())
        lab.end(lab.client.test_failover("shop"))
        lab.deck.tick()
        with pytest.raises(RefusedError) as caught:
            lab.client.delete_vm("west", "shop-test")
        assert "test-cleanup" in caught.value.remedy


class TestItems:
    def test_the_whole_way_home_through_the_client(self, lab: Lab) -> None:
        client = lab.client
        for step in (
            lambda: client.protect(SHOP),
            lambda: client.failover("shop"),
            lambda: client.commit("shop"),
            lambda: client.reprotect("shop"),
            lambda: client.failover("shop", FailoverRequest(planned=True)),
            lambda: client.undo("shop"),
            lambda: client.failover("shop"),
            lambda: client.commit("shop"),
            lambda: client.reprotect("shop", ReprotectRequest(keep_machine=True)),
            lambda: client.test_failover("shop", TestFailoverRequest(network="lan")),
            lambda: client.test_cleanup("shop"),
            lambda: client.disable("shop"),
        ):
            started = step()
            assert started.state == "Not started"
            ended = lab.end(started)
            assert ended.succeeded, ended.error
            lab.deck.tick()
        assert client.items() == ()
        assert len(client.jobs()) == 12

    def test_an_item_is_found_by_name_and_by_id(self, lab: Lab) -> None:
        done(lab.deck, protect(name="web"))
        view = lab.client.item("web")
        assert lab.client.item(view.id) == view
        assert lab.client.items() == (view,)
        assert view.running.machine == "shop"

    def test_points_are_marked(self, lab: Lab) -> None:
        done(lab.deck, protect())
        item = lab.client.item("shop").id
        lab.deck.east.capture(item)  # type: ignore[arg-type]
        lab.deck.tick()
        points = lab.client.points("shop")
        assert [(str(p.position), p.latest, p.latest_app) for p in points] == [
            ("1-0", False, False),
            ("1-1", True, False),
        ]
        assert lab.client.item("shop").newest_point == points[-1]

    def test_the_rpo_grows_with_time_and_is_judged_by_the_policy(self, lab: Lab) -> None:
        done(lab.deck, protect())
        first = lab.client.item("shop")
        lab.deck.tick(1000)
        second = lab.client.item("shop")
        assert first.rpo_met
        assert not second.rpo_met
        assert second.current_rpo is not None
        assert first.current_rpo is not None
        assert second.current_rpo - first.current_rpo == 1000

    @pytest.mark.parametrize("stage", [PENDING, COMMITTED], ids=["pending", "committed"])
    def test_after_a_failover_it_is_unprotected_and_has_no_rpo(self, lab: Lab, stage: Any) -> None:
        done(lab.deck, *stage)
        view = lab.client.item("shop")
        assert (view.unprotected, view.current_rpo) == (True, None)
        assert lab.client.receipt("shop") == view.receipt

    def test_a_review_changes_nothing_and_names_what_will_be(self, lab: Lab) -> None:
        done(lab.deck, *COMMITTED)
        before = lab.snapshot()
        review = lab.client.review("shop")
        assert review.problems == ()
        assert review.direction == "west -> east"
        assert review.disks[0].way.value == "exact"
        by_query = lab.http.get("/v1/items/shop/review", params={"way": "full"}).json()
        assert by_query["way"] == "full"
        assert lab.client.estimate("shop").sends == review.sends
        assert lab.snapshot() == before

    def test_a_review_says_which_side_does_not_answer(self, lab: Lab) -> None:
        done(lab.deck, *COMMITTED)
        lab.deck.east.deaf = True
        lab.deck.tick(120)
        problems = lab.client.review("shop").problems
        assert [problem["code"] for problem in problems] == ["SiteUnreachable"]

    def test_the_ledger_names_what_was_made(self, lab: Lab) -> None:
        done(lab.deck, protect())
        lab.deck.tick()
        lines = lab.client.ledger("shop")
        assert {(line.site, line.kind) for line in lines} == {("east", "note"), ("west", "folder")}
        assert lab.client.ledger() == lines
        item = lab.client.item("shop").id
        lab.end(lab.client.disable("shop"))
        assert [line.item for line in lab.client.ledger(item)] == [item, item]

    def test_a_missing_receipt_is_not_found(self, lab: Lab) -> None:
        done(lab.deck, protect())
        with pytest.raises(HomeportError) as caught:
            lab.client.receipt("shop")
        assert caught.value.code == "NotFound"

    def test_pending_removal_is_listed_by_name(self, lab: Lab) -> None:
        done(lab.deck, protect())
        lab.deck.tick()
        lab.deck.west.deaf = True
        lab.deck.tick(120)
        lab.end(lab.client.disable("shop", DisableRequest(force=True)))
        pending = [line for line in lab.client.ledger() if line.pending_removal]
        assert [(line.site, line.name) for line in pending] == [("west", "/pool/shop")]
        assert lab.client.item("shop").state == "Disabled"


class TestJobs:
    def test_they_are_listed_by_item_and_state(self, lab: Lab) -> None:
        done(lab.deck, protect())
        running = lab.client.failover("shop")
        assert next(job.id for job in lab.client.jobs(item="shop")) == running.id
        assert [job.id for job in lab.client.jobs(state="Succeeded")] != [running.id]
        assert lab.client.item("shop").job == running.id

    def test_one_is_cancelled(self, lab: Lab) -> None:
        done(lab.deck, protect())
        job = lab.client.failover("shop")
        assert lab.client.cancel(job.id).cancel_asked
        ended = lab.end(job)
        assert ended.state == "Cancelled"
        assert lab.client.item("shop").state == "Protected"
        with pytest.raises(RefusedError) as caught:
            lab.client.cancel(job.id)
        assert caught.value.code == "JobEnded"

    def test_waiting_for_one_that_fails_raises_its_reason(self, lab: Lab) -> None:
        done(lab.deck, protect())
        job = lab.client.failover("shop")
        lab.client.cancel(job.id)
        lab.end(job)
        with pytest.raises(JobNotDoneError) as caught:
            lab.client.wait(job.id, pause=no_wait)
        assert caught.value.code == "Cancelled"
        assert caught.value.job.state == "Cancelled"

    def test_waiting_for_one_that_succeeds_returns_it(self, lab: Lab) -> None:
        job = lab.client.protect(SHOP)
        pauses = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            lab.end(job)

        assert lab.client.wait(job.id, pause=pause).succeeded
        assert len(pauses) == 1


def asks(**fields: Any) -> Callable[[Client], object]:
    body = {"vm": "shop", "source_site": "east", "target_site": "west", **fields}
    return lambda client: client.protect(ProtectRequest(**body))


REFUSALS: dict[str, tuple[Any, Callable[[Client], object], str]] = {
    "the same site twice": ((), asks(target_site="east"), "SameSite"),
    "an unknown site": ((), asks(target_site="north"), "NotFound"),
    "an unknown machine": ((), asks(vm="mail"), "UnknownMachine"),
    "an unknown policy": ((), asks(policy="gold"), "NotFound"),
    "an unknown pool": ((), asks(pool="fast"), "NoPool"),
    "a name that is none": ((), asks(name="../etc"), "InvalidName"),
    "a machine twice": ((protect(),), asks(name="other"), "AlreadyProtected"),
    "an unknown item": ((), lambda c: c.commit("nobody"), "NotFound"),
    "an item name that is none": ((), lambda c: c.commit("..x"), "InvalidName"),
    "an unknown job": ((), lambda c: c.job("nobody"), "NotFound"),
    "a point of another item": (
        (protect(),),
        lambda c: c.failover("shop", FailoverRequest(point="9-9")),
        "NoSuchPoint",
    ),
    "a point that is none": (
        (protect(),),
        lambda c: c.failover("shop", FailoverRequest(point="newest")),
        "InvalidPosition",
    ),
    "app-consistent where there is none": (
        (protect(),),
        lambda c: c.failover("shop", FailoverRequest(point="latest-app-consistent")),
        "NoSuchPoint",
    ),
    "planned to a chosen point": (
        (protect(),),
        lambda c: c.failover("shop", FailoverRequest(point="1-0", planned=True)),
        "PlannedTakesLatest",
    ),
    "planned after a failover": (
        PENDING,
        lambda c: c.failover("shop", FailoverRequest(planned=True)),
        "AlreadyFailedOver",
    ),
    "commit before a failover": ((protect(),), lambda c: c.commit("shop"), "NotFailedOver"),
    "reprotect before a commit": (PENDING, lambda c: c.reprotect("shop"), "NotCommitted"),
    "reprotect before a failover": ((protect(),), lambda c: c.reprotect("shop"), "NotFailedOver"),
    "failover after a commit": (COMMITTED, lambda c: c.failover("shop"), "NotReprotected"),
    "undo after a commit": (COMMITTED, lambda c: c.undo("shop"), "AlreadyCommitted"),
    "disable before a commit": (PENDING, lambda c: c.disable("shop"), "NotCommitted"),
    "a way that is none": (
        COMMITTED,
        lambda c: c.reprotect("shop", ReprotectRequest(way="exact")),
        "InvalidWay",
    ),
    "deleting the original machine": (
        COMMITTED,
        lambda c: c.reprotect("shop", ReprotectRequest(keep_machine=False)),
        "OriginalMachineKept",
    ),
    "a test in an unknown network": (
        (protect(),),
        lambda c: c.test_failover("shop", TestFailoverRequest(network="nowhere")),
        "NetworkMissing",
    ),
    "a cleanup without a test": ((protect(),), lambda c: c.test_cleanup("shop"), "NoTest"),
    "a test after a failover": (PENDING, lambda c: c.test_failover("shop"), "NotAllowedNow"),
    "a site twice": ((), lambda c: c.add_site("east"), "SiteExists"),
    "a site name that is none": ((), lambda c: c.add_site("a/b"), "InvalidName"),
    "a policy twice": (
        (),
        lambda c: c.add_policy(ReplicationPolicy(name="default")),
        "PolicyExists",
    ),
    "a policy that contradicts itself": (
        (),
        lambda c: c.change_policy("default", interval=timedelta(hours=9)),
        "InvalidPolicy",
    ),
    "an unknown policy shown": ((), lambda c: c.policy("gold"), "NotFound"),
    "a mapping of an unknown site": (
        (),
        lambda c: c.map_network(
            MappingRequest(source_site="east", network="lan", target_site="north", to="lan")
        ),
        "NotFound",
    ),
    "a machine on an unknown host": (
        (),
        lambda c: c.create_vm(
            MachineRequest(site="east", name="m", memory=GiB, disks=(), host="e9")
        ),
        "NotFound",
    ),
    "a machine name that is none": ((), lambda c: c.vm("east", "-x"), "InvalidName"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refused_with_a_code_and_a_remedy_and_nothing_changed(lab: Lab, name: str) -> None:
    stage, call, code = REFUSALS[name]
    if stage:
        done(lab.deck, *stage)
    before = lab.snapshot()
    asked = list(lab.deck.east.asked), list(lab.deck.west.asked)
    with pytest.raises(HomeportError) as caught:
        call(lab.client)
    assert caught.value.code == code
    assert caught.value.remedy
    assert lab.snapshot() == before
    assert (lab.deck.east.asked, lab.deck.west.asked) == asked


BUSY: dict[str, tuple[Any, Callable[[Client], object], Callable[[Client], object]]] = {
    "failover while reprotecting": (
        COMMITTED,
        lambda c: c.reprotect("shop"),
        lambda c: c.failover("shop"),
    ),
    "failover while failing over": (
        (protect(),),
        lambda c: c.failover("shop"),
        lambda c: c.failover("shop"),
    ),
    "undo while committing": (PENDING, lambda c: c.commit("shop"), lambda c: c.undo("shop")),
    "disable while enabling": ((), asks(), lambda c: c.disable("shop")),
    "a failover beside a test that begins": (
        (protect(),),
        lambda c: c.test_failover("shop"),
        lambda c: c.failover("shop"),
    ),
}


@pytest.mark.parametrize("name", BUSY)
def test_one_job_at_a_time(lab: Lab, name: str) -> None:
    stage, first, second = BUSY[name]
    if stage:
        done(lab.deck, *stage)
    first(lab.client)
    before = lab.snapshot()
    with pytest.raises(RefusedError) as caught:
        second(lab.client)
    assert caught.value.code in {"NotAllowedNow", "JobRunning"}
    assert "homeport job" in caught.value.remedy
    assert lab.snapshot() == before


UNREACHABLE: dict[str, tuple[Any, str, Callable[[Client], object]]] = {
    "protect, source away": ((), "east", asks()),
    "protect, target away": ((), "west", asks()),
    "failover, target away": ((protect(),), "west", lambda c: c.failover("shop")),
    "planned failover, source away": (
        (protect(),),
        "east",
        lambda c: c.failover("shop", FailoverRequest(planned=True)),
    ),
    "failover, nobody confirms": (
        (protect(),),
        "east",
        lambda c: c.failover("shop", FailoverRequest(confirm_source_down=False)),
    ),
    "undo, old side away": (PENDING, "east", lambda c: c.undo("shop")),
    "commit, running side away": (PENDING, "west", lambda c: c.commit("shop")),
    "reprotect, old side away": (COMMITTED, "east", lambda c: c.reprotect("shop")),
    "disable, a side away": ((protect(),), "west", lambda c: c.disable("shop")),
    "test, target away": ((protect(),), "west", lambda c: c.test_failover("shop")),
}


@pytest.mark.parametrize("name", UNREACHABLE)
def test_a_side_that_is_away_is_named_and_nothing_changed(lab: Lab, name: str) -> None:
    stage, side, call = UNREACHABLE[name]
    if stage:
        done(lab.deck, *stage)
    getattr(lab.deck, side).deaf = True
    lab.deck.tick(120)
    before = lab.snapshot()
    with pytest.raises(RefusedError) as caught:
        call(lab.client)
    assert caught.value.code == "SiteUnreachable"
    assert f"{side[0]}1 in {side}" in caught.value.message
    assert lab.snapshot() == before


def test_a_site_without_a_cache_store_is_no_source(lab: Lab) -> None:
    lab.client.add_site("north")
    with pytest.raises(RefusedError) as caught:
        lab.client.protect(ProtectRequest(vm="shop", source_site="north", target_site="west"))
    assert caught.value.code == "UnknownMachine"


def test_what_a_test_left_is_cleaned_up_before_reprotect_or_disable(lab: Lab) -> None:
    done(lab.deck, protect())
    lab.end(lab.client.test_failover("shop"))
    with pytest.raises(RefusedError) as caught:
        lab.client.disable("shop")
    assert caught.value.code == "TestNotCleanedUp"
    assert "test-cleanup" in lab.client.item("shop").allowed


MALFORMED: dict[str, tuple[str, str, Any]] = {
    "a field nobody knows": ("POST", "/v1/items/shop/failover", {"pont": "latest"}),
    "an option for undo": ("POST", "/v1/items/shop/undo", {"force": True}),
    "a field missing": ("POST", "/v1/items", {"vm": "shop"}),
    "another kind of value": ("POST", "/v1/items/shop/failover", {"planned": "perhaps"}),
    "a state that is none": ("GET", "/v1/jobs?state=lost", None),
    "no JSON": ("PUT", "/v1/policies/default", "x"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_told_what_is_wrong(lab: Lab, name: str) -> None:
    method, path, body = MALFORMED[name]
    answer = lab.http.request(method, path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["kind"]) == (422, "InvalidRequest", "refused")
    assert error["remedy"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "NotFound"),
        ("GET", "/v1/items/nobody", 404, "NotFound"),
        ("GET", "/v1/items/a%2Fb", 404, "NotFound"),
        ("GET", "/v1/items/a..b", 422, "InvalidName"),
        ("GET", "/v1/vms/east/..hidden", 422, "InvalidName"),
        ("DELETE", "/v1/sites", 405, "InvalidRequest"),
        ("POST", "/v1/items/nobody/commit", 404, "NotFound"),
    ],
)
def test_every_error_has_the_same_body(
    lab: Lab, method: str, path: str, status: int, code: str
) -> None:
    answer = lab.http.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message", "cause", "remedy", "kind"}
    assert answer.json()["error"]["code"] == code


def test_a_server_that_is_away_is_transient_and_says_how_to_start_it() -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(UnreachableServerError) as caught:
        client.health()
    assert isinstance(caught.value, TransientError)
    assert "homeport" in caught.value.remedy


def test_an_answer_that_is_not_homeports_is_told_as_it_is() -> None:
    transport = httpx.MockTransport(lambda _request: httpx.Response(502, text="bad gateway"))
    http = httpx.Client(base_url="http://proxy", transport=transport)
    with Client("http://proxy", http=http) as client, pytest.raises(TransientError) as caught:
        client.sites()
    assert "bad gateway" in caught.value.message


def test_openapi_describes_every_answer(lab: Lab) -> None:
    described = lab.http.get("/openapi.json").json()
    ours = {path: verbs for path, verbs in described["paths"].items() if path.startswith("/v1/")}
    assert len(ours) >= 25
    for path, verbs in ours.items():
        for verb, operation in verbs.items():
            answers = operation["responses"].items()
            code, good = next((code, answer) for code, answer in answers if code[0] == "2")
            if code != "204":  # nothing is told of what is gone
                assert good["content"]["application/json"]["schema"], (verb, path)
            assert operation["description"], (verb, path)


def test_failing_over_again_and_home_shows_the_resync(lab: Lab) -> None:
    done(lab.deck, protect(), failover(), commit(), reprotect())
    resync = lab.client.item("shop").last_resync
    assert resync is not None
    assert (resync["way"], resync["disks"]) == ("exact", {"disk0": "exact"})


def test_a_reprotect_at_work_tells_how_long_it_is_expected_to_take(lab: Lab) -> None:
    done(lab.deck, *COMMITTED)
    lab.deck.west.ships = False  # it waits in the resync
    lab.deck.east.lands = False
    told: list[tuple[str, ...]] = []
    job = lab.client.reprotect("shop")
    real = lab.deck.tick

    def tick(seconds: float = 1.0) -> None:
        real(seconds)
        report = lab.client.job(job.id)
        told.append(report.notes)
        if len(told) > 30:
            lab.deck.west.ships = lab.deck.east.lands = True

    lab.deck.tick = tick  # type: ignore[method-assign]
    ended = lab.end(job)
    assert ended.succeeded
    assert ended.notes == ()
    (words,) = told[-2]
    assert words.startswith("estimated ")
    assert "in all (" in words
    assert "expected" not in lab.client.item("shop").facts


def test_a_failback_nobody_rehearsed_is_accepted_with_a_note(lab: Lab) -> None:
    done(lab.deck, protect())
    away = lab.client.failover("shop")
    assert away.notes == ()
    assert lab.end(away).succeeded
    lab.end(lab.client.commit("shop"))
    lab.end(lab.client.reprotect("shop"))
    (note,) = lab.client.failover("shop").notes
    assert "No test failover at east has succeeded since the reprotect" in note
