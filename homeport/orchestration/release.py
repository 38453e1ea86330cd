"""
Taking away what Homeport made on an item's hosts: the end of disable, and of a failed enable.

A host that does not answer keeps what it has; an order is left for it, done whenever it is back,
and what its ledger lists is told by name as pending removal.
"""

from __future__ import annotations

from homeport.model.codec import from_plain, to_plain
from homeport.model.item import ReplicatedItem, Seat
from homeport.model.messages import LedgerEntry, OperationState
from homeport.model.operations import LedgerFacts, Release
from homeport.orchestration.ports import JobRun, JobStoppedError, Json, Vault
from homeport.orchestration.program import ask, problem_of

PATIENCE = 60.0
"""Seconds for a host that was alive a moment ago."""


def release_both(run: JobRun, item: ReplicatedItem) -> None:
    """Take everything away on both sides, whatever was made; a silent host gets an order."""
    unassign(run, item)
    for seat in (item.standby, item.running):
        release_side(run, item, seat, order=order_for(item, seat), force=True)


def unassign(run: JobRun, item: ReplicatedItem) -> None:
    """Nothing should be so on either host any more: replication stops."""

    def act(vault: Vault) -> Json:
        for seat in (item.standby, item.running):
            vault.assign(item.id, seat.host, None, replicate=False)
        return {}

    run.step("take the assignments away", act)


def order_for(item: ReplicatedItem, seat: Seat, *, keep_unsent: bool = False) -> Release:
    """What a side is asked: the one that owns the machine keeps it, flattened."""
    return Release(
        item=item.id,
        epoch=item.epoch,
        owner=seat == item.running,
        keep_unsent=keep_unsent,
    )


def release_side(
    run: JobRun, item: ReplicatedItem, seat: Seat, *, order: Release, force: bool
) -> dict[str, Json]:
    """
    One side's release: `{"host", "made", "left", "kept", "pending"}`.

    Raises:
        JobStoppedError: it failed, or its host does not answer and not `force`.
    """
    name = f"release {seat.host}"
    outcome = ask(run, name, seat.host, order, patience=PATIENCE, shielded=True)
    if outcome.done:
        facts = from_plain(LedgerFacts, outcome.result or {})
        left = to_plain(tuple[LedgerEntry, ...], facts.left)
        return {
            "host": seat.host,
            "made": facts.made,
            "left": left,
            "kept": list(facts.kept),
            "pending": False,
        }
    if not force or outcome.state is not OperationState.LOST:
        raise JobStoppedError(problem_of(outcome, seat.host, PATIENCE))
    return _leave(run, item, seat, order)


def _leave(run: JobRun, item: ReplicatedItem, seat: Seat, order: Release) -> dict[str, Json]:
    def act(vault: Vault) -> Json:
        vault.leave_order(item.id, seat.host, "release", order, job=run.job.id)
        report = vault.report_of(item.id, seat.host)
        there = [entry for entry in (report.ledger if report else ()) if entry.gone_at is None]
        left = to_plain(tuple[LedgerEntry, ...], tuple(there))
        side = {"host": seat.host, "made": len(there), "left": left, "kept": []}
        return {**side, "pending": True}

    answer: dict[str, Json] = run.step(f"leave an order for {seat.host}", act)
    return answer
