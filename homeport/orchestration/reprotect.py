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
from homeport.model.estimate import Span
from homeport.model.ids import HostName, JobId
from homeport.model.item import ReplicatedItem, Role
from homeport.model.machine import MachineDefinition, PowerState
from homeport.model.messages import ItemReport, OperationState, StoreAddress, UnsentReport
from homeport.model.operations import (
    AskFacts,
    At,
    Fence,
    FenceFacts,
    PrepareReplica,
    Problem,
    Release,
    ReplicaFacts,
    Reverse,
    SideFacts,
)
from homeport.model.position import Position
from homeport.model.protection import Event, State
from homeport.model.reports import LossReceipt
from homeport.model.requests import ReprotectRequest
from homeport.model.review import Review, keeps_machine
from homeport.model.target import Target
from homeport.orchestration.customise import Reversal, check_asked, settle
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
from homeport.orchestration.rates import as_sides_digest, by_points, rates_of
from homeport.orchestration.receipt import complete_receipt
from homeport.orchestration.resynced import RESYNC_TASKS, follow
from homeport.orchestration.reversal import make_review
from homeport.orchestration.setting import put_in_place

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

    job: JobId
    known: Known
    given: Reversal
    review: Review
    running: SideFacts
    old: SideFacts

    @property
    def target(self) -> Target:
        """What the new direction goes into."""
        return settle(self.given, self.running, self.old)

    @property
    def item(self) -> ReplicatedItem:
        """The item, with the host and pool of its standby side as they will be."""
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
        return self.given.lock


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
    old = _facts(run, given.item.standby.host, given.question(running))
    check_cancel(run)
    run.task(REQUIREMENTS)
    made = _review(given, running, old)
    if running is None or old is None or made.problems:
        message = f"{known.item.name} cannot be reprotected as things stand."
        raise JobStoppedError(all_of(made.problems, code="NotReprotectable", message=message))
    return Plan(job=run.job.id, known=known, given=given, review=made, running=running, old=old)


def _given(run: JobRun, known: Known) -> Reversal:
    asked = from_plain(ReprotectRequest, run.job.request)

    def act(vault: Vault) -> Json:
        return to_plain(Reversal, read_reversal(vault, known.row, asked))

    return from_plain(Reversal, run.step("read mapping and cache store", act))


def read_reversal(vault: Vault, row: ItemRow, asked: ReprotectRequest) -> Reversal:
    """
    A reversal as the vault knows it: both sites' settings, and the rates measured so far.

    Raises:
        RefusedError: the request names what is not there; see `check_asked`.
    """
    item = row.item
    around = vault.resources.around(item.standby.site)
    check_asked(around, item.standby, asked)
    try:
        cache = vault.cache_of(item.running.site).url
    except NotFoundError:
        cache = ""
    return Reversal(
        row=row,
        asked=asked,
        mapped=vault.network_map(item.running.site, item.standby.site),
        cache=cache,
        cache_users=tuple(n for n in vault.cache_users(item.running.site) if n != item.name),
        lock=lock_name(vault.vault_id(), item),
        around=around,
        rates=rates_of(row.facts, *_reports(vault, item)),
    )


def _reports(vault: Vault, item: ReplicatedItem) -> list[ItemReport | None]:
    return [vault.report_of(item.id, seat.host) for seat in (item.running, item.standby)]


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
    if plan.given.moves:
        run.step("the old host is left", lambda vault: _leave_host(vault, plan))
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
        new_pool=plan.target.pool.new,
        new_networks=plan.target.new_networks,
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
        host, there = item.standby.host, old.machine_state is not PowerState.ABSENT
        then = "what is there is locked with its disks" if there else "so no machine to lock"
        run.skip(LOCK, f"{host} has no record of this item, {then}")
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
    """Cache store, mapping, resources and seat, as the review has shown them."""
    item, given, target = plan.item, plan.given, plan.target
    asked = given.asked.cache
    if asked is not None and given.cache_url != given.cache:
        cache = StoreAddress(name=item.running.site, url=asked.url, options=asked.options)
        vault.set_cache(item.running.site, cache)
    for network, to in target.networks.items():
        if to is not None:
            vault.map_network(item.running.site, network, item.standby.site, to)
    facts = remember(vault.item(item.id).facts, item.active.other, target.networks)
    facts |= put_in_place(vault, item, target, plan.definition)
    total = to_plain(Span, plan.review.ours.total)
    facts["expected"] = {"job": plan.job, **total}
    digest = as_sides_digest(given.rates, plan.running, plan.old).digest
    facts["rates"] = {
        **by_points(given.row.facts, *_reports(vault, given.row.item)),
        "digest": digest,
    }
    if given.moves:
        vault.put_item(item)
    vault.put_facts(item.id, facts)
    return {}


def _leave_host(vault: Vault, plan: Plan) -> Json:
    """The replica has moved: the host it was on takes away what Homeport made there."""
    left = plan.known.item.standby.host
    vault.assign(plan.item.id, left, None, replicate=False)
    order = Release(
        item=plan.item.id,
        epoch=plan.item.epoch,
        owner=False,
        keep_unsent=True,
        keep_machine=keeps_machine(plan.item, asked=plan.given.asked.keep_machine),
    )
    vault.leave_order(plan.item.id, left, "release", order, job=plan.job)
    return {}


def _complete(vault: Vault, plan: Plan, missing: int, made: ReplicaFacts) -> Json:
    """The replica has its pool; what the old side held that never arrived is known now."""
    vault.put_item(plan.item)
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

    def act(vault: Vault) -> Json:
        item = vault.item(known.item.id).item  # its standby side may have moved to another host
        seen = (State.REPROTECTING, State.RESYNCING)
        if any(vault.move(item.id, Event.REPROTECT_STOPPED, seen=state) for state in seen):
            vault.put_facts(item.id, {"problem": problem, "expected": None})
            if began:
                roles = {item.running.host: (Role.RUNNING, False)}
                assign_roles(vault, item.id, {**roles, item.standby.host: (Role.FENCED, False)})
        return {}

    run.step("the reprotect has stopped", act)
