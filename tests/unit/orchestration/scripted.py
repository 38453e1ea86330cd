"""
A vault on SQLite, two hosts in memory, and runs of programs that can die at any boundary.

`ScriptedRun` keeps its record as the job engine does: a step's effect and its record are one
transaction, an operation's and a wait's answer are recorded after they are there. Dying is a
`BaseException`, so nothing of a program can catch it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import event

from homeport.catalog.catalog import Catalog
from homeport.errors import CancelledError, describe
from homeport.model.codec import to_plain
from homeport.model.ids import HostName, JobId, OperationId, SiteName
from homeport.model.messages import OperationOrder, OperationState, StoreAddress
from homeport.model.operations import OPERATIONS
from homeport.orchestration.books import Books, Health
from homeport.orchestration.ports import (
    Job,
    JobState,
    JobStoppedError,
    Json,
    Outcome,
    Vault,
)
from homeport.orchestration.registry import PROGRAMS
from tests.hosts import FakeHost, Store

VAULT = "vault.sqlite"
START = datetime(2026, 1, 1, tzinfo=UTC)
LOOKS = 40
"""Looks of a wait before its patience is at an end, whatever it is: each lets a second pass."""


class Died(BaseException):
    """The server is gone."""


def open_vault(folder: Path, clock: list[datetime]) -> Catalog:
    ids = itertools.count(1)
    return Catalog.open(
        f"sqlite:///{folder / VAULT}",
        clock=lambda: clock[0],
        new_id=lambda: f"id{next(ids)}",
        new_token=lambda: f"token{next(ids)}",
        lease=timedelta(seconds=60),
        dbos_version="3.4.0",
    )


@cache
def fresh_vault() -> bytes:
    """An empty vault's file, made once: its migrations are most of a short test's time."""
    with TemporaryDirectory() as folder:
        open_vault(Path(folder), [START]).close()
        return (Path(folder) / VAULT).read_bytes()


@dataclass
class Deck:
    """The server's side of a test: a vault, its hosts, and the jobs that were accepted."""

    catalog: Catalog
    east: FakeHost
    west: FakeHost
    clock: list[datetime]
    submitted: list[JobId] = field(default_factory=list)
    more: dict[str, FakeHost] = field(default_factory=dict)  # beside the first of each site

    @classmethod
    def open(cls, folder: Path) -> Deck:
        clock = [START]
        (folder / VAULT).write_bytes(fresh_vault())
        catalog = open_vault(folder, clock)
        _without_syncs(catalog)
        store = Store()

        def host(name: str, site: str) -> FakeHost:
            return FakeHost(
                name=HostName(name), site=SiteName(site), store=store, now=lambda: clock[0]
            )

        deck = cls(catalog=catalog, east=host("e1", "east"), west=host("w1", "west"), clock=clock)
        catalog.submit_with(
            lambda _session, job: deck.submitted.append(job.id),
            lambda job: PROGRAMS[job.kind].tasks,
        )
        deck.east.add_machine("shop")
        with catalog.write() as rows:
            for site in ("east", "west"):
                cache = StoreAddress(name=site, url=f"file:///{site}")
                rows.add_site(SiteName(site), cache)
        deck.tick()
        return deck

    def host(self, name: str) -> FakeHost:
        return {self.east.name: self.east, self.west.name: self.west, **self.more}[name]

    def tick(self, seconds: float = 1.0) -> None:
        """Time passes: the agents that are heard settle their assignments and report."""
        self.clock[0] += timedelta(seconds=seconds)
        for host in (self.east, self.west, *self.more.values()):
            if not host.deaf:
                self._hear(host)

    def _hear(self, host: FakeHost) -> None:
        with self.catalog.write() as rows:
            rows.agent_rows.hear(host.name, host.site, agent_version="1", protocol=2)
            rows.agent_rows.put_inventory(host.name, host.inventory())
            host.settle(rows.agent_rows.assignments(host.name))
            rows.agent_rows.put_reports(host.name, host.reports())

    @contextmanager
    def books(self) -> Any:
        with self.catalog.write() as rows:
            yield rows

    @contextmanager
    def look(self) -> Any:
        with self.catalog.read() as rows:
            yield rows

    def ask(
        self, host: HostName, kind: str, args: object, *, item: Any = None, patience: float = 30.0
    ) -> Outcome:
        """The office's questions, answered at once."""
        there = self.host(host)
        if there.deaf:
            return Outcome(state=OperationState.LOST)
        order = OperationOrder(
            id=OperationId(f"ask{len(there.done)}"),
            kind=kind,
            item=item,
            args=to_plain(OPERATIONS[kind][0], args),
        )
        report = there.carry_out(order)
        return Outcome(state=report.state, result=report.result, error=report.error)

    def health(self) -> Health:
        return Health(version="test", vault="v", state="ok")

    def accept(self, request: Callable[[Books], Job]) -> Job:
        """Take a request, as the API does."""
        with self.catalog.write() as rows:
            return request(rows)

    def run(self, job: Job, *, crashes: list[int] | None = None) -> Job:
        """Run a job to its end, dying at each of the boundaries named; the job as it ended."""
        record: list[Json] = []
        for crash in [*(crashes or []), None]:
            run = ScriptedRun(self, job, record, crash)
            try:
                run.complete()
            except Died:
                continue
            break
        with self.catalog.read() as rows:
            return rows.job(job.id)

    def do(self, request: Callable[[Books], Job], *, crashes: list[int] | None = None) -> Job:
        """Accept and run."""
        return self.run(self.accept(request), crashes=crashes)

    def cancel(self, job: Job) -> None:
        with self.catalog.write() as rows:
            rows.ask_cancel(job.id)

    def view(self, key: str = "shop") -> Any:
        from homeport.interfaces.reports import item_view

        with self.catalog.read() as rows:
            return item_view(rows, rows.find_item(key))


def _without_syncs(catalog: Catalog) -> None:
    """No power fails in these tests, and syncs are most of their time."""

    def connected(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(catalog.engine, "connect", connected)
    catalog.engine.dispose()


class ScriptedRun:
    """A `JobRun` over a deck. `boundaries` counts the places it could have died at."""

    def __init__(self, deck: Deck, job: Job, record: list[Json], crash: int | None) -> None:
        self._deck = deck
        self._job = replace(job, state=JobState.RUNNING, started_at=None, tasks=())
        self._record = record
        self._crash = crash
        self._at = 0
        self.boundaries = 0

    @property
    def job(self) -> Job:
        return self._job

    def complete(self) -> None:
        """As the engine ends a run."""
        self._change(lambda rows: rows.job_rows.begin(self._job.id))
        try:
            result = PROGRAMS[self._job.kind].program(self)
            self._finish(JobState.SUCCEEDED, result=result)
        except JobStoppedError as stopped:
            cancelled = stopped.error.get("kind") == "cancelled"
            state = JobState.CANCELLED if cancelled else JobState.FAILED
            self._finish(state, error=stopped.error)

    def task(self, index: int, *, waits_for: str = "") -> None:
        self._change(lambda r: r.job_rows.begin_task(self._job.id, index, waits_for=waits_for))

    def skip(self, index: int, reason: str) -> None:
        self._change(lambda r: r.job_rows.skip_task(self._job.id, index, reason))

    def step(self, name: str, act: Callable[[Vault], Json]) -> Json:
        def attempt(rows: Any) -> Json:
            try:
                with rows.session.begin_nested():
                    return {"answer": act(rows)}
            except JobStoppedError as stopped:
                return {"error": stopped.error}
            except Exception as error:  # noqa: BLE001 - as the engine does
                return {"error": describe(error)}

        answer = self._change(attempt)
        if "error" in answer:
            raise JobStoppedError(answer["error"])
        return answer["answer"]

    def operation(
        self,
        name: str,
        host: HostName,
        kind: str,
        args: object,
        *,
        patience: float | None = None,
        shielded: bool = False,
    ) -> Outcome:
        plain = to_plain(OPERATIONS[kind][0], args)
        answer = self._waiting(lambda: self._operate(name, host, kind, plain, shielded))
        return Outcome(
            state=OperationState(answer["state"]), result=answer["result"], error=answer["error"]
        )

    def _operate(self, name: str, host: HostName, kind: str, plain: Json, shielded: bool) -> Json:
        there = self._deck.host(host)
        if self.cancel_asked() and not shielded:
            error = CancelledError("The operation was not started.").as_dict()
            return {"state": "failed", "result": None, "error": error}
        if there.deaf:
            return {"state": "lost", "result": None, "error": None}
        identity = OperationId(f"{self._job.id}:{self._job.attempt}:{name}")
        order = OperationOrder(id=identity, kind=kind, item=self._job.item, args=plain)
        report = there.carry_out(order)
        self._deck.tick()
        return {"state": report.state.value, "result": report.result, "error": report.error}

    def wait(
        self,
        name: str,
        look: Callable[[Vault], Json | None],
        *,
        patience: float,
        shielded: bool = False,
    ) -> Json:
        def waiting() -> Json:
            for _ in range(LOOKS):
                with self._deck.catalog.write() as rows:
                    answer = look(rows)
                if answer is not None:
                    return answer
                if self.cancel_asked() and not shielded:
                    return None
                self._deck.tick()
            return None

        return self._waiting(waiting)

    def cancelled(self) -> bool:
        return bool(self._change(lambda rows: rows.job_rows.cancel_asked(self._job.id)))

    def cancel_asked(self) -> bool:
        with self._deck.catalog.read() as rows:
            return bool(rows.job_rows.cancel_asked(self._job.id))

    def _finish(self, state: JobState, **end: Any) -> None:
        self._change(lambda rows: rows.job_rows.finish(self._job.id, state, **end))

    def _change(self, act: Callable[[Any], Json]) -> Json:
        """A transaction with its record in it: died before it, or after it."""
        if self._replayed():
            return self._next()
        self._boundary()
        with self._deck.catalog.write() as rows:
            answer = act(rows)
        self._keep(answer)
        self._boundary()
        return answer

    def _waiting(self, act: Callable[[], Json]) -> Json:
        """What acts elsewhere, then is recorded: died before, between and after."""
        if self._replayed():
            return self._next()
        self._boundary()
        answer = act()
        self._boundary()
        self._keep(answer)
        self._boundary()
        return answer

    def _replayed(self) -> bool:
        return self._at < len(self._record)

    def _next(self) -> Json:
        self._at += 1
        return self._record[self._at - 1]

    def _keep(self, answer: Json) -> None:
        self._record.append(answer)
        self._at += 1

    def _boundary(self) -> None:
        self.boundaries += 1
        if self._crash is not None and self.boundaries == self._crash:
            raise Died
