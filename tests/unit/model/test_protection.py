"""The life of an item: every pair of state and event, and the picture in the documentation."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from homeport.model.protection import (
    BUSY,
    NO_POINT,
    REMEDIES,
    TRANSITIONS,
    UNPROTECTED,
    Event,
    IllegalMoveError,
    State,
    advance,
    diagram,
    events_of,
    unprotected,
)

S, E = State, Event
PAIRS = list(itertools.product(State, Event))
ILLEGAL = [pair for pair in PAIRS if pair not in TRANSITIONS]
DISABLED_FROM = {
    S.ENABLE_FAILED,
    S.SEEDING,
    S.PROTECTED,
    S.COMMITTED,
    S.FAILOVER_FAILED,
    S.DISABLE_FAILED,
}


@pytest.mark.parametrize(("state", "event"), TRANSITIONS)
def test_a_move_of_the_table_is_made(state: State, event: Event) -> None:
    assert advance(state, event) is TRANSITIONS[state, event]
    assert event in events_of(state)


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_any_other_move_is_refused_with_cause_and_remedy(state: State, event: Event) -> None:
    with pytest.raises(IllegalMoveError) as refused:
        advance(state, event)
    error = refused.value
    assert (error.state, error.event) == (state, event)
    assert error.cause
    assert error.remedy
    assert state.value in error.message
    assert error.code == REMEDIES.get((state, event), ("NotAllowedNow",))[0]


def test_remedies_are_for_moves_that_are_refused() -> None:
    assert set(REMEDIES) <= set(ILLEGAL)


@pytest.mark.parametrize("state", State)
def test_an_item_can_be_disabled_where_nothing_is_at_work_and_one_machine_exists(
    state: State,
) -> None:
    assert ((state, E.DISABLE) in TRANSITIONS) is (state in DISABLED_FROM)


@pytest.mark.parametrize("state", sorted(set(State) - {S.ENABLING}))
def test_every_state_can_be_reached(state: State) -> None:
    seen, found = {S.ENABLING}, {S.ENABLING}
    while found:
        found = {TRANSITIONS[pair] for pair in TRANSITIONS if pair[0] in found} - seen
        seen |= found
    assert state in seen


@pytest.mark.parametrize("state", sorted(set(State) - {S.DISABLED}))
def test_every_state_can_be_left(state: State) -> None:
    assert events_of(state)


def test_nothing_follows_the_end() -> None:
    assert events_of(S.DISABLED) == ()


@pytest.mark.parametrize(
    ("events", "ends"),
    [
        ([E.ARMED, E.SEEDED], S.PROTECTED),
        ([E.ARMED, E.SEEDED, E.FAILOVER, E.BOOTED, E.COMMIT, E.ACCEPTED], S.COMMITTED),
        ([E.ARMED, E.SEEDED, E.FAILOVER, E.BOOTED, E.FAILOVER, E.KEPT], S.COMMIT_PENDING),
        ([E.ARMED, E.SEEDED, E.FAILOVER, E.BOOTED, E.UNDO, E.UNDONE], S.PROTECTED),
        ([E.ARMED, E.SEEDED, E.FAILOVER, E.BROKEN, E.UNDO, E.UNDONE], S.PROTECTED),
        ([E.ENABLE_FAILED, E.ENABLE, E.ARMED], S.SEEDING),
        ([E.ENABLE_FAILED, E.DISABLE, E.DISABLE_STOPPED, E.DISABLE, E.GONE], S.DISABLED),
    ],
    ids=lambda value: value.value if isinstance(value, State) else f"{len(value)} events",
)
def test_a_life(events: list[Event], ends: State) -> None:
    state = S.ENABLING
    for event in events:
        state = advance(state, event)
    assert state is ends


def test_home_again_by_reprotect() -> None:
    state = S.COMMITTED
    for event in (E.REPROTECT, E.REVERSED, E.RESYNCED, E.FAILOVER, E.BOOTED, E.COMMIT, E.ACCEPTED):
        state = advance(state, event)
    assert state is S.COMMITTED


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("has_points", [True, False])
def test_every_state_but_protected_says_why_it_is_unprotected(
    state: State, has_points: bool
) -> None:
    reason = unprotected(state, has_points=has_points)
    covered = has_points and state in {S.PROTECTED, S.RESYNCING}
    assert bool(reason) is not covered
    assert reason in {"", NO_POINT, UNPROTECTED.get(state)}


def test_what_makes_a_machine_unprotected_is_said_of_each_state_apart() -> None:
    assert set(UNPROTECTED) == set(State) - {S.PROTECTED}
    assert len(set(UNPROTECTED.values())) == len(UNPROTECTED)


@pytest.mark.parametrize("state", [S.COMMIT_PENDING, S.COMMITTED])
def test_after_a_failover_what_to_do_is_said(state: State) -> None:
    assert "reprotect" in unprotected(state, has_points=True)


def test_a_job_at_work_moves_its_item_alone() -> None:
    """From a busy state only the ends of its job lead on; seeding may be disabled as well."""
    asked = {E.FAILOVER, E.COMMIT, E.UNDO, E.REPROTECT, E.RESYNC, E.ENABLE}
    for state in BUSY:
        assert not asked & set(events_of(state)), state


def test_the_picture_in_the_documentation_is_the_table() -> None:
    page = Path(__file__).parents[3] / "docs" / "states.md"
    drawn = page.read_text().split("```mermaid\n")[1].split("\n```")[0]
    assert drawn == diagram()
