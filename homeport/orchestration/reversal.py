"""
What a reprotect will be: its questions to both sides, and the review made from their answers. Pure.

The API's review and the job make the same one: the job refuses on the problems that the review has
shown. A way that is asked for can only be dearer than the one that is known to be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from homeport.errors import RefusedError
from homeport.model.estimate import DEFAULT_RATES, Rates
from homeport.model.item import ReplicatedItem, Side
from homeport.model.messages import ItemReport
from homeport.model.operations import AskFacts, SideFacts
from homeport.model.planning import Way
from homeport.model.protection import State
from homeport.model.requests import ReprotectRequest
from homeport.model.review import Review, ReviewInput, review
from homeport.orchestration.networks import Networks, fit_networks, networks_of, towards
from homeport.orchestration.ports import ItemRow
from homeport.units import MiB

TELLING = 256 * MiB
"""Bytes of a first copy from which on its time says something of the link, not of the job."""
FORCED = {
    Way.DIFFERENTIAL: "every block is compared, because it was asked for",
    Way.FULL: "everything is copied, because it was asked for; the old disks are kept",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reversal:
    """A reprotect as asked for, with what the vault knows. `mapped`: from the running side."""

    row: ItemRow
    asked: ReprotectRequest
    mapped: Mapping[str, str]
    cache: str  # its URL; empty when the running side's site has none
    running: ItemReport | None = None  # for measured rates

    @property
    def item(self) -> ReplicatedItem:
        """The item, with the pool asked for on the standby side."""
        item = self.row.item
        if self.asked.pool is None:
            return item
        seat = replace(item.standby, pool=self.asked.pool)
        if item.active is Side.RECOVERY:
            return replace(item, primary=seat)
        return replace(item, recovery=seat)

    def networks(self, running: SideFacts | None) -> Networks:
        """The running machine's networks to the other side's."""
        return fit_networks(
            networks_of(running.definition if running else None),
            asked=self.asked.networks,
            mapped=self.mapped,
            came_by=towards(self.row.facts, self.row.item.active),
        )

    def question(self, running: SideFacts | None) -> AskFacts:
        """What the old side is asked; the running side is asked first, for its definition."""
        definition = running.definition if running else None
        return AskFacts(
            item=self.row.item.id,
            networks=tuple(sorted({to for to in self.networks(running).values() if to})),
            memory=definition.memory if definition else 0,
            pool=self.item.standby.pool,
        )


def make_review(
    given: Reversal, running: SideFacts | None, old: SideFacts | None, *, state: State | None = None
) -> Review:
    """
    The review of `given`; None for a side that does not answer.

    `state` is the item's before a job moved it on.

    Raises:
        RefusedError: the way asked for is not one, or the original machine was to be deleted.
    """
    forced = parse_way(given.asked.way)
    made = review(
        ReviewInput(
            item=given.item,
            state=state or given.row.state,
            running=running,
            old=_as_if(old, forced),
            cache=given.cache or (given.asked.cache.url if given.asked.cache else ""),
            cache_is_new=not given.cache and given.asked.cache is not None,
            networks=given.networks(running),
            rates=rates_of(given.row.facts, running, old, given.running),
            enable_took=timedelta(seconds=given.row.facts.get("enable_took", 0.0)),
            keep_machine=given.asked.keep_machine,
        )
    )
    return replace(
        _reworded(made, forced),
        problems=(*made.problems, *_cache_problems(given)),
    )


def parse_way(text: str | None) -> Way | None:
    """
    The way a request forces, or None.

    Raises:
        RefusedError: it is not one that can be forced.
    """
    if text is None:
        return None
    if text not in (way.value for way in FORCED):
        raise RefusedError(
            f"{text!r} is not a resync that can be asked for.",
            code="InvalidWay",
            cause="Only ways that are right whatever the two sides hold can be forced.",
            remedy="Ask for 'differential' or 'full', or leave it out.",
        )
    return Way(text)


def _as_if(old: SideFacts | None, forced: Way | None) -> SideFacts | None:
    """The old side as the planning must see it to choose the way that was asked for."""
    if old is None or forced is None:
        return old
    if forced is Way.FULL:
        return replace(old, disks=())
    doubted = (replace(disk, untouched=False, reason=FORCED[forced]) for disk in old.disks)
    return replace(old, disks=tuple(doubted))


def _reworded(made: Review, forced: Way | None) -> Review:
    """A full copy that was asked for says so, and what becomes of the old disks."""
    if forced is not Way.FULL or not made.disks:
        return made
    reason = FORCED[Way.FULL]
    plans = tuple(replace(disk, reason=reason) for disk in made.plan.disks)
    disks = tuple(replace(disk, reason=reason) for disk in made.disks)
    plan = replace(made.plan, common=None, disks=plans)
    return replace(made, reason=reason, plan=plan, disks=disks)


def _cache_problems(given: Reversal) -> list[dict[str, str]]:
    site = given.row.item.running.site
    if given.cache and given.asked.cache and given.asked.cache.url != given.cache:
        return [
            RefusedError(
                f"{site} has the cache store {given.cache} already.",
                code="CacheInUse",
                cause="A site has one cache store, and other items may be using it.",
                remedy="Leave the option out, or change the site's "
                f"(homeport site set-cache {site} URL).",
            ).as_dict()
        ]
    if not given.cache and given.asked.cache is None:
        return [
            RefusedError(
                f"{site} has no cache store.",
                code="NoCacheStore",
                cause="The machine runs there now, and its writes wait in its own site's store.",
                remedy="Name one in the request, or give the site one (homeport site set-cache).",
            ).as_dict()
        ]
    return []


def rates_of(
    facts: Mapping[str, object],
    running: SideFacts | None,
    old: SideFacts | None,
    report: ItemReport | None = None,
) -> Rates:
    """Measured rates where there are some; the slower side digests for both."""
    took = _number(facts.get("enable_took"))
    moved = _number(facts.get("enable_moved"))
    digests = [side.digest_rate for side in (running, old) if side and side.digest_rate > 0]
    rate = report.progress.rate if report and report.progress else 0.0
    return Rates(
        read=DEFAULT_RATES.read,
        digest=min(digests, default=DEFAULT_RATES.digest),
        link=rate or (moved / took if took and moved >= TELLING else DEFAULT_RATES.link),
        churn=_number(facts.get("churn")),
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
