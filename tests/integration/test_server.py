"""The server as it is wired, engine and all, with two agents that speak HTTP: a round trip."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from homeport.client import Client, JobNotDoneError
from homeport.model.codec import from_json, to_json
from homeport.model.ids import HostName, SiteName
from homeport.model.machine import PowerState
from homeport.model.messages import (
    AgentReport,
    Assignment,
    OperationReport,
    ReportAnswer,
    SyncAnswer,
    SyncRequest,
)
from homeport.model.requests import (
    CacheRequest,
    DiskRequest,
    FailoverRequest,
    MachineRequest,
    ProtectRequest,
)
from homeport.settings import ServerSettings
from homeport.units import GiB
from homeport.wiring import build_server
from tests.hosts import FakeHost, Store
from tests.unit.interfaces.api.conftest import TestClient


@dataclass
class HttpAgent:
    """A host's agent: a long poll and a report, in turn, on a thread of its own."""

    host: FakeHost
    http: Any
    token: str
    stop: threading.Event = field(default_factory=threading.Event)
    ended: dict[str, OperationReport] = field(default_factory=dict)
    assigned: tuple[Assignment, ...] = ()
    revision: int = -1

    def run(self) -> None:
        while not self.stop.is_set():
            if self.host.deaf:
                self.stop.wait(0.02)
                continue
            self.turn()

    def turn(self) -> None:
        asked = SyncRequest(
            site=self.host.site,
            host=self.host.name,
            agent_version="1",
            protocol=2,
            revision=self.revision,
            operations=tuple(self.ended),  # type: ignore[arg-type]
            wait=0.05,
        )
        answer = self._post("/agent/v1/sync", SyncRequest, asked, SyncAnswer)
        if answer.assignments is not None:
            self.assigned, self.revision = answer.assignments, answer.revision
        for order in answer.operations:
            self.ended[order.id] = self.host.carry_out(order)
        self.host.settle(self.assigned)
        report = AgentReport(
            site=self.host.site,
            host=self.host.name,
            agent_version="1",
            protocol=2,
            inventory=self.host.inventory(),
            items=self.host.reports(),
            operations=tuple(self.ended.values()),
        )
        recorded = self._post("/agent/v1/report", AgentReport, report, ReportAnswer).recorded
        for operation in recorded:
            self.ended.pop(operation, None)

    def _post(self, path: str, kind: Any, body: Any, answer: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        told = self.http.post(path, content=to_json(kind, body), headers=headers)
        assert told.status_code == 200, told.text
        return from_json(answer, told.content)


@dataclass
class Live:
    """A server at work, its client, and the two hosts."""

    client: Client
    http: TestClient
    east: FakeHost
    west: FakeHost

    def end(self, job: Any) -> Any:
        return self.client.wait(job.id, pause=lambda _: time.sleep(0.02))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder: Path = tmp_path_factory.mktemp("server")
    settings = ServerSettings(
        data_dir=folder,
        lease=5,
        hub_interval=0.02,
        look_interval=0.02,
        queue_interval=0.02,
        net_interval=0.1,
    )
    server = build_server(settings)
    store = Store()
    try:
        with TestClient(server.app) as http:
            client = Client("http://testserver", http=http)
            agents = []
            for site, name in (("east", "e1"), ("west", "w1")):
                made = client.add_site(site, CacheRequest(url=f"file:///{site}"))
                host = FakeHost(
                    name=HostName(name),
                    site=SiteName(site),
                    store=store,
                    now=lambda: datetime.now(UTC),
                )
                agents.append(HttpAgent(host=host, http=http, token=made.token))
            threads = [threading.Thread(target=agent.run) for agent in agents]
            agents[0].host.add_machine("shop")
            for agent in agents:
                agent.turn()
            for thread in threads:
                thread.start()
            yield Live(client=client, http=http, east=agents[0].host, west=agents[1].host)
            for agent in agents:
                agent.stop.set()
            for thread in threads:
                thread.join()
    finally:
        server.close()


def test_a_round_trip_through_the_engine(live: Live) -> None:
    client = live.client
    asked = ProtectRequest(vm="shop", source_site="east", target_site="west")
    live.end(client.protect(asked))
    assert client.item("shop").state == "Protected"
    live.end(client.test_failover("shop"))
    live.end(client.test_cleanup("shop"))
    job = live.end(client.failover("shop"))
    assert job.result["receipt"]["assumption"].startswith("the source answered")
    assert live.west.machines["shop"] is PowerState.RUNNING
    live.end(client.undo("shop"))
    live.end(client.failover("shop", FailoverRequest(planned=True)))
    live.end(client.commit("shop"))
    assert client.review("shop").problems == ()
    job = live.end(client.reprotect("shop"))
    assert [task.state for task in job.tasks].count("Skipped") == 2
    assert client.item("shop").direction == "west -> east"
    for page in ("items/shop", "items/shop/review"):
        shown = live.http.get(f"/portal/{page}")
        assert shown.status_code == 200
        assert "No test failover at east has succeeded since the reprotect" in shown.text
    live.end(client.disable("shop"))
    assert client.items() == ()
    assert all(not host.copies for host in (live.east, live.west))


def test_a_machine_is_made_and_shown(live: Live) -> None:
    disk = DiskRequest(name="mail0", size=GiB)
    live.client.create_vm(MachineRequest(site="west", name="mail", memory=GiB, disks=(disk,)))
    definition = live.client.vm("west", "mail").definition
    assert definition is not None
    assert definition.name == "mail"


def test_a_refused_enable_is_told_and_the_jobs_error_is_the_agents(live: Live) -> None:
    live.east.add_machine("wiki")
    _until(lambda: any(vm.name == "wiki" for vm in live.client.vms("east")))
    asked = ProtectRequest(
        vm="wiki", source_site="east", target_site="west", networks={"lan": "moon"}
    )
    with pytest.raises(JobNotDoneError) as caught:
        live.end(live.client.protect(asked))
    assert caught.value.code == "NetworkMissing"
    assert live.client.item("wiki").state == "Enable failed"


def _until(true: Any) -> None:
    for _ in range(500):
        if true():
            return
        time.sleep(0.01)
    pytest.fail("it did not come to be")
