"""
Test failover and its cleanup: a drill beside the life of the item; replication goes on.

The drill's state is the item's fact `test`, and it counts (`last_drill`) only after the cleanup
has proved that nothing of it is left.
"""

from __future__ import annotations

from homeport.model.codec import from_plain, to_plain
from homeport.model.ids import HostName
from homeport.model.operations import (
    At,
    LandAll,
    Nothing,
    PromoteFacts,
    TestBoot,
    TestCleanup,
)
from homeport.model.position import Position
from homeport.model.rehearsal import direction_of
from homeport.model.requests import TestFailoverRequest
from homeport.orchestration.failover import listed_points
from homeport.orchestration.points import Choice, choose, parse_choice
from homeport.orchestration.ports import JobRun, JobStoppedError, Json, Vault
from homeport.orchestration.program import (
    Known,
    ask,
    check_cancel,
    need,
    problem_of,
    read_item,
)

TASKS = (
    "Prerequisites check for test failover",
    "Create test virtual machine",
    "Start the virtual machine",
)
CHECK, CREATE, START = range(3)
CLEANUP_TASKS = ("Prerequisite check", "Removing the test virtual machine")
CLEANUP_CHECK, REMOVE = range(2)
SUFFIX = "-test"
PATIENCE = 60.0


def test_failover(run: JobRun) -> dict[str, Json]:
    """The program of `JobKind.TEST_FAILOVER`."""
    known = read_item(run)
    run.task(CHECK)
    asked = from_plain(TestFailoverRequest, run.job.request)
    seat = known.item.standby
    order = TestBoot(
        item=known.item.id,
        position=_point(run, known, asked),
        machine=seat.machine + SUFFIX,
        network=asked.network,
        guest_timeout=asked.guest_timeout,
    )
    check_cancel(run)
    run.task(CREATE)
    run.step("the drill begins", lambda vault: _note(vault, known, order, None))
    try:
        facts = need(run, "boot the drill", seat.host, order, PromoteFacts, patience=PATIENCE)
    except JobStoppedError:
        _take_away(run, known, order.machine)
        raise
    run.task(START)
    run.step("the drill runs", lambda vault: _note(vault, known, order, facts))
    answered = facts.answered_at is not None
    return {
        "point": str(order.position),
        "machine": order.machine,
        "verified": answered,
        **to_plain(PromoteFacts, facts),
    }


def _point(run: JobRun, known: Known, asked: TestFailoverRequest) -> Position:
    choice = parse_choice(asked.point)
    host = known.item.standby.host
    if choice is Choice.LATEST:
        order = LandAll(item=known.item.id, epoch=known.item.epoch)
        landed = need(run, "land everything", host, order, At, patience=PATIENCE).position
        if landed is not None:
            return landed

    def act(vault: Vault) -> Json:
        points = listed_points(vault, known.item, host)
        return str(choose(points, choice, item=known.item.name).position)

    return Position.parse(run.step("choose the point", act))


def _note(vault: Vault, known: Known, order: TestBoot, facts: PromoteFacts | None) -> Json:
    before = vault.item(known.item.id).facts.get("test") or {}
    drill: dict[str, Json] = {
        "began_at": before.get("began_at", vault.now().isoformat()),
        "direction": direction_of(known.item),
        "host": known.item.standby.host,
        "point": str(order.position),
        "machine": order.machine,
        "network": order.network,
        "state": "starting" if facts is None else "running",
    }
    if facts is not None:
        drill |= to_plain(PromoteFacts, facts)
    vault.put_facts(known.item.id, {"test": drill})
    return {}


def _take_away(run: JobRun, known: Known, machine: str) -> None:
    """A drill that did not start: nothing of it stays, or it is said what could not be removed."""
    order = TestCleanup(item=known.item.id, machine=machine)
    host = known.item.standby.host
    outcome = ask(run, "remove the drill", host, order, patience=PATIENCE, shielded=True)

    def act(vault: Vault) -> Json:
        drill = vault.item(known.item.id).facts.get("test") or {}
        left = None if outcome.done else {**drill, "state": "to be cleaned up"}
        vault.put_facts(known.item.id, {"test": left})
        return {}

    run.step("the drill has failed", act)


def test_cleanup(run: JobRun) -> dict[str, Json]:
    """The program of `JobKind.TEST_CLEANUP`."""
    run.task(CLEANUP_CHECK)
    known = read_item(run)
    drill = known.row.facts.get("test") or {}
    machine = drill.get("machine", known.item.standby.machine + SUFFIX)
    check_cancel(run)
    run.task(REMOVE)
    order = TestCleanup(item=known.item.id, machine=machine)
    host = HostName(drill.get("host", known.item.standby.host))  # a failover may have come between
    outcome = ask(run, "remove the drill", host, order, patience=PATIENCE, shielded=True)
    if not outcome.done:
        raise JobStoppedError(problem_of(outcome, host, PATIENCE))
    from_plain(Nothing, outcome.result or {})

    def act(vault: Vault) -> Json:
        verified = drill.get("answered_at") is not None
        done = {**drill, "state": "cleaned up", "verified": verified}
        done["ended_at"] = vault.now().isoformat()
        vault.put_facts(known.item.id, {"test": None, "last_drill": done})
        return done

    answer: dict[str, Json] = run.step("the drill is over", act)
    return answer
