"""
Reprotect: the machine that runs since the failover becomes the source, the old side its target.

The owner stays, so no epoch is raised. Until the first recovery point of the new direction is
listed, the old side's disks have not been altered; a job that fails or is cancelled leaves the item
*Failover committed*, and the same request goes on from what is there.
"""

from __future__ import annotations

from dataclasses import dataclass

from homeport.errors import NotFoundError, RefusedError
from homeport.model.codec import from_plain, to_plain
from homeport.model.ids import HostName
from homeport.model.item import ReplicatedItem, Role
from homeport.model.machine import MachineDefinition, PowerState
from homeport.model.messages import OperationState, StoreAddress, UnsentReport
from homeport.model.operations import (
    AskFacts,
    At,
    Fence,
    FenceFacts,
    PrepareReplica,
    Problem,
    ReplicaFacts,
    Reverse,
    SideFacts,
)
from homeport.model.position import Position
from homeport.model.protection import Event, State
from homeport.model.reports import LossReceipt
from homeport.model.requests import ReprotectRequest
from homeport.model.review import Review, keeps_machine
from homeport.orchestration.networks import lock_name, remember
from homeport.orchestration.ports import ItemRow, JobRun, JobStoppedError, Json, Vault
from homeport.orchestration.program import (
    ANSWER,
    Known,
    advance_item,
    all_of,
    ask,
    assign_roles,
    check_cancel,
    need,
    problem_of,
    read_item,
    stop,
)
from homeport.orchestration.receipt import complete_receipt
from homeport.orchestration.resynced import RESYNC_TASKS, follow
from homeport.orchestration.reversal import Reversal, make_review

TASKS = (
    "Prerequisite check",
    "Committing failover",
    "Discovering replica virtual machine",
    "Getting reprotection requirements",
    "Reprotecting virtual machine",
    "Switching off and locking the original machine",
    "Preparing replica disks",
    *RESYNC_TASKS,
)
(
    CHECK,
    COMMITTING,
    DISCOVER,
    REQUIREMENTS,
    REPROTECT,
    LOCK,
    PREPARE,
) = range(7)
PATIENCE = 300.0
"""Seconds for a host to answer that did so a moment ago: an open commit may have to be finished."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What the job does, settled by the review; everything after it goes by this."""

    known: Known
    given: Reversal
    review: Review
    running: SideFacts
    old: SideFacts

    @property
    def item(self) -> ReplicatedItem:
        """The item, with the pool asked for."""
        return self.given.item

    @property
    def definition(self) -> MachineDefinition:
        """The machine's shape as it runs now; as the old side knew it where that is not told."""
        definition = self.running.definition or self.old.definition
        if definition is None:
            raise stop(
                "UnknownMachine",
                f"{self.item.running.host} does not tell the machine's definition.",
                remedy="Look at the agent's log there.",
            )
        return definition

    @property
    def ways(self) -> dict[str, str]:
        """Each disk's resync."""
        return {disk.disk: disk.way.value for disk in self.review.plan.disks}

    @property
    def lock(self) -> str:
        """The name of the lock put on the old side's machine."""
        return lock_name(self.known.vault, self.item)


def reprotect(run: JobRun) -> dict[str, Json]:
    """The program of `JobKind.REPROTECT`."""
    known = read_item(run)
    try:
        plan = _settle(run, known)
    except JobStoppedError as stopped:
        _stopped(run, known, stopped.error, began=False)
        raise
    try:
        unsent = _prepare(run, plan)
        first = _reverse(run, plan)
        done = follow(run, plan.item, plan.review, first)
    except JobStoppedError as stopped:
        _stopped(run, known, stopped.error, began=True)
        raise
    return {**done, "unsent": unsent, "lock": plan.lock}


def _settle(run: JobRun, known: Known) -> Plan:
    """Ask both sides, review, and refuse with all problems at once. Nothing has changed here."""
    run.task(CHECK)
    given = _given(run, known)
    running = _facts(run, known.item.running.host, AskFacts(item=known.item.id))
    check_cancel(run)
    run.skip(COMMITTING, "the failover was committed before: a person does that")
    run.task(DISCOVER)
    old = _facts(run, known.item.standby.host, given.question(running))
    check_cancel(run)
    run.task(REQUIREMENTS)
    made = _review(given, running, old)
    if running is None or old is None or made.problems:
        message = f"{known.item.name} cannot be reprotected as things stand."
        raise JobStoppedError(all_of(made.problems, code="NotReprotectable", message=message))
    return Plan(known=known, given=given, review=made, running=running, old=old)


def _given(run: JobRun, known: Known) -> Reversal:
    asked = from_plain(ReprotectRequest, run.job.request)

    def act(vault: Vault) -> Json:
        given = read_reversal(vault, known.row, asked)
        return {"mapped": dict(given.mapped), "cache": given.cache}

    return Reversal(row=known.row, asked=asked, **run.step("read mapping and cache store", act))


def read_reversal(vault: Vault, row: ItemRow, asked: ReprotectRequest) -> Reversal:
    """A reversal as the vault knows it: the mapping back, and the running site's cache store."""
    item = row.item
    try:
        cache = vault.cache_of(item.running.site).url
    except NotFoundError:
        cache = ""
    return Reversal(
        row=row,
        asked=asked,
        mapped=vault.network_map(item.running.site, item.standby.site),
        cache=cache,
        running=vault.report_of(item.id, item.running.host),
    )


def _facts(run: JobRun, host: HostName, question: AskFacts) -> SideFacts | None:
    outcome = ask(run, f"facts of {host}", host, question, patience=ANSWER)
    if outcome.done:
        return from_plain(SideFacts, outcome.result or {})
    if outcome.state is OperationState.LOST:
        return None  # the review says which side does not answer
    raise JobStoppedError(problem_of(outcome, host))


def _review(given: Reversal, running: SideFacts | None, old: SideFacts | None) -> Review:
    try:
        return make_review(given, running, old, state=State.COMMITTED)
    except RefusedError as error:
        raise JobStoppedError(error.as_dict()) from error


def _prepare(run: JobRun, plan: Plan) -> Json:
    """Make what the new direction needs, lock the old machine, turn its disks into replicas."""
    run.task(REPROTECT)
    run.step("make what the new direction needs", lambda vault: _requirements(vault, plan))
    check_cancel(run)
    item, old = plan.item, plan.item.standby
    unsent = _lock(run, plan)
    run.task(PREPARE)
    order = PrepareReplica(
        item=item.id,
        name=item.name,
        vault=plan.known.vault,
        epoch=item.epoch,
        common=plan.review.plan.common,
        ways=plan.ways,
        definition=plan.definition,
        pool=old.pool,
        lock=plan.lock,
        keep_machine=keeps_machine(item, asked=plan.given.asked.keep_machine),
    )
    made = need(run, "prepare the replica", old.host, order, ReplicaFacts, patience=PATIENCE)
    run.step("complete the receipt", lambda vault: _complete(vault, plan, unsent, made))
    check_cancel(run)
    return to_plain(tuple[UnsentReport, ...], made.unsent)


def _lock(run: JobRun, plan: Plan) -> int:
    """Switch the old machine off and lock it; the bytes it had that never arrived here."""
    item, old = plan.item, plan.old
    known = sum(disk.unsent for disk in old.disks)
    if not old.tracked:
        run.skip(LOCK, f"{item.standby.host} has no record of this item, so no machine to lock")
        return known
    if old.lock == plan.lock and old.machine_state in (PowerState.OFF, PowerState.ABSENT):
        run.skip(LOCK, "it is off and locked already")
        return known
    run.task(LOCK)
    order = Fence(item=item.id, epoch=item.epoch, lock=plan.lock)
    host = item.standby.host
    held = need(run, "switch off and lock", host, order, FenceFacts, patience=PATIENCE)
    check_cancel(run)
    return max(known, held.unsent)


def _requirements(vault: Vault, plan: Plan) -> Json:
    """Cache store, network mapping and pool, as the review has shown them."""
    item, asked = plan.item, plan.given.asked
    if asked.cache is not None and not plan.given.cache:
        cache = StoreAddress(
            name=item.running.site, url=asked.cache.url, options=asked.cache.options
        )
        vault.set_cache(item.running.site, cache)
    networks = plan.given.networks(plan.running)
    for network, to in networks.items():
        if to is not None:
            vault.map_network(item.running.site, network, item.standby.site, to)
    vault.put_item(item)
    vault.put_facts(item.id, remember(vault.item(item.id).facts, item.active.other, networks))
    return {}


def _complete(vault: Vault, plan: Plan, missing: int, made: ReplicaFacts) -> Json:
    """The old side is back: what it held that never arrived is known now."""
    plain = vault.item(plan.item.id).facts.get("receipt")
    if plain is None:
        return {}
    receipt = from_plain(LossReceipt, plain)
    completed = complete_receipt(receipt, unsent=made.unsent, missing=missing, now=vault.now())
    vault.put_facts(plan.item.id, {"receipt": to_plain(LossReceipt, completed)})
    return {}


def _reverse(run: JobRun, plan: Plan) -> Position | None:
    """The running side becomes source; both hosts are told. The first new point, if it is known."""
    item = plan.item
    order = run.step("read cache store and policy", lambda vault: _order(vault, plan))
    host = item.running.host
    first = need(run, "reverse", host, from_plain(Reverse, order), At, patience=PATIENCE)

    def act(vault: Vault) -> Json:
        advance_item(vault, item.id, Event.REVERSED, seen=State.REPROTECTING)
        roles = {host: (Role.SOURCE, True), item.standby.host: (Role.TARGET, True)}
        assign_roles(vault, item.id, roles)
        vault.put_facts(item.id, {"failover": None, "problem": None})
        return {}

    run.step("both hosts replicate the other way", act)
    return first.position


def _order(vault: Vault, plan: Plan) -> Json:
    item = plan.item
    order = Reverse(
        item=item.id,
        epoch=item.epoch,
        common=plan.review.plan.common,
        ways=plan.ways,
        cache=vault.cache_of(item.running.site),
        policy=vault.policy(item.policy),
    )
    return to_plain(Reverse, order)


def _stopped(run: JobRun, known: Known, problem: Problem, *, began: bool) -> None:
    """The item is *Failover committed* again; its machine runs on, unprotected as before."""
    item = known.item

    def act(vault: Vault) -> Json:
        seen = (State.REPROTECTING, State.RESYNCING)
        if any(vault.move(item.id, Event.REPROTECT_STOPPED, seen=state) for state in seen):
            vault.put_facts(item.id, {"problem": problem})
            if began:
                roles = {item.running.host: (Role.RUNNING, False)}
                assign_roles(vault, item.id, {**roles, item.standby.host: (Role.FENCED, False)})
        return {}

    run.step("the reprotect has stopped", act)
