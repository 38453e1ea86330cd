"""Jobs and tasks: what people see of durable work."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import RowMapping, Select, select, update

from homeport.catalog.errors import UnknownRowError
from homeport.catalog.items import ItemRepository
from homeport.catalog.tables import jobs, operations, tasks
from homeport.catalog.transaction import Transaction
from homeport.model.codec import from_plain, to_plain
from homeport.model.ids import ItemId, JobId
from homeport.model.messages import OperationState, Progress
from homeport.model.operations import Problem
from homeport.orchestration.ports import Job, JobState, Json, Task

ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class JobRepository:
    """The rows of `jobs` and `tasks`. An open task shows the progress of its operations."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def add(self, job: Job, names: Iterable[str]) -> None:
        """A job's row with its tasks; its item is claimed: JobRunningError if it is busy."""
        row = {field: getattr(job, field) for field in _ACCEPTED}
        self._transaction.session.execute(jobs.insert().values(row))
        if job.item is not None:
            ItemRepository(self._transaction).claim(job.item, job.id)
        rows = [
            {"job": job.id, "index": index, "name": name, "state": JobState.WAITING}
            for index, name in enumerate(names)
        ]
        if rows:
            self._transaction.session.execute(tasks.insert(), rows)

    def get(self, job: JobId) -> Job:
        """UnknownRowError when there is none."""
        found = self._read(select(jobs).where(jobs.c.id == job))
        if not found:
            raise UnknownRowError("job", job, "homeport jobs")
        return found[0]

    def all(self, *, item: ItemId | None = None, state: JobState | None = None) -> tuple[Job, ...]:
        """Jobs, newest first."""
        wanted = select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id)
        if item is not None:
            wanted = wanted.where(jobs.c.item == item)
        if state is not None:
            wanted = wanted.where(jobs.c.state == state)
        return self._read(wanted)

    def begin(self, job: JobId) -> None:
        """The run has started; a second time changes nothing."""
        waiting = update(jobs).where(jobs.c.id == job, jobs.c.state == JobState.WAITING)
        self._transaction.change(
            waiting.values(state=JobState.RUNNING, started_at=self._transaction.now)
        )

    def finish(
        self, job: JobId, state: JobState, *, result: Json = None, error: Problem | None = None
    ) -> bool:
        """End the job, its open task and its claim on the item; False when it had ended."""
        running = update(jobs).where(jobs.c.id == job, jobs.c.state.not_in(ENDED))
        now = self._transaction.now
        ended = {"state": state, "result": result, "error": error, "ended_at": now}
        if self._transaction.change(running.values(ended)) == 0:
            return False
        self._end_task(job, state, error)
        ItemRepository(self._transaction).release(job)
        return True

    def cancel_asked(self, job: JobId) -> bool:
        """Whether somebody has asked it to stop."""
        asked = self._transaction.session.scalar(
            select(jobs.c.cancel_asked).where(jobs.c.id == job)
        )
        return bool(asked)

    def ask_cancel(self, job: JobId) -> bool:
        """Set the flag; False when the job has ended already, UnknownRowError without one."""
        asked = update(jobs).where(jobs.c.id == job, jobs.c.state.not_in(ENDED))
        if self._transaction.change(asked.values(cancel_asked=True)) == 1:
            return True
        self.get(job)
        return False

    def count_takeover(self, job: JobId) -> int:
        """One more server has taken the job over; how often that has happened."""
        mine = jobs.c.id == job
        self._transaction.change(update(jobs).where(mine).values(takeovers=jobs.c.takeovers + 1))
        return self._transaction.session.scalar(select(jobs.c.takeovers).where(mine)) or 0

    def begin_task(self, job: JobId, index: int, *, waits_for: str) -> None:
        """End the open task as succeeded, and begin this one."""
        self._end_task(job, JobState.SUCCEEDED, None)
        begun = {"state": JobState.RUNNING, "started_at": self._transaction.now}
        self._change_task(job, index, {**begun, "waits_for": waits_for})

    def skip_task(self, job: JobId, index: int, reason: str) -> None:
        """Mark a task as skipped, with the reason in `waits_for`."""
        now = self._transaction.now
        skipped = {"state": JobState.SKIPPED, "waits_for": reason, "ended_at": now}
        self._change_task(job, index, skipped)

    def open_task(self, job: JobId) -> int | None:
        """The index of the task at work."""
        return self._transaction.session.scalar(
            select(tasks.c.index).where(tasks.c.job == job, tasks.c.state == JobState.RUNNING)
        )

    def put_progress(
        self, job: JobId, task: int, progress: Progress | None, *, waits_for: str
    ) -> None:
        """How far an open task is; writing the same again costs no write."""
        plain = None if progress is None else to_plain(Progress, progress)
        wanted = select(tasks.c.progress, tasks.c.waits_for)
        row = self._transaction.row(wanted.where(tasks.c.job == job, tasks.c.index == task))
        if row is not None and (row["progress"], row["waits_for"]) != (plain, waits_for):
            self._change_task(job, task, {"progress": plain, "waits_for": waits_for})

    def _end_task(self, job: JobId, state: JobState, error: Problem | None) -> None:
        opened = update(tasks).where(tasks.c.job == job, tasks.c.state == JobState.RUNNING)
        ended = {"state": state, "error": error, "ended_at": self._transaction.now}
        self._transaction.change(opened.values({**ended, "waits_for": ""}))

    def _change_task(self, job: JobId, index: int, values: dict[str, Any]) -> None:
        mine = update(tasks).where(tasks.c.job == job, tasks.c.index == index)
        changed = self._transaction.change(mine.values(values))
        assert changed == 1, f"job {job} has no task {index}"

    def _read(self, wanted: Select[Any]) -> tuple[Job, ...]:
        rows = self._transaction.rows(wanted)
        ids = [row["id"] for row in rows]
        lines = select(tasks).where(tasks.c.job.in_(ids)).order_by(tasks.c.job, tasks.c.index)
        by_job: dict[str, list[Task]] = defaultdict(list)
        at_work = self._at_work(ids)
        for row in self._transaction.rows(lines):
            by_job[row["job"]].append(_task(row, at_work.get((row["job"], row["index"]))))
        return tuple(_job(row, by_job[row["id"]]) for row in rows)

    def _at_work(self, ids: list[str]) -> dict[tuple[str, int], RowMapping]:
        """The newest unfinished operation of each task."""
        unfinished = operations.c.state.in_((OperationState.WAITING, OperationState.RUNNING))
        wanted = select(operations).where(operations.c.job.in_(ids), unfinished)
        rows = self._transaction.rows(wanted.order_by(operations.c.created_at))
        return {(row["job"], row["task"]): row for row in rows}


_ACCEPTED = ("id", "kind", "item", "item_name", "request", "state", "attempt", "created_at")
_SHOWN = (*_ACCEPTED, "started_at", "ended_at", "cancel_asked", "result", "error")


def _job(row: RowMapping, lines: list[Task]) -> Job:
    return Job(**{field: row[field] for field in _SHOWN}, tasks=tuple(lines))


def _task(row: RowMapping, operation: RowMapping | None) -> Task:
    progress, waits_for = row["progress"], row["waits_for"]
    if operation is not None and row["state"] is JobState.RUNNING:
        progress = operation["progress"] or progress
        if operation["heard"] == 0:
            waits_for = waits_for or f"host {operation['host']} has not answered yet"
    return Task(
        index=row["index"],
        name=row["name"],
        state=row["state"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        progress=None if progress is None else from_plain(Progress, progress),
        waits_for=waits_for,
        error=row["error"],
    )
