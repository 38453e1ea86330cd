"""
The job engine: the one module that knows DBOS, so that we can leave it.

One generic workflow runs every job: it looks up the program of the job's kind and hands it a `Run`.
DBOS keeps nothing but positions (which step of which run is recorded); jobs, tasks and operations
are rows of the vault, and nobody else reads DBOS's tables.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version

import structlog
from dbos import (
    DBOS,
    DBOSClient,
    DBOSConfig,
    DBOSPortableJSONSerializer,
    SQLAlchemyDatasource,
)
from dbos import error as errors
from sqlalchemy.orm import Session

from homeport.errors import HomeportError, describe
from homeport.model.codec import to_plain
from homeport.model.ids import HostName, ItemId, JobId, OperationId
from homeport.model.messages import OperationOrder
from homeport.model.operations import OPERATIONS, Problem
from homeport.orchestration.engine_run import Run, Runs, lease_of
from homeport.orchestration.hub import Hub, StoppedWaitingError
from homeport.orchestration.ports import Job, JobKind, JobState, Json, Outcome, Program
from homeport.orchestration.rows import Order, Vaults
from homeport.orchestration.takeover import Beats, TakeOver

DBOS_VERSION = version("dbos")
RUN_VERSION = "wf-1"
"""Raised only when running jobs may not continue: a run stays where its version lives."""
NAME = "homeport"
QUEUE = "jobs"
WORKFLOW = "run_job"
MOST_TAKEOVERS = 5
"""A run that so many servers died with is not tried again: it may be what they died of."""

FORGOTTEN_AT_ONCE = 500
DRAIN_SECONDS = 2.0
"""How long a stopping engine waits for transactions under way; waits are interrupted at once."""
NO_LONGER_FITS = (errors.DBOSUnexpectedStepError, errors.DBOSStepNondeterminismError)
"""The program was changed under a run: it can never go on."""

log = structlog.get_logger(__name__)

Probe = Callable[[str, str], None]
"""Called with "before", "inside" or "after" and a step's name: where tests let a server die."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSettings:
    """How often the engine looks, in seconds, and how much it does at once."""

    lease: float = 60.0  # an agent's silence after which its operation is lost
    hub_interval: float = 0.1
    look_interval: float = 0.5  # between two looks of a program's `wait`
    queue_interval: float = 0.25
    jobs_at_once: int = 50
    beats: Beats = field(default_factory=Beats)
    take_over: bool = True  # off after a restore, until a person has looked


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a kind of job does, and its tasks by name."""

    program: Program
    tasks: tuple[str, ...] = ()


class UnknownJobKindError(HomeportError):
    """A job whose kind this server has no program for."""

    code = "UnknownJobKind"

    def __init__(self, kind: JobKind) -> None:
        super().__init__(
            f"This server cannot run a job of kind {kind.value!r}.",
            cause="It was built without that kind's program.",
            remedy="Run the job on a server of the version that accepted it.",
        )
        self.kind = kind


class GivenUpError(HomeportError):
    """A run that servers keep dying with."""

    code = "GivenUp"

    def __init__(self, takeovers: int) -> None:
        super().__init__(
            f"The job was given up: {takeovers} servers in turn died while it ran.",
            cause="Something it does may be what ends them.",
            remedy="Look at the servers' logs of that time, then start the job again.",
        )
        self.takeovers = takeovers


class DbosRecorder:
    """The engine's steps: a transaction of ours with its record in it, or a wait."""

    def __init__(
        self, source: SQLAlchemyDatasource, probe: Probe, stopping: threading.Event
    ) -> None:
        self._source = source
        self._probe = probe
        self._stopping = stopping

    def transaction(self, name: str, act: Callable[[Session], Json]) -> Json:
        """Run `act` and record its answer in the same transaction."""

        def body() -> Json:
            answer = act(self._source.sql_session())
            self._probe("inside", name)
            return answer

        self._begin(name)
        answer: Json = self._source.run_tx_step({"name": name}, body)
        self._probe("after", name)
        return answer

    def waiting(self, name: str, act: Callable[[], Json]) -> Json:
        """Run `act`, which only reads, and record its answer afterwards."""

        def body() -> Json:
            answer = act()
            self._probe("inside", name)
            return answer

        self._begin(name)
        answer: Json = DBOS.run_step({"name": name}, body)
        self._probe("after", name)
        return answer

    def broke(self, error: Exception) -> bool:
        """Whether the error is DBOS's own."""
        return isinstance(error, errors.DBOSException)

    def _begin(self, name: str) -> None:
        if self._stopping.is_set():
            raise StoppedWaitingError  # the run is resumed here by the next start
        self._probe("before", name)


class Engine:
    """
    Runs the jobs of one server. One per process: DBOS is a singleton.

    `server` is this process life's id; on SQLite, where one server at a time has the vault, its
    runs are found again under a fixed one.
    """

    def __init__(
        self,
        vaults: Vaults,
        plans: Mapping[JobKind, Plan],
        *,
        settings: EngineSettings,
        server: str,
        leave: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
        probe: Probe = lambda _moment, _name: None,
    ) -> None:
        self._vaults = vaults
        self._plans = plans
        self._settings = settings
        self._alone = vaults.engine.dialect.name == "sqlite"
        self._server = NAME if self._alone else server
        self._probe = probe
        self._hub = Hub(vaults, interval=settings.hub_interval, monotonic=monotonic)
        self._stopping = threading.Event()
        self._runs = Runs()
        self._serializer = DBOSPortableJSONSerializer()
        self._recorder: DbosRecorder | None = None
        self._client: DBOSClient | None = None
        self._take_over = TakeOver(
            vaults.servers,
            self._server,
            beats=settings.beats,
            monotonic=monotonic,
            take_over=self._take_over_runs,
            leave=leave,
        )

    @property
    def hub(self) -> Hub:
        """Where waiting runs sleep."""
        return self._hub

    def start(self) -> None:
        """Take up this server's jobs where they were, and accept new ones."""
        url = self._vaults.engine.url.render_as_string(hide_password=False)
        DBOS(config=self._config(url))
        source = SQLAlchemyDatasource.create(
            url, engine=self._vaults.engine, serializer=self._serializer
        )
        self._recorder = DbosRecorder(source, self._probe, self._stopping)
        DBOS.workflow(name=WORKFLOW)(self._workflow())
        self._vaults.submit_with(self._enqueue, self._tasks)
        self._hub.start()
        if not self._alone:
            self._take_over.start()
        DBOS.launch()
        DBOS.register_queue(
            QUEUE,
            partition_concurrency=1,
            worker_concurrency=self._settings.jobs_at_once,
            polling_interval_sec=self._settings.queue_interval,
            on_conflict="always_update",
        )
        self._client = DBOSClient(
            system_database_engine=self._vaults.engine,
            serializer=self._serializer,
            application_name=NAME,
        )
        self._warn_of_stranded()

    def stop(self) -> None:
        """Let go of everything; runs stay where they are and are resumed by the next start."""
        self._stopping.set()
        self._take_over.stop()
        self._hub.stop()
        self._runs.drain(DRAIN_SECONDS)
        DBOS.destroy(destroy_registry=True)
        if self._client is not None:
            self._client.destroy()
            self._client = None

    def ask(
        self,
        operation: OperationId,
        host: HostName,
        kind: str,
        args: object,
        *,
        item: ItemId | None = None,
        patience: float = 30.0,
    ) -> Outcome:
        """
        Have an agent do something once, outside of any job, and wait for it.

        LOST when the host has not answered within `patience` seconds. It has no record: when the
        server dies meanwhile, nobody waits any more, and what the agent does is done.
        """
        arguments, _ = OPERATIONS[kind]
        plain = to_plain(arguments, args)
        order = OperationOrder(id=operation, kind=kind, item=item, args=plain)
        with self._vaults.write() as rows:
            rows.operation_rows.put(Order(order=order, host=host))
        self._hub.wait(operation, lease_of(self._settings.lease, patience))
        with self._vaults.read() as rows:
            outcome = rows.operation_rows.outcome(operation)
        assert outcome is not None, f"operation {operation} was awaited and has no end"
        return outcome

    def stranded(self) -> tuple[JobId, ...]:
        """Jobs in the middle of a run of another version: they go on only where that lives."""
        runs = DBOS.list_workflows(
            status=["PENDING", "ENQUEUED"], load_input=False, load_output=False
        )
        return tuple(
            _job_of(run.workflow_id) for run in runs if run.app_version not in (None, RUN_VERSION)
        )

    def forget_runs(self, ended_before: datetime) -> int:
        """Remove the engine's record of runs that ended before then; how many. Jobs' rows stay."""
        forgotten = 0
        while True:
            runs = DBOS.list_workflows(
                status=["SUCCESS", "ERROR", "CANCELLED"],
                completed_before=ended_before.isoformat(),
                limit=FORGOTTEN_AT_ONCE,
                load_input=False,
                load_output=False,
            )
            DBOS.delete_workflows([run.workflow_id for run in runs])
            forgotten += len(runs)
            if len(runs) < FORGOTTEN_AT_ONCE:
                return forgotten

    def _config(self, url: str) -> DBOSConfig:
        config: DBOSConfig = {
            "name": NAME,
            "system_database_url": url,
            "application_version": RUN_VERSION,
            "executor_id": self._server,
            "serializer": self._serializer,
            "log_level": "WARNING",
            "notification_listener_polling_interval_sec": self._settings.queue_interval,
        }
        if self._alone:
            config["system_database_engine"] = self._vaults.engine
        return config

    def _enqueue(self, session: Session, job: Job) -> None:
        assert self._client is not None, "the engine was not started"
        self._client.enqueue_in_transaction(
            session,
            {
                "workflow_name": WORKFLOW,
                "queue_name": QUEUE,
                "workflow_id": _workflow_id(job.id, job.attempt),
                "queue_partition_key": job.item or job.id,
                "app_version": RUN_VERSION,
            },
            job.id,
            job.attempt,
        )

    def _tasks(self, job: Job) -> tuple[str, ...]:
        plan = self._plans.get(job.kind)
        if plan is None:
            raise UnknownJobKindError(job.kind)
        return plan.tasks

    def _workflow(self) -> Callable[[str, int], None]:
        """A plain function, since DBOS keeps attributes on it."""

        def run_job(job_id: str, attempt: int) -> None:
            self._run_job(job_id, attempt)

        return run_job

    def _run_job(self, job_id: str, attempt: int) -> None:
        """What the one workflow does. DBOS's own errors end the job's row beside it."""
        assert self._recorder is not None
        with self._vaults.read() as rows:
            job = rows.job(JobId(job_id))
        assert job.attempt == attempt, f"job {job_id} is at attempt {job.attempt}, not {attempt}"
        run = Run(
            job,
            vaults=self._vaults,
            recorder=self._recorder,
            hub=self._hub,
            lease=self._settings.lease,
            look_interval=self._settings.look_interval,
        )
        try:
            with self._runs.one():
                run.complete(self._plans[job.kind].program)
        except NO_LONGER_FITS as broken:
            log.exception("a run cannot go on", job=job_id)
            self._fail(job.id, describe(broken))
            raise

    def _fail(self, job: JobId, problem: Problem) -> None:
        with self._vaults.write() as rows:
            rows.job_rows.finish(job, JobState.FAILED, error=problem)

    def _take_over_runs(self, dead: Sequence[str]) -> None:
        if not self._settings.take_over:
            return
        runs = DBOS.list_workflows(
            status="PENDING",
            executor_id=list(dead),
            app_version=RUN_VERSION,
            load_input=False,
            load_output=False,
        )
        for run in runs:
            self._resume(run.workflow_id)

    def _resume(self, workflow: str) -> None:
        job = _job_of(workflow)
        with self._vaults.write() as rows:
            takeovers = rows.job_rows.count_takeover(job)
        if takeovers > MOST_TAKEOVERS:
            log.error("a job was given up", job=job, takeovers=takeovers)
            DBOS.cancel_workflow(workflow)
            self._fail(job, GivenUpError(takeovers).as_dict())
            return
        log.warning("a job of a dead server is taken over", job=job)
        DBOS.resume_workflow(workflow, queue_name=QUEUE)

    def _warn_of_stranded(self) -> None:
        stranded = self.stranded()
        if stranded:
            log.error("jobs of another version cannot go on here", jobs=stranded, ours=RUN_VERSION)


def _workflow_id(job: JobId, attempt: int) -> str:
    return f"{job}:{attempt}"


def _job_of(workflow: str) -> JobId:
    return JobId(workflow.rpartition(":")[0])
