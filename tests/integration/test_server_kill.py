"""
Servers killed in the middle of a job, with agents that talk to them over HTTP (G2, G10).

Whatever is killed and when: the job ends right, each operation has been done once, and no host is
held for lost because the server was away.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from homeport.model.codec import from_json, to_json
from homeport.model.ids import HostName, OperationId, SiteName
from homeport.model.messages import (
    AgentReport,
    OperationReport,
    OperationState,
    ReportAnswer,
    SyncAnswer,
    SyncRequest,
)
from homeport.model.protection import State
from tests.integration.killable_server import NAMES
from tests.vaults import EAST, HOST_E, HOST_W, ITEM, WEST, furnish, open_catalog

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

LEASE = 8.0  # of a healthy agent on a busy machine no pause comes near it
WORK = 0.6  # seconds an agent needs for an operation
ROOT = Path(__file__).parents[2]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class ServerProcess:
    """A server that can be killed and started again, on its own port, on a shared vault."""

    url: str
    port: int = field(default_factory=_free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        facts = {
            "DATABASE_URL": self.url,
            "PORT": str(self.port),
            "LEASE": str(LEASE),
            "BEAT_EVERY": "0.3",
            "LEAVE_AFTER": "1.5",
            "DEAD_AFTER": "2.5",
        }
        env = {f"HOMEPORT_SERVER__{name}": value for name, value in facts.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.killable_server"],
            env={**os.environ, **env},
            cwd=ROOT,
        )
        wait_for(self.answers, "the server to answer")

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "the server ended at its start"
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.base}/v1/jobs", trust_env=False).status_code == 200
        return False

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(timeout=20)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


@dataclass
class HttpAgent:
    """An agent over HTTP with a journal: it works on while no server answers it."""

    site: SiteName
    host: HostName
    token: str
    servers: list[ServerProcess]
    done: Counter[OperationId] = field(default_factory=Counter)
    journal: dict[OperationId, OperationReport] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for act in (self._listen, self._tell):
            thread = threading.Thread(target=self._repeat, args=(act,))
            self.threads.append(thread)
            thread.start()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def _repeat(self, act: Callable[[httpx.Client], None]) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        with httpx.Client(headers=headers, trust_env=False, timeout=0.8) as client:
            while not self.stopping.wait(0.1):
                with suppress(httpx.TransportError):
                    act(client)

    def _post(self, client: httpx.Client, path: str, body: bytes) -> bytes | None:
        for server in self.servers:
            with suppress(httpx.TransportError):
                answer = client.post(f"{server.base}/agent/v1/{path}", content=body)
                if answer.status_code == 200:
                    return answer.content
        return None

    def _listen(self, client: httpx.Client) -> None:
        request = SyncRequest(
            site=self.site,
            host=self.host,
            agent_version="1",
            protocol=2,
            revision=0,
            operations=tuple(self.journal),
            wait=0.4,
        )
        answer = self._post(client, "sync", to_json(SyncRequest, request))
        for order in from_json(SyncAnswer, answer).operations if answer else ():
            if order.id not in self.journal:
                running = OperationReport(id=order.id, state=OperationState.RUNNING)
                self.journal[order.id] = running
                worker = threading.Thread(target=self._work, args=(order.id,))
                self.threads.append(worker)
                worker.start()

    def _work(self, operation: OperationId) -> None:
        self.done[operation] += 1
        time.sleep(WORK)
        end = OperationReport(id=operation, state=OperationState.DONE, result={})
        self.journal[operation] = end

    def _tell(self, client: httpx.Client) -> None:
        report = AgentReport(
            site=self.site,
            host=self.host,
            agent_version="1",
            protocol=2,
            operations=tuple(self.journal.values()),
        )
        answer = self._post(client, "report", to_json(AgentReport, report))
        for recorded in from_json(ReportAnswer, answer).recorded if answer else ():
            self.journal.pop(recorded, None)


def wait_for(look: Callable[[], Any], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)


@dataclass
class Stage:
    servers: list[ServerProcess]
    agents: list[HttpAgent]

    def commit(self) -> str:
        answer = httpx.post(
            f"{self.servers[0].base}/v1/items/{ITEM}/commit", trust_env=False, timeout=30
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def begun(self, job: str, name: str) -> None:
        """Wait until an agent is at work on the operation."""
        wait_for(lambda: self.times(job, name), f"{name} to begin")

    def times(self, job: str, name: str) -> int:
        return sum(agent.done[OperationId(f"{job}:1:{name}")] for agent in self.agents)

    def check_ended_well(self, job: str, server: ServerProcess) -> None:
        def look() -> dict[str, Any]:
            found: dict[str, Any] = httpx.get(
                f"{server.base}/v1/jobs/{job}", trust_env=False, timeout=30
            ).json()
            return found

        wait_for(lambda: look()["ended_at"], "the job to end")
        assert look()["result"] == {"ends": ["done"] * 3, "moved": True}, look()
        assert [self.times(job, name) for name in NAMES] == [1, 1, 1]
        item = httpx.get(f"{server.base}/v1/items/{ITEM}", trust_env=False, timeout=30).json()
        assert item["state"] == State.COMMITTED.value


def _prepare(url: str) -> dict[SiteName, str]:
    catalog = open_catalog(url)
    with catalog.write() as rows:
        furnish(rows, state=State.COMMIT_PENDING)
        tokens = {site: rows.new_token(site) for site in (EAST, WEST)}
    catalog.close()
    return tokens


def _stage(url: str, servers: int) -> Iterator[Stage]:
    tokens = _prepare(url)
    processes = [ServerProcess(url) for _ in range(servers)]
    agents = [
        HttpAgent(site=site, host=host, token=tokens[site], servers=processes)
        for site, host in ((EAST, HOST_E), (WEST, HOST_W))
    ]
    try:
        for process in processes:
            process.start()
        for agent in agents:
            agent.start()
        for name in (HOST_E, HOST_W):
            wait_for(lambda host=name: _alive(processes[0], host), f"{name} to be heard")
        yield Stage(servers=processes, agents=agents)
    finally:
        for agent in agents:
            agent.stop()
        for process in processes:
            process.end()


def _alive(server: ServerProcess, host: HostName) -> bool:
    sites = httpx.get(f"{server.base}/v1/sites", trust_env=False, timeout=30).json()
    hosts = {known["name"]: known["alive"] for site in sites for known in site["hosts"]}
    return bool(hosts.get(host))


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Stage]:
    """One server on SQLite."""
    yield from _stage(f"sqlite:///{tmp_path / 'vault.sqlite'}", servers=1)


@pytest.fixture
def pair(postgres: Any) -> Iterator[Stage]:
    """Two servers on one PostgreSQL."""
    yield from _stage(postgres.database(), servers=2)


@pytest.mark.parametrize("name", NAMES)
def test_a_server_killed_in_a_job_ends_it_right_when_it_is_back(alone: Stage, name: str) -> None:
    (server,) = alone.servers
    job = alone.commit()
    alone.begun(job, name)
    server.kill()
    server.start()
    alone.check_ended_well(job, server)


def test_no_lease_runs_while_no_server_does(alone: Stage) -> None:
    """The agent has long ended and is healthy: the server was away for longer than its lease."""
    (server,) = alone.servers
    job = alone.commit()
    alone.begun(job, "second")
    server.kill()
    time.sleep(LEASE + 2)
    server.start()
    alone.check_ended_well(job, server)


def test_a_server_stopped_by_a_signal_holds_nobody_for_lost(alone: Stage) -> None:
    (server,) = alone.servers
    job = alone.commit()
    alone.begun(job, "first")
    server.signal(signal.SIGSTOP)
    time.sleep(LEASE + 2)
    server.signal(signal.SIGCONT)
    alone.check_ended_well(job, server)


def test_a_server_asked_to_end_lets_go_and_the_next_one_goes_on(alone: Stage) -> None:
    (server,) = alone.servers
    job = alone.commit()
    alone.begun(job, "second")
    server.signal(signal.SIGTERM)
    assert server.process is not None
    assert server.process.wait(timeout=20) in (0, -signal.SIGTERM)
    server.start()
    alone.check_ended_well(job, server)


def test_a_second_server_on_the_same_file_refuses_to_start(alone: Stage) -> None:
    second = ServerProcess(alone.servers[0].url)
    try:
        with pytest.raises(AssertionError, match="ended at its start"):
            second.start()
    finally:
        second.end()


@pytest.mark.parametrize("name", NAMES)
def test_a_living_server_takes_over_a_dead_ones_job(pair: Stage, name: str) -> None:
    first, second = pair.servers
    job = pair.commit()
    pair.begun(job, name)
    first.kill()
    pair.check_ended_well(job, second)


def test_a_frozen_server_that_wakes_up_late_does_no_harm(pair: Stage) -> None:
    """G10: taken over while it was frozen, it leaves as soon as it learns of it."""
    first, second = pair.servers
    job = pair.commit()
    pair.begun(job, "second")
    first.signal(signal.SIGSTOP)
    pair.check_ended_well(job, second)
    first.signal(signal.SIGCONT)
    assert first.process is not None
    wait_for(lambda: first.process.poll() is not None, "the ghost to leave", seconds=20)
    pair.check_ended_well(job, second)
