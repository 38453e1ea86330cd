"""
One run of a job's program: every step recorded, every wait on the hub, every ending plain.

The workflow engine itself is behind `Recorder`; what is here decides what a step is and what a
program may see. An error that a step raises is taken back with all the step wrote, recorded as
data, and raised anew as `JobStoppedError`, so that a replay sees what the first run saw.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from homeport.errors import HomeportError, describe
from homeport.model.codec import from_plain, to_plain
from homeport.model.ids import HostName, OperationId
from homeport.model.messages import OperationOrder
from homeport.model.operations import OPERATIONS, Problem
from homeport.orchestration.hub import Hub, Lease
from homeport.orchestration.ports import (
    Act,
    Job,
    JobState,
    JobStoppedError,
    Json,
    Outcome,
    Program,
    Vault,
)
from homeport.orchestration.rows import Order, Rows, Vaults

log = structlog.get_logger(__name__)


class Recorder(Protocol):
    """What the workflow engine does: run a step once, or answer what is on record of it."""

    def transaction(self, name: str, act: Callable[[Session], Json]) -> Json:
        """Run `act` and record its answer in the same transaction."""

    def waiting(self, name: str, act: Callable[[], Json]) -> Json:
        """Run `act`, which only reads, and record its answer afterwards."""

    def broke(self, error: Exception) -> bool:
        """Whether the error is the engine's own: the program no longer fits what is recorded."""


def operation_id(job: Job, name: str) -> OperationId:
    """The id under which an agent does something once for a job's attempt."""
    return OperationId(f"{job.id}:{job.attempt}:{name}")


class Run:
    """The `JobRun` that programs see."""

    def __init__(
        self,
        job: Job,
        *,
        vaults: Vaults,
        recorder: Recorder,
        hub: Hub,
        lease: float,
        look_interval: float,
    ) -> None:
        self._job = replace(job, state=JobState.RUNNING, started_at=None, tasks=())
        self._vaults = vaults
        self._recorder = recorder
        self._hub = hub
        self._lease = lease
        self._look_interval = look_interval
        self._task: int | None = None

    @property
    def job(self) -> Job:
        """The job as it was accepted; where its tasks stand is in the vault."""
        return self._job

    def task(self, index: int, *, waits_for: str = "") -> None:
        """Begin task `index`, ending the one before as succeeded."""
        self._change(
            f"task {index}",
            lambda rows: rows.job_rows.begin_task(self._job.id, index, waits_for=waits_for),
        )
        self._task = index

    def skip(self, index: int, reason: str) -> None:
        """Mark a task as skipped, with the reason."""
        self._change(
            f"skip {index}", lambda rows: rows.job_rows.skip_task(self._job.id, index, reason)
        )

    def step(self, name: str, act: Act) -> Json:
        """Run `act` in one transaction, once; an error it raises ends the program."""
        answer = self._recorder.transaction(name, lambda session: self._attempt(session, act))
        return _answer(answer)

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
        """Have an agent do something once, and wait for its end."""
        arguments, _ = OPERATIONS[kind]
        order = Order(
            order=OperationOrder(
                id=operation_id(self._job, name),
                kind=kind,
                item=self._job.item,
                args=to_plain(arguments, args),
            ),
            host=host,
            job=self._job.id,
            attempt=self._job.attempt,
            task=self._task,
            shielded=shielded,
        )
        self._change(f"order {name}", lambda rows: rows.operation_rows.put(order))
        lease = lease_of(self._lease, patience)
        answer = self._recorder.waiting(f"await {name}", lambda: self._end_of(order, lease))
        return from_plain(Outcome, answer)

    def wait(
        self,
        name: str,
        look: Callable[[Vault], Json | None],
        *,
        patience: float,
        shielded: bool = False,
    ) -> Json:
        """Look until the answer is not None; None after `patience` seconds, or when cancelled."""

        def body() -> Json:
            return self._look(look, patience, shielded=shielded)

        return _answer(self._recorder.waiting(name, lambda: self._recordable(body)))

    def cancelled(self) -> bool:
        """Whether somebody has asked the job to stop."""
        asked = self._recorder.transaction(
            "cancelled",
            lambda session: self._vaults.join(session).job_rows.cancel_asked(self._job.id),
        )
        return bool(asked)

    def complete(self, program: Program) -> None:
        """Run the program to its end, whatever that is, and write it into the job's row."""
        self._change("begin", lambda rows: rows.job_rows.begin(self._job.id))
        try:
            self._finish(JobState.SUCCEEDED, result=program(self))
        except JobStoppedError as stopped:
            cancelled = stopped.error.get("kind") == "cancelled"
            state = JobState.CANCELLED if cancelled else JobState.FAILED
            self._finish(state, error=stopped.error)
        except Exception as error:
            if self._recorder.broke(error):
                raise
            log.exception("a program failed", job=self._job.id)
            self._finish(JobState.FAILED, error=describe(error))

    def _finish(
        self, state: JobState, *, result: Json = None, error: Problem | None = None
    ) -> None:
        def act(rows: Rows) -> None:
            rows.job_rows.finish(self._job.id, state, result=result, error=error)

        self._change("finish", act)

    def _change(self, name: str, act: Callable[[Rows], object]) -> None:
        def change(session: Session) -> Json:
            act(self._vaults.join(session))

        self._recorder.transaction(name, change)

    def _attempt(self, session: Session, act: Act) -> dict[str, Json]:
        rows = self._vaults.join(session)

        def body() -> Json:
            with session.begin_nested():  # so that a refused step leaves nothing behind
                return act(rows)

        return self._recordable(body)

    def _recordable(self, act: Callable[[], Json]) -> dict[str, Json]:
        """The answer of `act`, or its error, as data."""
        try:
            return {"answer": act()}
        except (OperationalError, InterfaceError):
            raise  # a conflict or a lost connection: the workflow engine runs the step again
        except JobStoppedError as stopped:
            return {"error": stopped.error}
        except HomeportError as error:
            return {"error": error.as_dict()}
        except Exception as error:
            log.exception("a step failed", job=self._job.id)
            return {"error": describe(error)}

    def _end_of(self, order: Order, lease: Lease) -> Json:
        while True:
            self._hub.wait(order.order.id, lease)
            with self._vaults.read() as rows:
                outcome = rows.operation_rows.outcome(order.order.id)
            if outcome is not None:
                return to_plain(Outcome, outcome)

    def _look(
        self, look: Callable[[Vault], Json | None], patience: float, *, shielded: bool
    ) -> Json | None:
        waited = 0.0
        while True:
            try:
                answer, cancelled = self._look_once(look)
            except (OperationalError, InterfaceError) as error:
                log.warning("a wait could not read the vault", error=str(error.orig))
                answer, cancelled = None, False
            if answer is not None or waited >= patience or (cancelled and not shielded):
                return answer
            waited += self._hub.pause(min(self._look_interval, max(patience - waited, 0.001)))

    def _look_once(self, look: Callable[[Vault], Json | None]) -> tuple[Json | None, bool]:
        with self._vaults.write() as rows:
            return look(rows), rows.job_rows.cancel_asked(self._job.id)


class Runs:
    """How many runs this process is in the middle of."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one run while the body lasts."""
        with self._changed:
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    def drain(self, seconds: float) -> None:
        """Wait until there is none, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0, timeout=seconds)


def _answer(recorded: dict[str, Json]) -> Json:
    if "error" in recorded:
        raise JobStoppedError(recorded["error"])
    return recorded["answer"]


def lease_of(lease: float, patience: float | None) -> Lease:
    """`patience` holds until a host first names an operation; afterwards it gets no less."""
    unheard = lease if patience is None else patience
    return Lease(unheard=unheard, heard=max(lease, unheard))
