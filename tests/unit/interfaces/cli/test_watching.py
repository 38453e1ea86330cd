"""Jobs followed: line by line, live, cut short, and while the server is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from io import StringIO
from typing import Any, cast

import pytest
import typer
from rich.console import Console

from homeport.client import Client, JobNotDoneError, UnreachableServerError
from homeport.errors import HomeportError, NotFoundError, RefusedError, TransientError
from homeport.interfaces.cli import reprotects, watching
from homeport.interfaces.cli.failure import ExitCode
from homeport.interfaces.cli.frame import NotConfirmedError, Screen, Session
from homeport.interfaces.cli.render import jobs as render
from homeport.model.messages import Progress
from homeport.model.reports import ItemView, JobReport, TaskReport
from homeport.model.requests import ReprotectRequest
from tests.unit.interfaces.cli import samples as s

SILENCE = UnreachableServerError("http://x", "refused")
DONE = replace(
    s.RUNNING_JOB,
    state="Succeeded",
    ended_at=s.NOW,
    tasks=tuple(
        replace(task, state="Succeeded", started_at=s.NOW, ended_at=s.NOW, progress=None)
        for task in s.RUNNING_JOB.tasks
    ),
)
FRESH = replace(
    s.RUNNING_JOB,
    state="Not started",
    tasks=tuple(
        TaskReport(index=task.index, name=task.name, state="Not started")
        for task in s.RUNNING_JOB.tasks
    ),
)

Answer = JobReport | BaseException


class PassingTime:
    """A clock that moves by what is slept, and never waits."""

    def __init__(self) -> None:
        self.slept = 0.0

    def now(self) -> datetime:
        return s.NOW + timedelta(seconds=self.slept)

    def monotonic(self) -> float:
        return self.slept

    def sleep(self, seconds: float, wake: Any = None) -> bool:
        self.slept += seconds
        return False


@dataclass
class ServerOfJobs:
    """A client whose jobs go through prepared answers, one a look; the last one stays."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    started: list[str] = field(default_factory=list)
    at_once: int = 0

    def job(self, job: str) -> JobReport:
        left = self.answers[job]
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def item(self, _item: str) -> ItemView:
        return s.item()

    def items(self) -> tuple[ItemView, ...]:
        return tuple(s.item(name=name) for name in self.started)

    def reprotect(self, name: str, _asked: ReprotectRequest) -> JobReport:
        if name in self.refused:
            raise RefusedError(f"{name} is not committed.", code="NotCommitted")
        self.started.append(name)
        job = replace(FRESH, id=f"job-{name}", item_name=name)
        self.answers[job.id] = [
            replace(s.RUNNING_JOB, id=job.id),
            replace(DONE, id=job.id, item_name=name),
        ]
        running = [one for one in self.answers.values() if len(one) > 1]
        self.at_once = max(self.at_once, len(running))
        return job


def a_session(
    *answers: Answer, live: bool = False, as_json: bool = False, client: ServerOfJobs | None = None
) -> Session:
    """A session over prepared answers, printing into memory."""
    served = client or ServerOfJobs({s.JOB: list(answers)})

    def console() -> Console:
        return Console(
            file=StringIO(), width=100, force_terminal=live, markup=False, color_system=None
        )

    return Session(
        screen=Screen(as_json=as_json, out=console(), err=console()),
        client=cast("Client", served),
        clock=PassingTime(),
    )


def printed(session: Session, stream: str = "out") -> str:
    file = getattr(session.screen, stream).file
    assert isinstance(file, StringIO)
    return file.getvalue()


class TestPlainLines:
    def test_each_change_is_one_line(self) -> None:
        session = a_session(FRESH, s.RUNNING_JOB, s.RUNNING_JOB, DONE)
        watching.watch(session, FRESH)
        lines = printed(session).splitlines()
        assert lines[0] == f"Reprotect of shop: job {s.JOB}"
        assert lines.count("  Prerequisite check: succeeded (9.5 s)") == 1
        assert "  Resynchronisation: in progress" in lines
        assert "  Resynchronisation: waits: e1 in east does not answer" in lines
        assert "  First recovery point: succeeded (0 ms)" in lines

    def test_a_skipped_task_says_why(self) -> None:
        told = render.news(FRESH, s.RUNNING_JOB)
        assert (
            "  Committing failover: skipped: the failover was committed before: a person does that"
            in told
        )

    def test_nothing_new_is_no_line(self) -> None:
        assert render.news(s.RUNNING_JOB, s.RUNNING_JOB) == []

    @pytest.mark.parametrize(
        ("before", "after", "told"),
        [(0, 9, False), (9, 10, True), (11, 19, False), (19, 20, True), (99, 100, True)],
    )
    def test_progress_is_told_by_tens(self, before: int, after: int, *, told: bool) -> None:
        def at(percent: int) -> JobReport:
            task = s.task(7, "In progress", progress=Progress(done=percent, total=100))
            return replace(s.RUNNING_JOB, tasks=(task,))

        assert bool(render.news(at(before), at(after))) is told

    def test_progress_without_a_total_is_told_once(self) -> None:
        task = s.task(7, "In progress", progress=Progress(done=5))
        job = replace(s.RUNNING_JOB, tasks=(task,))
        assert render.news(job, job) == []

    def test_json_keeps_silent_until_the_end(self) -> None:
        session = a_session(FRESH, DONE, as_json=True)
        watching.watch(session, FRESH)
        assert printed(session) == ""


class TestLive:
    def test_the_last_picture_is_the_end(self) -> None:
        session = a_session(FRESH, s.RUNNING_JOB, DONE, live=True)
        assert watching.watch(session, FRESH) == DONE
        last = printed(session).rpartition("Reprotect of shop")[2]
        assert "Succeeded" in last
        assert "▶" not in last

    def test_an_error_is_left_to_the_end_of_the_command(self) -> None:
        session = a_session(FRESH, s.FAILED_JOB, live=True)
        watching.watch(session, FRESH)
        assert "DamagedObject" not in printed(session)


class TestEnds:
    def test_a_failed_job_raises_its_error(self) -> None:
        session = a_session(s.FAILED_JOB)
        with pytest.raises(JobNotDoneError) as failed:
            watching.finish(session, FRESH)
        assert failed.value.code == "DamagedObject"

    def test_ctrl_c_leaves_the_job_alone_and_says_so(self) -> None:
        session = a_session(FRESH, KeyboardInterrupt())
        with pytest.raises(typer.Exit) as left:
            watching.finish(session, FRESH)
        assert left.value.exit_code == ExitCode.INTERRUPTED
        said = printed(session, "err")
        assert "The job goes on; nothing was cancelled" in said
        assert f"homeport jobs watch {s.JOB}" in said
        assert f"homeport jobs cancel {s.JOB}" in said


class TestSilentServer:
    def test_a_restart_is_waited_for_and_said_once(self) -> None:
        session = a_session(FRESH, SILENCE, SILENCE, SILENCE, DONE)
        assert watching.finish(session, FRESH) == DONE
        assert printed(session, "err").count("does not answer") == 1

    def test_two_silences_are_said_twice(self) -> None:
        session = a_session(SILENCE, FRESH, SILENCE, DONE)
        watching.finish(session, FRESH)
        assert printed(session, "err").count("does not answer") == 2

    def test_patience_has_an_end(self) -> None:
        session = a_session(FRESH, SILENCE)
        with pytest.raises(UnreachableServerError):
            watching.finish(session, FRESH)
        assert isinstance(session.clock, PassingTime)
        assert session.clock.slept >= watching.PATIENCE


class TestBatch:
    NAMES = ("a", "b", "c", "d", "e")

    def run(self, client: ServerOfJobs, *, live: bool = False, parallel: int = 2) -> Session:
        session = a_session(client=client, live=live)
        batch = reprotects.Batch(
            session=session, asked=ReprotectRequest(), waiting=list(self.NAMES)
        )
        for _ in reprotects.steps(batch, parallel):
            pass
        assert not batch.waiting
        assert (batch.worst is not ExitCode.OK) is bool(client.refused)
        return session

    @pytest.mark.parametrize("parallel", [1, 2, 5, 9])
    def test_no_more_run_at_a_time_than_allowed(self, parallel: int) -> None:
        client = ServerOfJobs()
        self.run(client, parallel=parallel)
        assert client.started == list(self.NAMES)
        assert client.at_once == min(parallel, len(self.NAMES))

    def test_refused_ones_take_no_place(self) -> None:
        client = ServerOfJobs(refused=frozenset("ac"))
        self.run(client, parallel=1)
        assert client.started == ["b", "d", "e"]

    def test_a_server_that_goes_away_between_two_starts_is_waited_for(self) -> None:
        client = ServerOfJobs()
        real, calls = client.reprotect, []

        def reprotect(name: str, asked: ReprotectRequest) -> Any:
            calls.append(name)
            if len(calls) in (1, 4, 5):
                raise UnreachableServerError("http://here", "refused")
            return real(name, asked)

        client.reprotect = reprotect  # type: ignore[method-assign]
        self.run(client, parallel=2)
        assert client.started == list(self.NAMES)

    def test_one_that_stays_away_ends_the_command(self) -> None:
        client = ServerOfJobs()

        def reprotect(name: str, asked: ReprotectRequest) -> Any:
            raise UnreachableServerError("http://here", "refused")

        client.reprotect = reprotect  # type: ignore[method-assign]
        with pytest.raises(UnreachableServerError):
            self.run(client)

    @pytest.mark.parametrize(
        ("ends", "refused", "code"),
        [
            (("Succeeded", "Succeeded"), None, ExitCode.OK),
            (("Succeeded", "Cancelled"), None, ExitCode.CANCELLED),
            (("Failed", "Cancelled"), None, ExitCode.JOB_FAILED),
            (("Succeeded",), RefusedError("not now"), ExitCode.REFUSED),
            (("Cancelled",), RefusedError("not now"), ExitCode.CANCELLED),
            ((), NotFoundError("no such item"), ExitCode.NOT_FOUND),
            (("Succeeded",), TransientError("host away"), ExitCode.TRANSIENT),
        ],
    )
    def test_the_code_is_that_of_the_item_that_came_off_worst(
        self, ends: tuple[str, ...], refused: HomeportError | None, code: ExitCode
    ) -> None:
        batch = reprotects.Batch(session=a_session(), asked=ReprotectRequest(), waiting=[])
        for number, state in enumerate(ends):
            batch.jobs[str(number)] = replace(s.FAILED_JOB, state=state)
        if refused:
            batch.refused["x"] = refused
        assert batch.worst is code

    def test_on_a_terminal_it_is_one_board(self) -> None:
        client = ServerOfJobs(refused=frozenset("c"))
        session = a_session(client=client, live=True)
        batch = reprotects.Batch(
            session=session, asked=ReprotectRequest(), waiting=list(self.NAMES)
        )
        reprotects.run(batch, 2)
        shown = printed(session)
        assert "waits its turn" in shown
        assert "not started: c is not committed." in shown

    def test_ctrl_c_names_every_job_that_goes_on(self) -> None:
        client = ServerOfJobs()
        session = a_session(client=client)
        batch = reprotects.Batch(session=session, asked=ReprotectRequest(), waiting=["a", "b", "c"])

        def interrupt(_seconds: float) -> None:
            raise KeyboardInterrupt

        cast("Any", session.clock).sleep = interrupt
        with pytest.raises(typer.Exit):
            reprotects.run(batch, 2)
        said = printed(session, "err")
        assert "homeport jobs watch job-a" in said
        assert "homeport jobs watch job-b" in said
        assert "Not started: c" in said


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Session]]:
    """A session somebody can answer at; given is what they type."""

    def typed(answer: str) -> Session:
        session = a_session(live=True)
        keyboard = StringIO(answer)
        keyboard.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr("sys.stdin", keyboard)
        return session

    return typed


class TestQuestions:
    def test_yes_goes_on(self, at_a_terminal: Callable[[str], Session]) -> None:
        session = at_a_terminal("y\n")
        session.screen.confirm("Fail over?", yes=False)
        assert "Fail over?" in printed(session, "err")

    @pytest.mark.parametrize("answer", ["n\n", "\n"])
    def test_anything_else_changes_nothing(
        self, at_a_terminal: Callable[[str], Session], answer: str
    ) -> None:
        with pytest.raises(NotConfirmedError):
            at_a_terminal(answer).screen.confirm("Fail over?", yes=False)

    def test_yes_on_the_line_is_not_asked(self, at_a_terminal: Callable[[str], Session]) -> None:
        session = at_a_terminal("")
        session.screen.confirm("Fail over?", yes=True)
        assert printed(session, "err") == ""

    def test_nobody_is_asked_where_nobody_answers(self) -> None:
        session = a_session()
        session.screen.confirm("Fail over?", yes=False)
        assert printed(session, "err") == ""
