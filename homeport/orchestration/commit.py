"""
Commit a failover: a person accepts it. Change of point and undo end; the points are kept.

The chain is flattened by the running host in the background. What ran before stays fenced and
untouched until the reprotect.
"""

from __future__ import annotations

from homeport.model.operations import Accept, Nothing
from homeport.model.protection import Event, State
from homeport.orchestration.ports import JobRun, JobStoppedError, Json, Vault
from homeport.orchestration.program import (
    advance_item,
    check_cancel,
    need,
    read_item,
)

TASKS = ("Prerequisite check", "Commit")
CHECK, COMMIT = range(2)


def commit(run: JobRun) -> dict[str, Json]:
    """The program of `JobKind.COMMIT`."""
    run.task(CHECK)
    item = read_item(run).item
    host = item.running.host
    try:
        check_cancel(run)
        run.task(COMMIT)
        order = Accept(item=item.id, epoch=item.epoch)
        need(run, "accept the failover", host, order, Nothing, shielded=True)
    except JobStoppedError:
        run.step(
            "not committed",
            lambda vault: vault.move(item.id, Event.BROKEN, seen=State.COMMITTING),
        )
        raise

    def act(vault: Vault) -> Json:
        advance_item(vault, item.id, Event.ACCEPTED, seen=State.COMMITTING)
        at = vault.now().isoformat()
        vault.put_facts(item.id, {"committed_at": at, "failover": None, "problem": None})
        return {"committed_at": at}

    answer: dict[str, Json] = run.step("committed", act)
    return {**answer, "site": item.running.site, "host": host, "machine": item.running.machine}
