"""
What the job programs share: reading the item, asking agents, waiting on reports, ending plainly.

Every function here keeps the rule of `ports`: what a program learns is recorded, failures too, and
the exceptions it sees are made again from the record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from homeport.errors import CancelledError, RefusedError, TransientError
from homeport.model.codec import from_plain, to_plain
from homeport.model.ids import HostName, ItemId, VaultId
from homeport.model.item import ReplicatedItem, Role, Seat
from homeport.model.messages import ItemReport, OperationState
from homeport.model.operations import OPERATIONS, Problem
from homeport.model.protection import Event, State
from homeport.orchestration.ports import (
    ItemRow,
    JobRun,
    JobStoppedError,
    Json,
    Outcome,
    Vault,
)

T = TypeVar("T")

ANSWER = 30.0
"""Seconds a host that is up needs at most to answer: one long poll of 20 s and some room."""
YEAR = 365 * 86400.0
"""For waits that end by what happens, not by time: a first copy may take weeks."""

KINDS = {args: kind for kind, (args, _) in OPERATIONS.items()}
"""The operation's name by the type of its arguments (jobs use none of those that share one)."""

STUCK = ("integrity", "refused")
"""Kinds of an agent's problem that do not go away by waiting."""
STUBBORN = timedelta(minutes=10)
"""How long such a problem may last before the job gives up: a person may free a full pool."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """The item as it was when the job began, and what else a program starts from."""

    row: ItemRow
    vault: VaultId
    now: datetime

    @property
    def item(self) -> ReplicatedItem:
        """The item itself."""
        return self.row.item


def read_item(run: JobRun, name: str = "read the item") -> Known:
    """The job's item, read once and recorded."""
    item = ItemId(str(run.job.item))

    def act(vault: Vault) -> Json:
        known = Known(row=vault.item(item), vault=vault.vault_id(), now=vault.now())
        return to_plain(Known, known)

    return from_plain(Known, run.step(name, act))


def ask(
    run: JobRun,
    name: str,
    host: HostName,
    args: object,
    *,
    patience: float = ANSWER,
    shielded: bool = False,
) -> Outcome:
    """Have an agent do what `args` says; the kind follows from their type."""
    kind = KINDS[type(args)]
    return run.operation(name, host, kind, args, patience=patience, shielded=shielded)


def need(
    run: JobRun,
    name: str,
    host: HostName,
    args: object,
    answer: type[T],
    *,
    patience: float = ANSWER,
    shielded: bool = False,
) -> T:
    """
    As `ask`, where the program cannot go on without the answer.

    Raises:
        JobStoppedError: the agent refused or failed, or its host does not answer.
    """
    outcome = ask(run, name, host, args, patience=patience, shielded=shielded)
    if not outcome.done:
        raise JobStoppedError(problem_of(outcome, host, patience))
    return from_plain(answer, outcome.result or {})


def problem_of(outcome: Outcome, host: HostName, patience: float = ANSWER) -> Problem:
    """Why an operation has no result, for people."""
    if outcome.state is OperationState.LOST or outcome.error is None:
        return unreachable(host, f"It did not answer within {patience:.0f} s.")
    return outcome.error


def unreachable(host: str, cause: str) -> Problem:
    """The problem of a host that does not answer."""
    return TransientError(
        f"The agent on {host} does not answer.",
        code="HostUnreachable",
        cause=f"{cause} The host is off, cut off, or its agent does not run.",
        remedy=f"Bring {host} back, then ask again.",
    ).as_dict()


def stop(code: str, message: str, *, cause: str = "", remedy: str = "") -> JobStoppedError:
    """An ending by a reason that is not an agent's."""
    return JobStoppedError(
        RefusedError(message, code=code, cause=cause, remedy=remedy).as_dict(),
    )


def all_of(problems: Iterable[Problem], *, code: str, message: str) -> Problem:
    """Several problems as one that names them all; a single one stays as it is."""
    found = list(problems)
    if len(found) == 1:
        return found[0]
    return RefusedError(
        f"{message} " + " ".join(problem.get("message", "") for problem in found),
        code=code,
        cause=" ".join(problem.get("cause", "") for problem in found).strip(),
        remedy=" ".join(dict.fromkeys(problem.get("remedy", "") for problem in found)).strip(),
    ).as_dict()


def check_cancel(run: JobRun) -> None:
    """End the program here if somebody has asked it to stop."""
    if run.cancelled():
        raise JobStoppedError(CancelledError("The job was cancelled.").as_dict())


def watch(
    run: JobRun, name: str, look: Callable[[Vault], Json | None], *, patience: float = YEAR
) -> Json:
    """
    Wait on what the agents report. A look answers `{"error": ...}` to end the program.

    Raises:
        JobStoppedError: that, or cancelled, or the patience is at its end.
    """
    answer = run.wait(name, look, patience=patience)
    if answer is None:
        check_cancel(run)
        raise stop(
            "TookTooLong",
            f"Waited for {patience:.0f} s, and it did not happen: {name}.",
            remedy="Look at the agents' logs on both hosts, then start the job again.",
        )
    if isinstance(answer, dict) and "error" in answer:
        raise JobStoppedError(answer["error"])
    return answer


def fresh_report(vault: Vault, item: ItemId, host: HostName, epoch: int) -> ItemReport | None:
    """The host's report, unless it is from before `epoch`."""
    report = vault.report_of(item, host)
    return report if report is not None and report.epoch >= epoch else None


@dataclass
class Stubborn:
    """
    Notices a problem that waiting does not cure: refused or damaged, and told for `STUBBORN`.

    A passing one only is shown. It forgets when the server dies: then it looks for as long again.
    """

    since: datetime | None = None

    def ends(self, vault: Vault, *reports: ItemReport | None) -> dict[str, Json] | None:
        """The answer of a look that ends the wait by the problem, or None."""
        found = [report.problem for report in reports if report and report.problem]
        stuck = [problem for problem in found if problem.get("kind") in STUCK]
        if not stuck:
            self.since = None
            return None
        self.since = self.since or vault.now()
        return {"error": stuck[0]} if vault.now() - self.since >= STUBBORN else None


def show(
    vault: Vault, run: JobRun, task: int, report: ItemReport | None, *, waits_for: str = ""
) -> None:
    """Show a host's progress as the task's, and what it waits for: a problem, if it has one."""
    problem = (report.problem or {}).get("message", "") if report else ""
    progress = report.progress if report else None
    vault.put_progress(run.job.id, task, progress, waits_for=waits_for or problem)


def waiting_on(vault: Vault, *seats: Seat) -> str:
    """Which of the hosts is not heard, in words; empty when all are."""
    silent = [seat for seat in seats if not vault.host_alive(seat.host)]
    return ", ".join(f"{seat.host} in {seat.site} does not answer" for seat in silent)


def advance_item(vault: Vault, item: ItemId, event: Event, *, seen: State) -> None:
    """
    Move the item's state on, inside a step.

    Raises:
        RefusedError: it is in another state: somebody else moved it.
    """
    if not vault.move(item, event, seen=seen):
        raise RefusedError(
            f"The item is no longer in state {seen.value!r}.",
            code="MovedMeanwhile",
            cause="Another request changed it while this job was at work.",
            remedy="Look at the item and its jobs, then ask again.",
        )


def raised_item(vault: Vault, item: ReplicatedItem, run: JobRun) -> ReplicatedItem:
    """Raise the epoch for this job, inside a step, and write the item with it."""
    epoch = vault.raise_epoch(item.id, job=run.job.id, attempt=run.job.attempt)
    raised = replace(item, epoch=epoch)
    vault.put_item(raised)
    return raised


def assign_roles(
    vault: Vault, item: ItemId, roles: Mapping[HostName, tuple[Role | None, bool]]
) -> None:
    """Tell each host what it is for the item, and whether it replicates."""
    for host, (role, replicate) in roles.items():
        vault.assign(item, host, role, replicate=replicate)
