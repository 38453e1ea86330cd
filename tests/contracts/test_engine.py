"""
What we count on of the workflow engine, run on every upgrade of it: on SQLite in full, on
PostgreSQL the heart of it.

A crash is an exception that nothing catches, raised at a step's boundary: the run is then found in
the middle, just as after a kill. The outcome must be the undisturbed run's, and each operation must
have been done once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from homeport.catalog.vault import VaultRows
from homeport.errors import RefusedError
from homeport.model.messages import OperationState, Progress
from homeport.model.operations import Fence, LandAll
from homeport.orchestration import engine
from homeport.orchestration.ports import JobKind, JobRun, JobState, JobStoppedError, Json, Vault
from tests.rooms import Room, running_room, wait_for
from tests.vaults import HOST_E, HOST_W

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.real)])
def room(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Room]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('engine') / 'vault.sqlite'}"
    else:
        url = request.getfixturevalue("postgres").database()
    with running_room(url) as made:
        yield made


@pytest.fixture(autouse=True)
def quiet(room: Room) -> Iterator[None]:
    """Each test begins and ends without a planned crash, and with agents that hear."""
    yield
    planned, room.crash.at = room.crash.at, None
    room.crash.died.clear()
    for agent in room.agents.values():
        agent.answers.clear()
        agent.deaf.clear()
    assert planned is None, f"the planned crash {planned} was never reached"


def journey(run: JobRun) -> dict[str, Json]:
    """A program with everything in it, shaped like a failover."""
    item = run.job.item
    assert item is not None
    run.task(0)

    def raise_epoch(vault: Vault) -> Json:
        facts = vault.item(item).facts
        vault.put_facts(item, {"raised": facts.get("raised", 0) + 1})
        return vault.raise_epoch(item, job=run.job.id, attempt=run.job.attempt)

    epoch = run.step("raise the epoch", raise_epoch)
    fenced = run.operation("fence", HOST_E, "fence", Fence(item=item, epoch=epoch))
    run.task(1, waits_for="the other side")
    seen = run.wait("see it", lambda vault: vault.item(item).facts.get("raised"), patience=9)
    stop = run.cancelled()
    landed = run.operation("land", HOST_W, "land-all", LandAll(item=item, epoch=epoch))
    return {
        "epoch": epoch,
        "seen": seen,
        "stop": stop,
        "ends": [fenced.state.value, landed.state.value],
    }


STEPS = (
    "begin",
    "task 0",
    "raise the epoch",
    "order fence",
    "await fence",
    "task 1",
    "see it",
    "cancelled",
    "order land",
    "await land",
    "finish",
)
MOMENTS = ("before", "inside", "after")
POINTS = [(moment, step) for step in STEPS for moment in MOMENTS]


def test_an_undisturbed_run_meets_every_point(room: Room) -> None:
    room.crash.met.clear()
    ended = room.ended(room.submit(journey, room.item()))
    assert ended.state is JobState.SUCCEEDED, ended.error
    wait_for(lambda: len(room.crash.met) == len(POINTS), "the last record")
    assert room.crash.met == POINTS


@pytest.mark.parametrize("point", POINTS, ids=" ".join)
def test_a_crash_at_any_boundary_changes_nothing(room: Room, point: tuple[str, str]) -> None:
    item = room.item()
    room.crash.at = point
    job = room.submit(journey, item)
    wait_for(room.crash.died.is_set, f"the crash {point}")
    room.resume(job)
    ended = room.ended(job)
    done = ["done", "done"]
    assert ended.result == {"epoch": 2, "seen": 1, "stop": False, "ends": done}, ended.error
    assert [task.state for task in ended.tasks] == [JobState.SUCCEEDED] * 2
    assert room.read(lambda rows: rows.item(item).facts) == {"raised": 1}
    for host, name in ((HOST_E, "fence"), (HOST_W, "land")):
        assert room.agents[host].done[f"{job}:1:{name}"] == 1  # type: ignore[index]


# Errors, and the replay that must see the same


def _refused(vault: Vault) -> Json:
    raise RefusedError("no room", code="NoRoom", remedy="make some")


def _unforeseen(vault: Vault) -> Json:
    raise ZeroDivisionError("a mistake of ours")


ERRORS = {
    "refused": (_refused, "NoRoom"),
    "not foreseen": (_unforeseen, "Internal"),
    "a constraint of the database": (
        lambda vault: vault.session.execute(  # type: ignore[attr-defined]
            text("INSERT INTO sites (name) VALUES (NULL)")
        ),
        "Internal",
    ),
}


@pytest.mark.parametrize(("act", "code"), ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("kind", ["step", "wait"])
def test_an_error_is_the_same_in_the_first_run_and_in_a_replay(
    room: Room, act: Callable[[Vault], Json], code: str, kind: str
) -> None:
    item = room.item()
    seen: list[str] = []

    def program(run: JobRun) -> dict[str, Json]:
        try:
            if kind == "step":
                run.step("act", act)
            else:
                run.wait("act", act, patience=5)
        except JobStoppedError as stopped:
            seen.append(stopped.error["code"])
        run.step("undo", lambda vault: vault.put_facts(item, {"undone": True}))
        return {"seen": seen[-1]}

    room.crash.at = ("after", "undo")
    job = room.submit(program, item)
    wait_for(room.crash.died.is_set, "the crash")
    room.resume(job)
    assert room.ended(job).result == {"seen": code}
    assert seen == [code, code]


def test_a_refused_step_leaves_nothing_behind(room: Room) -> None:
    item = room.item()

    def act(vault: Vault) -> Json:
        vault.put_facts(item, {"half": True})
        raise RefusedError("no", code="No")

    ended = room.ended(room.submit(lambda run: {"x": run.step("act", act)}, item))
    assert (ended.state, ended.error and ended.error["code"]) == (JobState.FAILED, "No")
    assert room.read(lambda rows: rows.item(item).facts) == {}


def _raises(error: BaseException) -> Callable[[JobRun], dict[str, Json]]:
    def program(run: JobRun) -> dict[str, Json]:
        run.task(0)
        raise error

    return program


ENDINGS = {
    "stopped": (JobStoppedError({"code": "A", "kind": "refused"}), JobState.FAILED, "A"),
    "cancelled": (JobStoppedError({"code": "B", "kind": "cancelled"}), JobState.CANCELLED, "B"),
    "a mistake": (KeyError("x"), JobState.FAILED, "Internal"),
}


@pytest.mark.parametrize(("error", "state", "code"), ENDINGS.values(), ids=ENDINGS)
def test_a_program_ends_as_it_says_and_frees_its_item(
    room: Room, error: Exception, state: JobState, code: str
) -> None:
    item = room.item()
    ended = room.ended(room.submit(_raises(error), item))
    assert (ended.state, ended.error and ended.error["code"]) == (state, code)
    assert [task.state for task in ended.tasks] == [state, JobState.WAITING]
    assert room.ended(room.submit(lambda run: {}, item)).state is JobState.SUCCEEDED


def test_a_program_that_no_longer_fits_its_record_fails_its_job_and_frees_the_item(
    room: Room,
) -> None:
    item, steps = room.item(), iter(["old name", "new name"])
    room.crash.at = ("after", "old name")
    job = room.submit(lambda run: {"x": run.step(next(steps), lambda vault: 1)}, item)
    wait_for(room.crash.died.is_set, "the crash")
    room.resume(job)
    ended = room.ended(job)
    assert ended.state is JobState.FAILED
    assert "StepError" in (ended.error or {})["message"]
    assert room.ended(room.submit(lambda run: {}, item)).state is JobState.SUCCEEDED


# Taking a job


def test_a_refused_request_leaves_neither_row_nor_workflow(room: Room) -> None:
    ran = threading.Event()

    def program(run: JobRun) -> dict[str, Json]:
        ran.set()
        return {}

    def act(rows: VaultRows) -> None:
        room.programs["never"] = program
        rows.submit(JobKind.COMMIT, item=None, item_name="never", request={"program": "never"})
        raise RefusedError("after all, no")

    with pytest.raises(RefusedError):
        room.write(act)
    room.ended(room.submit(lambda run: {}))
    assert not ran.is_set()
    assert "never" not in {job.item_name for job in room.read(lambda rows: rows.jobs())}


def test_jobs_of_several_items_run_beside_each_other(room: Room) -> None:
    together = threading.Barrier(3, timeout=20)

    def program(run: JobRun) -> dict[str, Json]:
        return {"met": together.wait() >= 0}

    jobs = [room.submit(program, room.item()) for _ in range(3)]
    assert {room.ended(job).state for job in jobs} == {JobState.SUCCEEDED}


# Cancelling


def _until_stopped(room: Room) -> None:
    """The agent works at a fence until it is told to stop."""
    running = OperationState.RUNNING
    room.agents[HOST_E].answers["fence"] = lambda done: replace(
        done, state=running, result=None, progress=Progress(done=1, total=2)
    )


def test_a_cancelled_job_stops_its_agent_and_undoes_what_is_shielded(room: Room) -> None:
    _until_stopped(room)
    item = room.item()

    def program(run: JobRun) -> dict[str, Json]:
        run.task(0)
        assert not run.cancelled()
        fence = run.operation("fence", HOST_E, "fence", Fence(item=item, epoch=2))
        order = LandAll(item=item, epoch=1)
        more = run.operation("more", HOST_W, "land-all", order)
        undo = run.operation("undo", HOST_W, "land-all", order, shielded=True)
        assert run.cancelled()
        waited = run.wait("none", lambda vault: None, patience=60)
        seen = [str(end.state) for end in (fence, more, undo)]
        raise JobStoppedError(
            {"code": "Cancelled", "kind": "cancelled", "seen": f"{seen} {waited}"}
        )

    job = room.submit(program, item)
    wait_for(lambda: bool(room.job(job).tasks[0].progress), "progress")
    assert room.write(lambda rows: rows.ask_cancel(job)) is True
    ended = room.ended(job)
    assert ended.state is JobState.CANCELLED
    assert (ended.error or {})["seen"] == "['failed', 'failed', 'done'] None"
    assert room.agents[HOST_E].stopped == {f"{job}:1:fence"}
    assert room.agents[HOST_W].done[f"{job}:1:more"] == 0  # type: ignore[index]


def test_what_its_host_never_got_is_withdrawn(room: Room) -> None:
    room.agents[HOST_E].deaf.set()
    item = room.item()

    def program(run: JobRun) -> dict[str, Json]:
        end = run.operation("fence", HOST_E, "fence", Fence(item=item, epoch=2))
        return {"end": str(end.state), "code": (end.error or {})["code"]}

    job = room.submit(program, item)
    wait_for(lambda: len(room.orders(HOST_E)) == 1, "the order")
    room.write(lambda rows: rows.ask_cancel(job))
    assert room.ended(job).result == {"end": "failed", "code": "Cancelled"}
    assert room.orders(HOST_E) == ()


# Hosts that do not answer


def test_a_deaf_host_is_lost_after_the_programs_patience(room: Room) -> None:
    room.agents[HOST_E].deaf.set()
    item = room.item()

    def program(run: JobRun) -> dict[str, Json]:
        order = Fence(item=item, epoch=2)
        end = run.operation("fence", HOST_E, "fence", order, patience=0.1)
        return {"end": str(end.state), "code": (end.error or {})["code"]}

    job = room.submit(program, item)
    assert room.ended(job).result == {"end": "lost", "code": "HostSilent"}


def test_a_question_is_answered_or_lost_and_leaves_no_job(room: Room) -> None:
    item = room.item()
    order = Fence(item=item, epoch=2)
    ask: Callable[..., Any] = room.engine.ask
    before = len(room.read(lambda rows: rows.jobs()))
    answered = ask(f"ask:{item}", HOST_E, "fence", order, item=item)
    room.agents[HOST_E].deaf.set()
    silent = ask(f"ask:{item}:2", HOST_E, "fence", order, patience=0.1)
    assert (answered.state, silent.state) == (OperationState.DONE, OperationState.LOST)
    assert len(room.read(lambda rows: rows.jobs())) == before


def test_a_wait_ends_with_its_patience_and_may_show_how_far_it_is(room: Room) -> None:
    def program(run: JobRun) -> dict[str, Json]:
        run.task(1)

        def look(vault: Vault) -> Json:
            vault.put_progress(run.job.id, 1, Progress(done=1, total=4), waits_for="snow")

        return {"answer": run.wait("snow", look, patience=0.05)}

    ended = room.ended(room.submit(program))
    assert ended.result == {"answer": None}
    assert ended.tasks[1].progress == Progress(done=1, total=4)


# What lies in the database


def test_records_are_json_and_never_pickles(room: Room) -> None:
    room.ended(room.submit(journey, room.item()))
    schema = "" if room.catalog.engine.dialect.name == "sqlite" else "dbos."
    kinds = set()
    with room.catalog.engine.connect() as connection:
        for table in ("datasource_outputs", "operation_outputs", "workflow_status"):
            found = connection.execute(text(f"SELECT DISTINCT serialization FROM {schema}{table}"))
            kinds |= {row[0] for row in found}
    assert kinds - {None} == {"portable_json"}


def test_runs_of_another_version_are_named(room: Room) -> None:
    assert room.engine.stranded() == ()
    schema = "" if room.catalog.engine.dialect.name == "sqlite" else "dbos."
    room.crash.at = ("before", "begin")
    job = room.submit(journey, room.item())
    wait_for(room.crash.died.is_set, "the crash")
    version = (
        f"UPDATE {schema}workflow_status SET application_version = :v WHERE workflow_uuid = :w"
    )
    for found, named in (("wf-0", (job,)), ("wf-1", ())):
        with room.catalog.engine.begin() as connection:
            connection.execute(text(version), {"v": found, "w": f"{job}:1"})
        assert room.engine.stranded() == named
    room.resume(job)
    room.ended(job)


def records_of(room: Room, job: str) -> set[str]:
    """The engine's tables that speak of a job's run."""
    schema = "" if room.catalog.engine.dialect.name == "sqlite" else "dbos."
    tables = ("workflow_status", "workflow_input", "workflow_output", "operation_outputs")
    with room.catalog.engine.connect() as connection:
        found = {
            table: connection.execute(
                text(f"SELECT count(*) FROM {schema}{table} WHERE workflow_uuid = :w"),
                {"w": f"{job}:1"},
            ).scalar_one()
            for table in tables
        }
    return {table for table, count in found.items() if count}


def test_runs_that_ended_before_are_forgotten_and_their_jobs_are_not(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "FORGOTTEN_AT_ONCE", 2)
    begun_at = datetime.now(UTC)
    kept = [room.ended(room.submit(journey, room.item())) for _ in range(3)]
    room.agents[HOST_W].deaf.set()
    open_job = room.submit(journey, room.item())
    wait_for(lambda: len(room.job(open_job).tasks) > 0, "the open job's begin")
    ended = {job.id for job in kept}
    wait_for(
        lambda: all("workflow_output" in records_of(room, job) for job in ended),
        "the engine's own record of the ends",
    )
    before = room.engine.forget_runs(begun_at - timedelta(days=1))
    assert (before, [len(records_of(room, job)) for job in ended]) == (0, [4] * 3)
    later = datetime.now(UTC) + timedelta(seconds=1)
    assert room.engine.forget_runs(later) >= 3
    assert [records_of(room, job) for job in ended] == [set()] * 3
    assert [room.job(job.id) for job in kept] == kept
    assert "workflow_status" in records_of(room, open_job)
    assert room.engine.forget_runs(later) == 0
    room.agents[HOST_W].deaf.clear()
    assert room.ended(open_job).state is JobState.SUCCEEDED
