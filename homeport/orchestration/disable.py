"""
Disable replication: everything Homeport made is gone, except the active machine.

The side that does not own the machine goes first, so that a failure leaves the machine as it is.
A host that does not answer is a reason to refuse before anything has changed, unless it is forced.
"""

from __future__ import annotations

from homeport.model.codec import from_plain
from homeport.model.protection import Event, State
from homeport.model.requests import DisableRequest
from homeport.orchestration.ports import JobRun, JobStoppedError, Json, Vault
from homeport.orchestration.program import (
    Known,
    advance_item,
    read_item,
    stop,
    waiting_on,
)
from homeport.orchestration.release import order_for, release_side, unassign

TASKS = (
    "Prerequisite check",
    "Stopping replication",
    "Removing the replica",
    "Releasing the machine",
    "Proving that nothing is left",
)
CHECK, STOPPING, REPLICA, MACHINE, PROOF = range(5)


def disable(run: JobRun) -> dict[str, Json]:
    """The program of `JobKind.DISABLE`."""
    known = read_item(run)
    asked = from_plain(DisableRequest, run.job.request)
    try:
        _check(run, known, asked)
        _stop_replicating(run, known)
        sides = _release(run, known, asked)
    except JobStoppedError as stopped:
        error = stopped.error
        run.step("disabling has stopped", lambda vault: _stopped(vault, known, error))
        raise
    return _prove(run, known, sides)


def _check(run: JobRun, known: Known, asked: DisableRequest) -> None:
    run.task(CHECK)
    item = known.item
    silent = run.step(
        "who does not answer",
        lambda vault: waiting_on(vault, item.running, item.standby),
    )
    if silent and not asked.force:
        raise stop(
            "HostUnreachable",
            f"Nothing was changed: {silent}.",
            cause="What Homeport made there could not be removed.",
            remedy="Bring it back, or disable with force: what is there is then listed as pending "
            "removal, and removed on its return.",
        )


def _stop_replicating(run: JobRun, known: Known) -> None:
    run.task(STOPPING)
    unassign(run, known.item)


def _release(run: JobRun, known: Known, asked: DisableRequest) -> list[dict[str, Json]]:
    item = known.item
    sides = []
    for task, seat in ((REPLICA, item.standby), (MACHINE, item.running)):
        run.task(task)
        order = order_for(item, seat, keep_unsent=asked.keep_unsent)
        sides.append(release_side(run, item, seat, order=order, force=asked.force))
    return sides


def _prove(run: JobRun, known: Known, sides: list[dict[str, Json]]) -> dict[str, Json]:
    """What is left by name; an item with nothing left anywhere is forgotten."""
    run.task(PROOF)
    item = known.item
    pending = [side for side in sides if side["pending"]]

    def act(vault: Vault) -> Json:
        advance_item(vault, item.id, Event.GONE, seen=State.DISABLING)
        if pending:
            vault.put_facts(item.id, {"pending_removal": pending, "problem": None})
        else:
            vault.remove_item(item.id)
        return {}

    run.step("the item is gone", act)
    left = [entry for side in sides if not side["pending"] for entry in side["left"]]
    return {"sides": sides, "left": left, "pending": [side["host"] for side in pending]}


def _stopped(vault: Vault, known: Known, problem: dict[str, str]) -> Json:
    if vault.move(known.item.id, Event.DISABLE_STOPPED, seen=State.DISABLING):
        vault.put_facts(known.item.id, {"problem": problem})
    return {}
