"""
The review of a reprotect, from what both sides hold now: the agents are asked, nothing is changed.

API and portal show the same review; how it is decided is in `homeport.model.review`.
"""

from __future__ import annotations

from dataclasses import dataclass

from homeport.errors import from_dict
from homeport.model.codec import from_plain
from homeport.model.ids import HostName
from homeport.model.messages import OperationState
from homeport.model.operations import AskFacts, SideFacts
from homeport.model.requests import ReprotectRequest
from homeport.model.review import Review, keeps_machine
from homeport.orchestration import accept
from homeport.orchestration.books import Office
from homeport.orchestration.customise import Reversal
from homeport.orchestration.reprotect import read_reversal
from homeport.orchestration.reversal import make_review, parse_way

FACTS_PATIENCE = 20.0
"""Seconds a review waits for a side; it says of a silent one that it does not answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sides:
    """A reprotect as asked for, and what both sides answered; None for a silent one."""

    given: Reversal
    running: SideFacts | None
    old: SideFacts | None


def review_of(office: Office, key: str, asked: ReprotectRequest) -> Review:
    """
    What this reprotect of an item, by name or id, would do.

    Raises:
        RefusedError: the request itself cannot be; what stands in its way is in the review.
    """
    sides = sides_of(office, key, asked)
    return make_review(sides.given, sides.running, sides.old)


def sides_of(office: Office, key: str, asked: ReprotectRequest) -> Sides:
    """Ask both sides, the running one first: its definition says what the other must have."""
    parse_way(asked.way)
    with office.look() as books:
        row = accept.find(books, key)
        keeps_machine(row.item, asked=asked.keep_machine)
        given = read_reversal(books, row, asked)
        hosts = (row.item.running.host, given.item.standby.host)
        alive = {host for host in hosts if books.host_alive(host)}
    running_host, old_host = hosts
    running = old = None
    if running_host in alive:
        running = _ask(office, running_host, AskFacts(item=row.item.id))
    if old_host in alive:
        old = _ask(office, old_host, given.question(running))
    return Sides(given=given, running=running, old=old)


def _ask(office: Office, host: HostName, question: AskFacts) -> SideFacts | None:
    outcome = office.ask(host, "facts", question, item=question.item, patience=FACTS_PATIENCE)
    if outcome.done:
        return from_plain(SideFacts, outcome.result or {})
    if outcome.state is OperationState.LOST or outcome.error is None:
        return None
    raise from_dict(outcome.error)
