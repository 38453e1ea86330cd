"""A running job engine for tests, with an agent beside it that does each operation once."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from dbos import DBOS

from homeport.catalog.catalog import Catalog
from homeport.catalog.vault import VaultRows
from homeport.model.ids import HostName, ItemId, JobId, OperationId, SiteName
from homeport.model.messages import AgentReport, OperationReport, OperationState, SyncRequest
from homeport.model.protection import State
from homeport.orchestration.desk import AgentDesk
from homeport.orchestration.engine import QUEUE, Engine, EngineSettings, Plan
from homeport.orchestration.ports import Job, JobKind, JobRun, JobState, Json, Program
from tests.vaults import EAST, HOST_E, HOST_W, WEST, Names, an_item, furnish, open_catalog

PATIENCE = 20.0
FAST = EngineSettings(hub_interval=0.01, look_interval=0.01, queue_interval=0.02)
ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)

Answer = Callable[[OperationReport], OperationReport]


class CrashError(BaseException):
    """The server dies here: nothing may catch it, and nothing is recorded."""


@dataclass
class Crash:
    """Dies once, at one moment of one step."""

    at: tuple[str, str] | None = None
    met: list[tuple[str, str]] = field(default_factory=list)
    died: threading.Event = field(default_factory=threading.Event)

    def __call__(self, moment: str, name: str) -> None:
        self.met.append((moment, name))
        if (moment, name) == self.at:
            self.at = None
            self.died.set()
            raise CrashError(f"{moment} {name}")


@dataclass
class Agent:
    """
    An agent of one host, with the journal that makes it do things once.

    `answers` say how kinds end, by default well; `deaf` makes it hear nothing.
    """

    desk: AgentDesk
    site: SiteName
    host: HostName
    done: Counter[OperationId] = field(default_factory=Counter)
    kinds: list[str] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    stopped: set[OperationId] = field(default_factory=set)
    deaf: threading.Event = field(default_factory=threading.Event)
    _journal: dict[OperationId, OperationReport] = field(default_factory=dict)

    def turn(self) -> None:
        """One sync and one report, as an agent would."""
        known = tuple(self._journal)
        request = SyncRequest(
            site=self.site, host=self.host, agent_version="1", protocol=2, operations=known
        )
        self.desk.hear(self.site, request)
        answer = self.desk.nothing_new(request)
        self.desk.news(request)
        for order in answer.operations:
            self.done[order.id] += 1
            self.kinds.append(order.kind)
            report = OperationReport(id=order.id, state=OperationState.DONE, result={})
            self._journal[order.id] = self.answers.get(order.kind, lambda done: done)(report)
        self._tell(answer.cancelled)

    def _tell(self, cancelled: tuple[OperationId, ...]) -> None:
        for operation in cancelled:
            if self._journal[operation].state is OperationState.RUNNING:
                self.stopped.add(operation)
                error = {"code": "Cancelled", "kind": "cancelled", "message": "stopped"}
                self._journal[operation] = OperationReport(
                    id=operation, state=OperationState.FAILED, error=error
                )
        told = AgentReport(
            site=self.site,
            host=self.host,
            agent_version="1",
            protocol=2,
            operations=tuple(self._journal.values()),
        )
        for recorded in self.desk.take(self.site, told).recorded:
            del self._journal[recorded]


@dataclass
class Room:
    """An engine with one vault, agents in both sites, and programs by the name in the request."""

    catalog: Catalog
    engine: Engine
    crash: Crash
    agents: dict[HostName, Agent]
    programs: dict[str, Program] = field(default_factory=dict)
    items: Names = field(default_factory=lambda: Names("thing"))
    _stop: threading.Event = field(default_factory=threading.Event)

    def item(self, state: State = State.COMMITTED) -> ItemId:
        """A fresh item between the two sites."""
        item = ItemId(self.items())
        self.write(lambda rows: rows.add_item(an_item(item, name=item), state=state, facts={}))
        return item

    def read(self, look: Callable[[VaultRows], Any]) -> Any:
        with self.catalog.read() as rows:
            return look(rows)

    def write(self, act: Callable[[VaultRows], Any]) -> Any:
        with self.catalog.write() as rows:
            return act(rows)

    def submit(self, program: Program, item: ItemId | None = None, **request: Json) -> JobId:
        """Start `program` as a job."""
        name = f"program-{len(self.programs)}"
        self.programs[name] = program
        asked = {"program": name, **request}
        job = self.write(
            lambda rows: rows.submit(JobKind.COMMIT, item=item, item_name=item or "", request=asked)
        )
        return JobId(job.id)

    def job(self, job: JobId) -> Job:
        found: Job = self.read(lambda rows: rows.job(job))
        return found

    def ended(self, job: JobId) -> Job:
        """Wait for the job's end."""
        wait_for(lambda: self.job(job).state in ENDED, f"job {job} to end")
        return self.job(job)

    def resume(self, job: JobId) -> None:
        """What a restarted server does with a run it finds in the middle."""
        DBOS.resume_workflow(f"{job}:1", queue_name=QUEUE)

    def orders(self, host: HostName) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self.read(lambda rows: rows.operation_rows.orders(host, []))
        return found

    def run_agents(self) -> None:
        while not self._stop.wait(0.01):
            for agent in self.agents.values():
                if not agent.deaf.is_set():
                    agent.turn()

    def close(self) -> None:
        self._stop.set()


def wait_for(look: Callable[[], bool], what: str) -> None:
    """Look until it is so; fail the test if it does not happen."""
    deadline = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s for {what}"
        time.sleep(0.01)


@contextmanager
def running_room(url: str, *, settings: EngineSettings = FAST) -> Iterator[Room]:
    """Open a vault, start an engine and the agents' thread, and stop it all again."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    catalog, crash = open_catalog(url, names=Names("job")), Crash()
    programs: dict[str, Program] = {}

    def dispatch(run: JobRun) -> Mapping[str, Json]:
        return programs[run.job.request["program"]](run)

    plans = {JobKind.COMMIT: Plan(program=dispatch, tasks=("first", "second"))}  # type: ignore[arg-type]
    engine = Engine(
        catalog,
        plans,
        settings=replace(settings),
        server=f"test-{time.monotonic_ns()}",
        leave=lambda: None,
        probe=crash,
    )
    with suppress(ValueError), catalog.write() as rows:
        furnish(rows)
    desk = AgentDesk(catalog)
    agents = {
        host: Agent(desk=desk, site=site, host=host)
        for site, host in ((EAST, HOST_E), (WEST, HOST_W))
    }
    room = Room(catalog=catalog, engine=engine, crash=crash, agents=agents, programs=programs)
    engine.start()
    thread = threading.Thread(target=room.run_agents, name="agents")
    thread.start()
    try:
        yield room
    finally:
        room.close()
        thread.join()
        engine.stop()
        catalog.close()
