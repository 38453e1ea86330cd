"""Where a job can be cancelled and what is said of it; what did not succeed is begun again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from homeport.errors import RefusedError
from homeport.model.ids import ItemId, JobId
from homeport.orchestration import failover, job_requests, undo
from homeport.orchestration.ports import Job, JobKind, JobState, Task
from homeport.orchestration.registry import PROGRAMS
from homeport.orchestration.safety import NEVER, SAFETY, cancellable, safety_words
from tests.hosts import REFUSED
from tests.unit.orchestration.scripted import Deck
from tests.unit.orchestration.stages import (
    COMMITTED,
    PENDING,
    PROTECTED,
    Request,
    clean_up,
    commit,
    disable,
    done,
    drill,
    protect,
    reprotect,
)
from tests.unit.orchestration.stages import failover as fail_over
from tests.unit.orchestration.stages import undo as go_back

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def job(kind: JobKind, *, at: int = -1, skipped: int = -1, **changes: Any) -> Job:
    """A job whose tasks up to `at` have begun."""
    tasks = tuple(
        Task(index=n, name=name, started_at=T0 + timedelta(seconds=n) if n <= at else None)
        if n != skipped
        else Task(index=n, name=name, state=JobState.SKIPPED)
        for n, name in enumerate(PROGRAMS[kind].tasks)
    )
    made = Job(
        id=JobId("5f0c2a9be1d84d0f"), kind=kind, item=ItemId("i"), item_name="shop", request={},
        state=JobState.RUNNING, attempt=1, created_at=T0, tasks=tasks,
    )  # fmt: skip
    return replace(made, **changes)


LAST = {
    kind: len(entry.tasks) - 1 if SAFETY[kind].until is None else int(SAFETY[kind].until or 0) - 1
    for kind, entry in PROGRAMS.items()
}


@pytest.mark.parametrize("kind", [kind for kind in JobKind if SAFETY[kind].until != NEVER])
def test_a_job_can_be_cancelled_up_to_its_last_safe_task(kind: JobKind) -> None:
    tasks = PROGRAMS[kind].tasks
    allowed = [cancellable(job(kind, at=at)) for at in range(-1, len(tasks))]
    assert allowed == [at <= LAST[kind] for at in range(-1, len(tasks))]


@pytest.mark.parametrize("at", [-1, 0, 4])
def test_what_is_being_taken_away_is_taken_away_to_the_end(at: int) -> None:
    one = job(JobKind.DISABLE, at=at)
    assert not cancellable(one)
    assert safety_words(one).startswith("cannot be cancelled: ")


def test_a_skipped_task_does_not_count_as_begun() -> None:
    one = job(JobKind.FAILOVER, at=failover.SYNCHRONIZE, skipped=failover.FENCE)
    assert cancellable(one)


WORDS: dict[str, tuple[Job, str]] = {
    "a failover that waits": (
        job(JobKind.FAILOVER),
        "can be cancelled until 'Fencing the source' begins: the item is protected as before",
    ),
    "a failover that has fenced": (
        job(JobKind.FAILOVER, at=failover.FENCE),
        "cannot be cancelled any more: the old side may not write any more",
    ),
    "an undo": (job(JobKind.UNDO, at=undo.START), "cannot be cancelled any more: the new machine"),
    "a reprotect": (job(JobKind.REPROTECT, at=9), "can be cancelled: the item is committed"),
    "one that failed": (
        job(JobKind.REPROTECT, state=JobState.FAILED, ended_at=T0),
        "begin it again: homeport jobs restart 5f0c2a9b",
    ),
    "one that was cancelled": (
        job(JobKind.UNDO, state=JobState.CANCELLED, ended_at=T0),
        "begin it again: ",
    ),
    "one that has done it": (job(JobKind.UNDO, state=JobState.SUCCEEDED, ended_at=T0), ""),
}


@pytest.mark.parametrize(("one", "words"), WORDS.values(), ids=WORDS)
def test_what_is_said_of_it(one: Job, words: str) -> None:
    assert safety_words(one).startswith(words)
    assert bool(words) == bool(safety_words(one))


@pytest.mark.parametrize("kind", JobKind)
def test_every_kind_says_why_it_stops_being_cancellable_and_what_is_left(kind: JobKind) -> None:
    safety = SAFETY[kind]
    assert bool(safety.because) is (safety.until is not None)
    assert bool(safety.leaves) is (safety.until != NEVER)


def test_a_cancel_that_comes_too_late_is_refused_and_the_job_goes_on(deck: Deck) -> None:
    done(deck, *PROTECTED)
    accepted = deck.accept(fail_over())
    real, codes = deck.east.do_fence, []

    def fence(args: Any) -> Any:
        with pytest.raises(RefusedError) as caught, deck.books() as books:
            job_requests.cancel(books, accepted.id)
        codes.append(caught.value.code)
        assert "homeport jobs watch" in caught.value.remedy
        return real(args)

    deck.east.do_fence = fence  # type: ignore[method-assign]
    assert deck.run(accepted).state is JobState.SUCCEEDED
    assert codes == ["NotCancellableNow"]


FAILING: dict[str, tuple[tuple[Request, ...], Request, str, str]] = {
    "protect": ((), protect(), "east", "arm"),
    "failover": (PROTECTED, fail_over(), "west", "promote"),
    "planned failover": (PROTECTED, fail_over(planned=True), "east", "final-capture"),
    "undo": (PENDING, go_back(), "west", "demote"),
    "commit": (PENDING, commit(), "west", "accept"),
    "reprotect": (COMMITTED, reprotect(keep_machine=None), "west", "reverse"),
    "test failover": (PROTECTED, drill(), "west", "test-boot"),
    "test cleanup": ((*PROTECTED, drill()), clean_up(), "west", "test-cleanup"),
    "disable": (PROTECTED, disable(), "west", "release"),
}


@pytest.mark.parametrize(("before", "request_", "host", "kind"), FAILING.values(), ids=FAILING)
def test_what_failed_is_begun_again_as_it_was_asked(
    deck: Deck, before: tuple[Request, ...], request_: Request, host: str, kind: str
) -> None:
    if before:
        done(deck, *before)
    getattr(deck, host).fails[kind] = REFUSED
    failed = deck.run(deck.accept(request_))
    assert failed.state is JobState.FAILED
    getattr(deck, host).fails.clear()
    again = done(deck, lambda books: job_requests.restart(books, failed.id))
    assert (again.kind, again.request) == (failed.kind, failed.request)
    assert again.id != failed.id


def test_what_is_at_work_or_has_succeeded_is_not_begun_again(deck: Deck) -> None:
    ended = done(deck, *PROTECTED)
    running = deck.accept(fail_over())
    for one, code in ((ended, "JobSucceeded"), (running, "JobRunning")):
        with pytest.raises(RefusedError) as caught, deck.books() as books:
            job_requests.restart(books, one.id)
        assert caught.value.code == code


def test_one_whose_time_is_over_is_refused_as_the_request_would_be(deck: Deck) -> None:
    done(deck, *PROTECTED)
    deck.west.fails["promote"] = REFUSED
    failed = deck.run(deck.accept(fail_over(planned=True)))
    deck.west.fails.clear()
    with pytest.raises(RefusedError) as caught, deck.books() as books:
        job_requests.restart(books, failed.id)
    assert caught.value.code == "AlreadyFailedOver"
    assert "Leave 'planned' out" in caught.value.remedy
