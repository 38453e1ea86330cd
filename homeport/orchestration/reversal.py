"""
What a reprotect will be: the review made from both sides' answers. Pure.

The API's review and the job make the same one: the job refuses on the problems that the review has
shown. A way that is asked for can only be dearer than the one that is known to be right.
"""

from __future__ import annotations

from dataclasses import replace

from homeport.errors import RefusedError
from homeport.model.operations import Problem, SideFacts
from homeport.model.planning import Way
from homeport.model.protection import State
from homeport.model.rehearsal import rehearsed
from homeport.model.review import Review, ReviewInput, review
from homeport.orchestration.customise import Reversal, settle
from homeport.orchestration.rates import as_sides_digest, checksum_term

FORCED = {
    Way.DIFFERENTIAL: "every block is compared, because it was asked for",
    Way.FULL: "everything is copied, because it was asked for; the old disks are kept",
}


def make_review(
    given: Reversal, running: SideFacts | None, old: SideFacts | None, *, state: State | None = None
) -> Review:
    """
    The review of `given`; None for a side that does not answer.

    `state` is the item's before a job moved it on.

    Raises:
        RefusedError: the way asked for is not one, or the original machine was to be deleted.
    """
    forced = _forced(given, old)
    facts = given.row.facts
    made = review(
        ReviewInput(
            item=given.item,
            state=state or given.row.state,
            running=running,
            old=_as_if(old, forced),
            target=settle(given, running, old),
            cache=given.cache_url,
            cache_is_new=given.cache_url != given.cache,
            lock=given.lock,
            old_pool=given.row.item.standby.pool,
            moves=given.moves,
            rates=as_sides_digest(given.rates, running, old),
            enable_took=checksum_term(facts),
            keep_machine=given.asked.keep_machine,
            drill=bool(facts.get("test")),
            rehearsal=rehearsed(given.item, facts),
        )
    )
    problems = (*made.problems, *_cache_problems(given), *_pool_problems(given, old))
    return replace(_reworded(given, made, forced, old), problems=problems)


def _forced(given: Reversal, old: SideFacts | None) -> Way | None:
    """The way that must be gone: as asked, or full where the old disks are in another pool."""
    asked = parse_way(given.asked.way)
    return Way.FULL if _leaves_disks(given, old) else asked


def _leaves_disks(given: Reversal, old: SideFacts | None) -> bool:
    """Another pool was asked for than the one that has the old disks."""
    pool, there = given.asked.pool, old is not None and any(disk.exists for disk in old.disks)
    return there and pool is not None and pool != given.row.item.standby.pool


def _pool_problems(given: Reversal, old: SideFacts | None) -> list[Problem]:
    if old is None or not _leaves_disks(given, old) or "other-pool" in old.makes:
        return []
    return [
        RefusedError(
            f"The old disks are in pool {given.row.item.standby.pool}, and the agent on "
            f"{given.item.standby.host} makes replicas beside them.",
            code="PoolFixedByDisks",
            cause="It cannot leave them where they are and make new ones in another pool.",
            remedy="Leave the option out, ask for another host, or update the agent there.",
        ).as_dict()
    ]


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


def _reworded(given: Reversal, made: Review, forced: Way | None, old: SideFacts | None) -> Review:
    """A full copy that was asked for says so, and what becomes of the old disks."""
    if forced is not Way.FULL or not made.disks:
        return made
    reason = FORCED[Way.FULL]
    kept = _kept_words(given, old)
    plans = tuple(replace(disk, reason=reason) for disk in made.plan.disks)
    disks = tuple(
        replace(disk, reason=reason, actions=(*disk.actions, *kept.get(disk.disk, ())))
        for disk in made.disks
    )
    plan = replace(made.plan, common=None, disks=plans)
    return replace(made, reason=reason, plan=plan, disks=disks)


def _kept_words(given: Reversal, old: SideFacts | None) -> dict[str, tuple[str, ...]]:
    """What becomes of each old disk that a full copy has for a successor."""
    leaves = _leaves_disks(given, old)
    words: dict[str, tuple[str, ...]] = {}
    for disk in old.disks if old else ():
        if disk.exists:
            stays = f"kept: {disk.path} stays where it is and as it is"
            aside = f"kept: {disk.path} becomes {disk.disk}-replaced-* until it expires"
            words[disk.disk] = (stays if leaves else aside,)
    return words


def _cache_problems(given: Reversal) -> list[Problem]:
    site, users = given.row.item.running.site, ", ".join(given.cache_users)
    if given.cache and given.cache_url != given.cache and users:
        return [
            RefusedError(
                f"{site} has the cache store {given.cache} already.",
                code="CacheInUse",
                cause=f"A site has one cache store, and other items use this one: {users}.",
                remedy="Leave the option out, or change the site's when none uses it "
                f"(homeport site set-cache {site} URL).",
            ).as_dict()
        ]
    if not given.cache_url:
        return [
            RefusedError(
                f"{site} has no cache store.",
                code="NoCacheStore",
                cause="The machine runs there now, and its writes wait in its own site's store.",
                remedy="Name one in the request, or give the site one (homeport site set-cache).",
            ).as_dict()
        ]
    return []
