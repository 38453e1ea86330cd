"""A policy's commit timer: what it decides, when, and when it leaves the decision to people."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from homeport.model.policy import CommitTimer, ReplicationPolicy
from homeport.model.protection import State
from homeport.orchestration.ports import Job, JobKind, JobState
from homeport.orchestration.timers import CommitTimers, decision_at
from tests.unit.orchestration.scripted import Deck
from tests.unit.orchestration.stages import (
    COMMITTED,
    HOME_PENDING,
    PENDING,
    PROTECTED,
    copies,
    done,
    failover,
    item_of,
    undo,
)

HOUR = timedelta(hours=1)


def state_of(deck: Deck) -> State:
    with deck.catalog.read() as rows:
        return rows.find_item("shop").state


def timed(deck: Deck, timer: CommitTimer, after: timedelta = HOUR) -> CommitTimers:
    policy = ReplicationPolicy(name="default", commit_timer=timer, commit_after=after)
    with deck.catalog.write() as rows:
        rows.save_policy(policy)
    return CommitTimers(deck, every=3600.0)


def decided(deck: Deck, timers: CommitTimers) -> Job | None:
    jobs = timers.round()
    assert len(jobs) <= 1
    return deck.run(jobs[0]) if jobs else None


class TestWhatItDecides:
    @pytest.mark.parametrize(
        ("timer", "kind", "end"),
        [
            (CommitTimer.COMMIT, JobKind.COMMIT, State.COMMITTED),
            (CommitTimer.UNDO, JobKind.UNDO, State.PROTECTED),
        ],
        ids=["commit", "undo"],
    )
    @pytest.mark.parametrize("stage", [PENDING, HOME_PENDING], ids=["away", "home"])
    def test_once_the_time_is_over_and_by_the_policys_name(
        self, deck: Deck, stage: Any, timer: CommitTimer, kind: JobKind, end: State
    ) -> None:
        done(deck, *stage)
        timers = timed(deck, timer)
        waits = deck.view().decision
        assert (waits.what, waits.at - deck.clock[0] <= HOUR) == (timer.value, True)
        deck.tick(HOUR.total_seconds() - 5)
        assert decided(deck, timers) is None
        deck.tick(10)
        job = decided(deck, timers)
        assert job is not None
        assert (job.kind, job.state) == (kind, JobState.SUCCEEDED)
        assert job.request == {"by": "policy default"}
        assert state_of(deck) is end
        assert deck.view().decision is None
        assert timers.round() == ()

    def test_undone_by_a_timer_the_old_machine_runs_again(self, deck: Deck) -> None:
        before = (done(deck, *PROTECTED), item_of(deck).active)
        done(deck, failover())
        timers = timed(deck, CommitTimer.UNDO)
        deck.tick(HOUR.total_seconds() + 1)
        assert decided(deck, timers) is not None
        assert item_of(deck).active is before[1]
        assert copies(deck)[0].role.value == "source"

    def test_without_a_timer_a_failover_waits_for_ever(self, deck: Deck) -> None:
        done(deck, *PENDING)
        timers = timed(deck, CommitTimer.NONE)
        deck.tick(timedelta(days=30).total_seconds())
        assert timers.round() == ()
        assert deck.view().decision is None

    @pytest.mark.parametrize("stage", [PROTECTED, COMMITTED], ids=["protected", "committed"])
    def test_where_there_is_nothing_to_decide(self, deck: Deck, stage: Any) -> None:
        done(deck, *stage)
        timers = timed(deck, CommitTimer.COMMIT)
        deck.tick(timedelta(days=30).total_seconds())
        assert timers.round() == ()


class TestTheTime:
    def test_a_change_of_the_point_begins_it_anew(self, deck: Deck) -> None:
        done(deck, *PENDING)
        timers = timed(deck, CommitTimer.COMMIT)
        deck.tick(HOUR.total_seconds() - 60)
        done(deck, failover(point="latest-processed"))
        deck.tick(120)
        assert timers.round() == ()
        deck.tick(HOUR.total_seconds() - 60)
        assert decided(deck, timers) is not None

    def test_an_earlier_failovers_decision_does_not_count_for_the_next(self, deck: Deck) -> None:
        done(deck, *PENDING, undo(), failover())
        timers = timed(deck, CommitTimer.COMMIT)
        deck.tick(HOUR.total_seconds() + 5)
        assert decided(deck, timers) is not None

    def test_a_longer_time_given_meanwhile_is_the_one_that_holds(self, deck: Deck) -> None:
        done(deck, *PENDING)
        timed(deck, CommitTimer.COMMIT)
        deck.tick(HOUR.total_seconds() + 5)
        timers = timed(deck, CommitTimer.COMMIT, after=2 * HOUR)
        assert timers.round() == ()


class TestWhatKeepsItFromDeciding:
    def test_while_a_side_is_away_it_tries_again_in_every_round(self, deck: Deck) -> None:
        done(deck, *PENDING)
        timers = timed(deck, CommitTimer.UNDO)
        deck.east.deaf = True
        deck.tick(2 * HOUR.total_seconds())
        assert timers.round() == ()
        assert timers.round() == ()
        assert state_of(deck) is State.COMMIT_PENDING
        deck.east.deaf = False
        deck.tick()
        job = decided(deck, timers)
        assert job is not None
        assert job.state is JobState.SUCCEEDED

    def test_one_that_has_failed_is_left_to_people(self, deck: Deck) -> None:
        done(deck, *PENDING)
        timers = timed(deck, CommitTimer.UNDO)
        deck.tick(HOUR.total_seconds() + 5)
        (job,) = timers.round()
        deck.east.deaf = True  # heard a moment ago, and silent now
        assert deck.run(job).state is JobState.FAILED
        deck.east.deaf = False
        deck.tick(HOUR.total_seconds() + 5)
        assert timers.round() == ()

    def test_with_two_servers_one_of_them_decides(self, deck: Deck) -> None:
        done(deck, *PENDING)
        first = timed(deck, CommitTimer.COMMIT)
        second = CommitTimers(deck, every=3600.0)
        deck.tick(HOUR.total_seconds() + 5)
        due = second._due()
        assert decided(deck, first) is not None
        second._due = lambda: due  # type: ignore[method-assign]
        assert second.round() == ()
        assert state_of(deck) is State.COMMITTED

    def test_an_item_that_is_gone_meanwhile_ends_no_rounds(self, deck: Deck) -> None:
        timers = timed(deck, CommitTimer.COMMIT)
        assert timers.round() == ()


@pytest.mark.parametrize(
    ("ended", "left"),
    [(JobState.CANCELLED, False), (JobState.FAILED, True), (JobState.RUNNING, True)],
    ids=str,
)
def test_a_decision_of_a_person_that_was_cancelled_is_none(
    deck: Deck, ended: JobState, left: bool
) -> None:
    failed_over = done(deck, *PENDING)
    policy = ReplicationPolicy(name="default", commit_timer=CommitTimer.COMMIT)
    by_hand = replace(failed_over, kind=JobKind.COMMIT, state=ended)
    with deck.catalog.read() as rows:
        row = rows.find_item("shop")
    assert failed_over.ended_at is not None
    at = failed_over.ended_at + policy.commit_after
    assert decision_at(row, policy, (by_hand, failed_over)) == (None if left else at)


def test_it_works_by_itself_in_a_thread(deck: Deck) -> None:
    done(deck, *PENDING)
    timed(deck, CommitTimer.COMMIT)
    deck.tick(HOUR.total_seconds() + 5)
    timers = CommitTimers(deck, every=0.01)
    timers.start()
    for _ in range(500):
        if state_of(deck) is State.COMMITTING:
            break
        timers._stopping.wait(0.01)
    timers.stop()
    assert state_of(deck) is State.COMMITTING
