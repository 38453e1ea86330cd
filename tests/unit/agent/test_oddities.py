"""What is odd about a machine, for every role of its item."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.agent.oddities import (
    TOLD,
    WORDS,
    Odd,
    Seen,
    is_locked,
    oddities,
    problem_of,
)
from homeport.model.ids import ItemId, VaultId
from homeport.model.item import Role
from homeport.model.ledger import ItemLedger
from homeport.model.machine import PowerState
from homeport.model.policy import ReplicationPolicy
from tests.unit.model.builders import disk, machine

LEDGER = ItemLedger(
    vault=VaultId("v"),
    item=ItemId("i"),
    name="web",
    machine="web",
    role=Role.SOURCE,
    epoch=1,
    definition=machine(disk()),
    disks=(),
    original=True,
    policy=ReplicationPolicy(name="default"),
    guarded=True,
)
SOURCE = LEDGER
RUNNING = replace(LEDGER, role=Role.RUNNING)
FENCED = replace(LEDGER, role=Role.FENCED, lock="lock")
KEPT = replace(FENCED, role=Role.TARGET)
REPLICA = replace(KEPT, guarded=False, lock="")

OFF = Seen(name="web", state=PowerState.OFF)
RUNS = Seen(name="web", state=PowerState.RUNNING)
GONE = Seen(name=None)
OWNERS = {"source": SOURCE, "running": RUNNING}
LOCKED = {"fenced": FENCED, "kept": KEPT}


def seen(base: Seen, **changes: Any) -> Seen:
    return replace(base, **changes)


def unguarded(ledger: ItemLedger) -> ItemLedger:
    return replace(ledger, guarded=False)


CASES: dict[str, tuple[ItemLedger, Seen, tuple[Odd, ...]]] = {
    "a source runs": (SOURCE, RUNS, ()),
    "a source is off": (SOURCE, OFF, ()),
    "a source is off and a crash left something": (
        SOURCE,
        seen(OFF, settled=False),
        (Odd.UNSETTLED,),
    ),
    "a source runs and a crash left something": (SOURCE, seen(RUNS, settled=False), ()),
    "a source was undefined": (SOURCE, GONE, (Odd.UNDEFINED,)),
    "a source was undefined while it ran": (
        SOURCE,
        seen(RUNS, persistent=False),
        (Odd.UNDEFINED,),
    ),
    "a source starts by itself": (SOURCE, seen(RUNS, autostart=True), (Odd.AUTOSTART,)),
    "a source was renamed": (
        SOURCE,
        seen(OFF, name="other", settled=False),
        (Odd.RENAMED,),
    ),
    "a source's note is not looked at": (SOURCE, seen(RUNS, locked=False), ()),
    "a source that the ledger does not mean yet": (unguarded(SOURCE), RUNS, (Odd.UNKNOWN,)),
    "a source whose deletion has begun": (unguarded(SOURCE), GONE, ()),
    "a source gone and its name taken": (SOURCE, seen(GONE, taken=True), (Odd.TAKEN,)),
    "a booted machine was undefined": (RUNNING, GONE, (Odd.UNDEFINED,)),
    "a booted machine is paused": (
        RUNNING,
        Seen(name="web", state=PowerState.PAUSED, settled=False),
        (),
    ),
    "a booted machine crashed": (
        RUNNING,
        Seen(name="web", state=PowerState.CRASHED, settled=False),
        (Odd.UNSETTLED,),
    ),
    "a fenced one is off": (FENCED, OFF, ()),
    "a fenced one was undefined": (FENCED, GONE, (Odd.UNDEFINED,)),
    "a fenced one has no note": (FENCED, seen(OFF, locked=False), (Odd.UNLOCKED,)),
    "a fenced one was started without its note": (
        FENCED,
        seen(RUNS, locked=False),
        (Odd.UNLOCKED,),
    ),
    "a fence ended before the note": (
        replace(FENCED, fencing=True),
        seen(RUNS, locked=False),
        (Odd.UNFENCED,),
    ),
    "a fence ended before the machine was off": (
        replace(FENCED, fencing=True),
        RUNS,
        (Odd.UNFENCED,),
    ),
    "a source that is to become a replica runs": (
        replace(SOURCE, fencing=True),
        RUNS,
        (Odd.UNFENCED,),
    ),
    "a fence is open on a machine with somebody's lock": (
        replace(FENCED, fencing=True),
        seen(RUNS, foreign="audit"),
        (Odd.FOREIGN,),
    ),
    "a fenced one was started": (FENCED, RUNS, (Odd.STARTED,)),
    "a fenced one has other disks": (FENCED, seen(OFF, moved=True), (Odd.MOVED,)),
    "a fenced one was started with other disks": (
        FENCED,
        seen(RUNS, moved=True),
        (Odd.STARTED,),
    ),
    "a fenced one was renamed and unlocked": (
        FENCED,
        seen(OFF, name="other", locked=False, moved=True),
        (Odd.RENAMED, Odd.UNLOCKED),
    ),
    "a fenced one has somebody's lock and all else": (
        FENCED,
        seen(OFF, foreign="audit", locked=False, autostart=True, moved=True),
        (Odd.FOREIGN,),
    ),
    "a fenced one's place has somebody's lock": (
        FENCED,
        seen(GONE, foreign="audit"),
        (Odd.FOREIGN,),
    ),
    "a fenced one's files may be changed": (FENCED, seen(OFF, flags=False), (Odd.FLAGS,)),
    "a fenced one was undefined and its files freed": (
        FENCED,
        seen(GONE, flags=False),
        (Odd.UNDEFINED, Odd.FLAGS),
    ),
    "a kept one was undefined": (KEPT, GONE, (Odd.UNDEFINED,)),
    "a kept one starts by itself": (KEPT, seen(OFF, autostart=True), (Odd.AUTOSTART,)),
    "a replica has no machine": (REPLICA, GONE, ()),
    "a replica has its machine's name taken": (REPLICA, seen(GONE, taken=True), ()),
    "a replica whose machine is being deleted": (REPLICA, seen(OFF, autostart=True), ()),
    "a replica has flags left": (REPLICA, seen(GONE, flags=False), (Odd.FLAGS,)),
}


@pytest.mark.parametrize(("ledger", "found", "odd"), CASES.values(), ids=CASES)
def test_what_is_odd(ledger: ItemLedger, found: Seen, odd: tuple[Odd, ...]) -> None:
    assert oddities(ledger, found) == odd


SEEN = st.builds(
    Seen,
    name=st.sampled_from([None, "web", "other"]),
    state=st.sampled_from(PowerState),
    persistent=st.booleans(),
    autostart=st.booleans(),
    foreign=st.sampled_from(["", "audit"]),
    taken=st.booleans(),
    locked=st.booleans(),
    moved=st.booleans(),
    settled=st.booleans(),
    flags=st.booleans(),
)
LEDGERS = st.builds(
    replace,
    st.just(LEDGER),
    role=st.sampled_from(Role),
    guarded=st.booleans(),
    fencing=st.booleans(),
)


@given(LEDGERS, SEEN)
def test_nothing_is_done_to_a_machine_that_somebody_else_has_locked(
    ledger: ItemLedger, found: Seen
) -> None:
    odd = set(oddities(ledger, replace(found, foreign="audit")))
    assert odd - TOLD <= {Odd.FLAGS}


@given(LEDGERS, SEEN)
def test_nothing_comes_back_that_the_ledger_does_not_mean_to_be_there(
    ledger: ItemLedger, found: Seen
) -> None:
    gone = replace(found, name=None)
    assert Odd.UNDEFINED not in oddities(replace(ledger, guarded=False), gone)


@given(LEDGERS, SEEN)
def test_only_a_machine_that_is_not_to_be_touched_is_locked_again(
    ledger: ItemLedger, found: Seen
) -> None:
    if {Odd.UNLOCKED, Odd.MOVED, Odd.STARTED} & set(oddities(ledger, found)):
        assert is_locked(ledger)


@pytest.mark.parametrize("odd", WORDS)
def test_each_is_told_with_what_why_and_what_to_do(odd: Odd) -> None:
    told = problem_of(odd, LEDGER, Seen(name="other", foreign="audit"))
    assert told["code"] == odd.value
    assert "web" in told["message"]
    assert told["cause"]
    assert told["remedy"]
    assert told["kind"] == "transient"
    assert "{" not in "".join(told.values())


def test_everything_that_is_only_told_has_words() -> None:
    assert set(WORDS) >= TOLD
