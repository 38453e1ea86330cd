"""
Enable replication: check both sides at once, prepare, arm, seed, until the first point is listed.

Called for a new item and for one whose enabling failed before. On failure or cancel everything made
on both sides is taken away again and the item stays as *Enable failed*, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from homeport.model.codec import from_plain, to_plain
from homeport.model.item import ReplicatedItem, Role
from homeport.model.machine import MachineDefinition
from homeport.model.operations import (
    Arm,
    At,
    CheckSource,
    PrepareTarget,
    Problem,
    SourceFacts,
    TargetFacts,
)
from homeport.model.protection import Event, State
from homeport.model.requests import ProtectRequest
from homeport.orchestration.networks import Networks, fit_networks, networks_of, remember
from homeport.orchestration.ports import JobRun, JobStoppedError, Json, Vault
from homeport.orchestration.program import (
    Known,
    Stubborn,
    advance_item,
    all_of,
    assign_roles,
    check_cancel,
    fresh_report,
    need,
    raised_item,
    read_item,
    show,
    stop,
    waiting_on,
    watch,
)
from homeport.orchestration.release import release_both

TASKS = (
    "Prerequisites check for enabling protection",
    "Preparing target",
    "Enable replication",
    "Initial replication",
    "First recovery point",
)
CHECK, PREPARE, ENABLE, SEED, FIRST_POINT = range(5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Enabling:
    """What the checks have settled; everything after them goes by it."""

    known: Known
    item: ReplicatedItem  # with its epoch
    definition: MachineDefinition
    networks: Networks


def protect(run: JobRun) -> dict[str, Json]:
    """The program of `JobKind.ENABLE`."""
    known = read_item(run)
    try:
        plan = _check(run, known)
    except JobStoppedError as stopped:
        _give_up(run, known, stopped.error)
        raise
    try:
        _make(run, plan)
        return _seed(run, plan)
    except JobStoppedError as stopped:
        release_both(run, plan.item)
        _give_up(run, known, stopped.error)
        raise


def _check(run: JobRun, known: Known) -> Enabling:
    """All problems of both sides at once; nothing but the epoch has changed after it."""
    run.task(CHECK)
    asked = from_plain(ProtectRequest, run.job.request)
    source = need(
        run,
        "check the source",
        known.item.primary.host,
        CheckSource(machine=known.item.primary.machine),
        SourceFacts,
    )
    problems = list(source.problems)
    if source.definition is None:
        raise _not_protectable(known, problems)
    definition = source.definition.unmanaged() if asked.unmanaged else source.definition
    item, networks = _settle(run, known, definition, asked)
    plan = Enabling(known=known, item=item, definition=definition, networks=networks)
    problems += _prepare(run, plan, only_check=True)
    if problems:
        raise _not_protectable(known, problems)
    check_cancel(run)
    return plan


def _settle(
    run: JobRun, known: Known, definition: MachineDefinition, asked: ProtectRequest
) -> tuple[ReplicatedItem, Networks]:
    """The item's epoch and its networks, recorded."""

    def act(vault: Vault) -> Json:
        pool = definition.disks[0].pool if definition.disks else ""
        home = replace(known.item, primary=replace(known.item.primary, pool=pool))
        item = raised_item(vault, home, run)
        networks = fit_networks(
            networks_of(definition),
            asked=asked.networks,
            mapped=vault.network_map(item.primary.site, item.recovery.site),
        )
        facts = remember(vault.item(item.id).facts, item.active.other, networks)
        facts["disks"] = [disk.name for disk in definition.disks]
        facts["shape"] = {"memory": definition.memory, "vcpus": definition.vcpus}
        vault.put_facts(item.id, facts)
        return {"item": to_plain(ReplicatedItem, item), "networks": networks}

    answer = run.step("settle epoch and networks", act)
    return from_plain(ReplicatedItem, answer["item"]), answer["networks"]


def _prepare(run: JobRun, plan: Enabling, *, only_check: bool) -> tuple[Problem, ...]:
    seat = plan.item.recovery
    answer = need(
        run,
        "check the target" if only_check else "prepare the target",
        seat.host,
        PrepareTarget(
            item=plan.item.id,
            name=plan.item.name,
            vault=plan.known.vault,
            epoch=plan.item.epoch,
            definition=plan.definition,
            pool=seat.pool,
            networks=plan.networks,
            only_check=only_check,
        ),
        TargetFacts,
    )
    return answer.problems


def _make(run: JobRun, plan: Enabling) -> None:
    """The target's folder and ledger, the source's tracking, and both hosts' assignments."""
    item = plan.item
    run.task(PREPARE)
    problems = _prepare(run, plan, only_check=False)
    if problems:
        raise _not_protectable(plan.known, list(problems))
    check_cancel(run)
    run.task(ENABLE)
    need(run, "arm the source", item.primary.host, _arm(run, plan), At)

    def act(vault: Vault) -> Json:
        advance_item(vault, item.id, Event.ARMED, seen=State.ENABLING)
        assign_roles(
            vault,
            item.id,
            {item.primary.host: (Role.SOURCE, True), item.recovery.host: (Role.TARGET, True)},
        )
        vault.put_facts(item.id, {"seed_began": vault.now().isoformat()})

    run.step("assign both hosts", act)


def _arm(run: JobRun, plan: Enabling) -> Arm:
    item = plan.item

    def act(vault: Vault) -> Json:
        cache = vault.cache_of(item.primary.site)
        policy = vault.policy(item.policy)
        return to_plain(
            Arm,
            Arm(
                item=item.id,
                name=item.name,
                vault=plan.known.vault,
                epoch=item.epoch,
                machine=item.primary.machine,
                cache=cache,
                policy=policy,
                unmanaged=from_plain(ProtectRequest, run.job.request).unmanaged,
            ),
        )

    return from_plain(Arm, run.step("read cache store and policy", act))


def _seed(run: JobRun, plan: Enabling) -> dict[str, Json]:
    """Wait for the first copy and the first point; both hosts do it by their assignments."""
    item = plan.item
    stubborn = Stubborn()
    run.task(SEED)
    shipped = partial(_shipped, run=run, item=item, stubborn=stubborn)
    watch(run, "the first copy is shipped", shipped)
    run.task(FIRST_POINT)
    listed = partial(_listed, run=run, item=item, stubborn=stubborn)
    point = watch(run, "the first point is listed", listed)

    def act(vault: Vault) -> Json:
        advance_item(vault, item.id, Event.SEEDED, seen=State.SEEDING)
        took = (vault.now() - run.job.created_at).total_seconds()
        source = fresh_report(vault, item.id, item.primary.host, item.epoch)
        moved = source.bytes_moved if source else 0
        began = vault.item(item.id).facts.get("seed_began")
        seed = (vault.now() - datetime.fromisoformat(began)).total_seconds() if began else took
        target = fresh_report(vault, item.id, item.recovery.host, item.epoch)
        changed = sum(one.changed for one in target.points) if target else 0
        facts = {"enable_took": took, "enable_moved": moved, "seed_took": seed}
        facts["enable_changed"] = changed
        vault.put_facts(item.id, {**facts, "seed_began": None, "problem": None})
        return {"enable_took": took, "bytes_moved": moved}

    return {"point": point["position"], **run.step("protected", act)}


def _shipped(vault: Vault, run: JobRun, item: ReplicatedItem, stubborn: Stubborn) -> Json | None:
    source = fresh_report(vault, item.id, item.primary.host, item.epoch)
    target = fresh_report(vault, item.id, item.recovery.host, item.epoch)
    if (target and target.points) or (source and source.phase == "replicating"):
        return {}
    show(vault, run, SEED, source, waits_for=waiting_on(vault, item.primary, item.recovery))
    return stubborn.ends(vault, source, target)


def _listed(vault: Vault, run: JobRun, item: ReplicatedItem, stubborn: Stubborn) -> Json | None:
    source = fresh_report(vault, item.id, item.primary.host, item.epoch)
    target = fresh_report(vault, item.id, item.recovery.host, item.epoch)
    points = [point.position for point in target.points] if target else []
    new = [position for position in points if position.epoch >= item.epoch]
    if new:
        return {"position": str(min(new))}
    show(vault, run, FIRST_POINT, target, waits_for=waiting_on(vault, item.recovery))
    return stubborn.ends(vault, source, target)


def _not_protectable(known: Known, problems: list[Problem]) -> JobStoppedError:
    machine = known.item.primary.machine
    if not problems:
        return stop(
            "UnknownMachine",
            f"{known.item.primary.host} has no machine {machine}.",
            remedy="Correct the name, or define the machine there.",
        )
    message = f"{machine} cannot be protected as things stand."
    return JobStoppedError(all_of(problems, code="NotProtectable", message=message))


def _give_up(run: JobRun, known: Known, problem: Problem) -> None:
    item = known.item

    def act(vault: Vault) -> Json:
        for seen in (State.ENABLING, State.SEEDING):
            if vault.move(item.id, Event.ENABLE_FAILED, seen=seen):
                vault.put_facts(item.id, {"problem": problem})
        return {}

    run.step("enabling has failed", act)
