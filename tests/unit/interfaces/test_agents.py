"""The agents' API over HTTP, on a real vault: who is let in, what is told, and who is woken."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from homeport.catalog.catalog import Catalog
from homeport.interfaces.api.agents import AgentsApi
from homeport.interfaces.api.app import Services, create_app
from homeport.interfaces.api.bell import Bell
from homeport.interfaces.api.bind import OpenBindError, check_bind
from homeport.model.codec import from_json
from homeport.model.ids import HostName, OperationId
from homeport.model.item import Role
from homeport.model.messages import (
    Assignment,
    OperationOrder,
    OperationState,
    ReportAnswer,
    SyncAnswer,
)
from homeport.orchestration.desk import AgentDesk
from homeport.orchestration.rows import Order
from tests.serving import serving
from tests.vaults import EAST, HOST_E, HOST_W, ITEM, WEST, furnish, open_catalog

GOLDEN = Path(__file__).parents[2] / "golden" / "messages"
OP = OperationId("job:1:fence")


@dataclass
class Bench:
    catalog: Catalog
    client: httpx.Client
    bell: Bell
    tokens: dict[str, str]

    def post(self, path: str, body: Any, *, token: str | None = None) -> httpx.Response:
        shown = self.tokens[EAST] if token is None else token
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {shown}"}
        return self.client.post(f"/agent/v1/{path}", content=content, headers=headers)

    def sync(self, **facts: Any) -> SyncAnswer:
        answer = self.post("sync", _sync(**facts))
        assert answer.status_code == 200, answer.text
        return from_json(SyncAnswer, answer.content)

    def order(self, operation: OperationId = OP) -> None:
        order = OperationOrder(
            id=operation, kind="fence", item=ITEM, args={"item": "item-1", "epoch": 2}
        )
        with self.catalog.write() as rows:
            rows.operation_rows.put(Order(order=order, host=HOST_E, job=None))


def _sync(**facts: Any) -> dict[str, Any]:
    asked = {"site": EAST, "host": HOST_E, "agent_version": "1", "protocol": 2, "wait": 0}
    return {**asked, **facts}


def _report(**facts: Any) -> dict[str, Any]:
    return {"site": EAST, "host": HOST_E, "agent_version": "1", "protocol": 2, **facts}


@dataclass
class Served:
    """The app, started once; each test puts a vault of its own behind the desk."""

    client: httpx.Client
    desk: AgentDesk
    bell: Bell


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    catalog = open_catalog(f"sqlite:///{tmp_path_factory.mktemp('app') / 'vault.sqlite'}")
    desk, bell = AgentDesk(catalog), Bell()
    services = Services(
        office=None,  # type: ignore[arg-type]
        agents=AgentsApi(desk, bell),
        bell=bell,
        net_seconds=0.02,
    )
    with serving(create_app(services, ())) as client:
        yield Served(client=client, desk=desk, bell=bell)
    catalog.close()


@pytest.fixture
def bench(served: Served, tmp_path: Path) -> Iterator[Bench]:
    catalog = open_catalog(f"sqlite:///{tmp_path / 'vault.sqlite'}")
    catalog.listen(served.bell.ring)
    with catalog.write() as rows:
        furnish(rows)
        tokens = {str(site): rows.new_token(site) for site in (EAST, WEST)}
    served.desk._vaults = catalog
    yield Bench(catalog=catalog, client=served.client, bell=served.bell, tokens=tokens)
    catalog.close()


# Who is let in


REFUSED: dict[str, tuple[dict[str, Any], dict[str, str], int, str]] = {
    "no token": (_sync(), {}, 401, "UnknownToken"),
    "another scheme": (_sync(), {"Authorization": "Basic x"}, 401, "UnknownToken"),
    "a wrong token": (_sync(), {"Authorization": "Bearer nonsense"}, 401, "UnknownToken"),
    "half a header": (_sync(), {"Authorization": "Bearer"}, 401, "UnknownToken"),
    "another site's": (_sync(site="west"), {}, 403, "TokenOfAnotherSite"),
    "another site's host": (_sync(host="w1"), {}, 409, "HostOfAnotherSite"),
    "too old": (_sync(protocol=0), {}, 409, "ProtocolMismatch"),
    "too new": (_sync(protocol=4), {}, 409, "ProtocolMismatch"),
    "a name that is a path": (_sync(host="../w"), {}, 422, "InvalidName"),
    "no host": ({"site": "east"}, {}, 422, "InvalidRequest"),
    "not a message": ([1], {}, 422, "InvalidRequest"),
}


@pytest.mark.parametrize("path", ["sync", "report"])
@pytest.mark.parametrize(("body", "headers", "status", "code"), REFUSED.values(), ids=REFUSED)
def test_who_is_not_let_in_is_told_why_and_what_to_do(
    bench: Bench, path: str, body: Any, headers: dict[str, str], status: int, code: str
) -> None:
    shown = headers or ({} if status == 401 else {"Authorization": f"Bearer {bench.tokens[EAST]}"})
    answer = bench.client.post(f"/agent/v1/{path}", json=body, headers=shown)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert error["message"]
    assert error["remedy"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"null"], ids=repr)
def test_a_body_that_is_no_json_is_refused(bench: Bench, body: bytes) -> None:
    assert bench.post("sync", body).status_code == 422


def test_a_body_is_not_read_before_the_token_was_looked_at(bench: Bench) -> None:
    assert bench.post("sync", b"{", token="x").json()["error"]["code"] == "UnknownToken"


def test_a_new_token_ends_the_old_one(bench: Bench) -> None:
    with bench.catalog.write() as rows:
        fresh = rows.new_token(EAST)
    assert bench.post("sync", _sync()).status_code == 401
    assert bench.post("sync", _sync(), token=fresh).status_code == 200


# What is told


def test_assignments_are_told_when_the_revision_differs(bench: Bench) -> None:
    with bench.catalog.write() as rows:
        rows.assign(ITEM, HOST_E, Role.SOURCE, replicate=True)
    first = bench.sync(revision=-1)
    assert [assignment.item for assignment in first.assignments or ()] == [ITEM]
    assert bench.sync(revision=first.revision).assignments is None
    assert bench.sync(revision=first.revision + 7).assignments == first.assignments
    with bench.catalog.write() as rows:
        rows.assign(ITEM, HOST_E, None, replicate=False)
    assert bench.sync(revision=first.revision).assignments == ()


def test_an_operation_is_given_until_it_is_known_and_recorded_once(bench: Bench) -> None:
    bench.order()
    assert [order.id for order in bench.sync(revision=0).operations] == [OP]
    assert [order.id for order in bench.sync(revision=0).operations] == [OP]
    assert bench.sync(revision=0, operations=[OP]).operations == ()
    done = _report(operations=[{"id": OP, "state": "done", "result": {"n": 1}}])
    for _ in range(2):
        answer = from_json(ReportAnswer, bench.post("report", done).content)
        assert answer == ReportAnswer(recorded=(OP,))
    with bench.catalog.read() as rows:
        outcome = rows.operation_rows.outcome(OP)
        assert outcome is not None
        assert (outcome.state, outcome.result) == (OperationState.DONE, {"n": 1})


def test_what_is_to_stop_is_told_in_both_answers(bench: Bench) -> None:
    bench.order()
    bench.sync(revision=0)
    with bench.catalog.write() as rows:
        rows.operation_rows.abandon(OP)
    running = _report(operations=[{"id": OP, "state": "running"}])
    assert from_json(ReportAnswer, bench.post("report", running).content).cancelled == (OP,)
    assert bench.sync(revision=0, operations=[OP]).cancelled == (OP,)


def test_an_inventory_is_kept(bench: Bench) -> None:
    has = {"memory": 8, "memory_free": 4, "cpus": 2, "kvm": False, "hypervisor": "QEMU"}
    assert bench.post("report", _report(inventory=has)).status_code == 200
    with bench.catalog.read() as rows:
        (host,) = rows.hosts(EAST)
        assert host.inventory is not None
        assert host.inventory.cpus == 2


# One version to either side


@pytest.mark.parametrize("protocol", [1, 3])
def test_an_agent_one_version_away_works(bench: Bench, protocol: int) -> None:
    bench.order()
    with bench.catalog.write() as rows:
        rows.assign(ITEM, HOST_E, Role.SOURCE, replicate=True)
    asked = (GOLDEN / f"protocol-{protocol}-sync-request.json").read_bytes()
    answer = bench.post("sync", asked)
    assert answer.status_code == 200, answer.text
    assert from_json(SyncAnswer, answer.content).assignments
    told = (GOLDEN / f"protocol-{protocol}-report.json").read_bytes()
    answer = bench.post("report", told)
    assert answer.status_code == 200, answer.text
    recorded = from_json(ReportAnswer, answer.content).recorded
    assert recorded == ((OP,) if protocol == 1 else ())
    with bench.catalog.read() as rows:
        report = rows.report_of(ITEM, HOST_E)
        assert report is not None
        assert report.phase in ("replicating", "dreaming")
        (host,) = rows.hosts(EAST)
        assert host.agent_version == ("0.1.0" if protocol == 1 else "9.0.0")


def _within(old: Any, new: Any) -> bool:
    """Whether everything an old reader looks for is in what is sent now, with the same values."""
    if isinstance(old, dict):
        return all(key in new and _within(value, new[key]) for key, value in old.items())
    if isinstance(old, list):
        return len(old) == len(new) and all(map(_within, old, new))
    return bool(old == new)


def test_an_agent_of_protocol_1_finds_in_an_answer_what_it_knows(bench: Bench) -> None:
    bench.order()
    with bench.catalog.write() as rows:
        rows.assign(ITEM, HOST_E, Role.SOURCE, replicate=True)
    golden = json.loads((GOLDEN / "protocol-1-sync-answer.json").read_bytes())
    assert _within(golden, bench.post("sync", _sync()).json())
    old = from_json(SyncAnswer, json.dumps(golden))
    assert isinstance((old.assignments or ())[0], Assignment)


# Long polls


WAKING: dict[str, Callable[[Bench], object]] = {
    "an order": lambda bench: bench.order(),
    "an assignment": lambda bench: _assign(bench.catalog),
    "another server's change, by the net": lambda bench: _unheard(bench, _assign),
    "another server's order, by the net": lambda bench: _unheard(bench, lambda _: bench.order()),
}


def _assign(catalog: Catalog) -> None:
    with catalog.write() as rows:
        rows.assign(ITEM, HOST_E, Role.SOURCE, replicate=True)


def _unheard(bench: Bench, act: Callable[[Catalog], object]) -> None:
    """Change the vault without ringing, as another process does."""
    listeners, bench.catalog._listeners = bench.catalog._listeners, []
    act(bench.catalog)
    bench.catalog._listeners = listeners


def _while_waiting(bench: Bench, act: Callable[[], object], **facts: Any) -> SyncAnswer:
    """`act` happens while a long poll waits."""
    with ThreadPoolExecutor(max_workers=1) as threads:
        asked = threads.submit(lambda: bench.sync(wait=30, revision=0, **facts))
        deadline = time.monotonic() + 10
        while HOST_E not in bench.bell.waiting():
            assert time.monotonic() < deadline, "nobody waits"
            time.sleep(0.005)
        act()
        return asked.result(timeout=10)


@pytest.mark.parametrize("act", WAKING.values(), ids=WAKING)
def test_a_long_poll_is_woken_by(bench: Bench, act: Callable[[Bench], object]) -> None:
    answer = _while_waiting(bench, lambda: act(bench))
    assert answer.operations or answer.assignments
    assert bench.bell.waiting() == {}


def test_a_long_poll_is_woken_once_to_stop_something_and_not_for_ever(bench: Bench) -> None:
    bench.order()
    bench.sync(revision=0)

    def abandon() -> None:
        with bench.catalog.write() as rows:
            rows.operation_rows.abandon(OP)

    assert _while_waiting(bench, abandon, operations=[OP]).cancelled == (OP,)
    with bench.catalog.read() as rows:
        assert not rows.operation_rows.untold(HOST_E, [OP])


def test_a_ring_for_others_wakes_nobody() -> None:
    async def listen() -> bool:
        bell = Bell()
        with bell.ear(HOST_E, 0) as ear:
            bell.ring([HOST_W, HostName("x")])
            return await ear.heard(0.01)

    assert asyncio.run(listen()) is False


# Where the server may listen


@pytest.mark.parametrize(
    ("host", "bound"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.9.9.9", "127.9.9.9"),
        ("localhost", "127.0.0.1"),
        ("::1", "::1"),
        ("169.254.213.1", "169.254.213.1"),
        ("169.254.249.1", "169.254.249.1"),
    ],
)
def test_only_this_machine_and_the_lab_can_reach_the_server(host: str, bound: str) -> None:
    assert check_bind(host) == bound


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "::",
        "10.0.0.1",
        "169.254.250.1",
        "169.254.212.255",
        "example.org",
        "",
        "::ffff:10.0.0.1",
    ],
)
def test_an_open_address_is_refused_with_what_to_do(host: str) -> None:
    with pytest.raises(OpenBindError) as refused:
        check_bind(host)
    assert "127.0.0.1" in refused.value.remedy
