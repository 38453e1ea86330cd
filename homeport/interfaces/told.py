"""
What is told of an item, a loss receipt and a review: the same facts in command line and portal.

Each surface draws the facts in its own way; which there are, their order and their words are here.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from homeport.interfaces.words import (
    DASH,
    Bit,
    Fact,
    Said,
    Tone,
    age,
    listed,
    moment,
    progress_words,
    said,
    seconds,
    size,
    span,
    when,
)
from homeport.model.estimate import AsrEstimate, Estimate
from homeport.model.rehearsal import Rehearsal, warning_of, words_of
from homeport.model.reports import (
    Downtime,
    ItemView,
    LossReceipt,
    PendingDecision,
    PointView,
    SeatReport,
)
from homeport.model.review import Review, Row
from homeport.model.unsent import UnsentView
from homeport.units import show_span

DISABLED = "Disabled"
PROTECTED = "Protected"
DIRECTION = "direction"
"""The review's first row, which stands in the title already."""
NO_ITEMS = "Nothing is replicated yet. Protect a machine: homeport protect SITE/VM --to SITE"
NO_POINTS = "No recovery points: there is nothing to fail over to."
NOTHING_ALLOWED = "nothing until the job has ended"


def is_alarming(view: ItemView) -> bool:
    """A loss of the running side would cost more than allowed, and somebody counts on it."""
    return view.unprotected and view.state != DISABLED


def protection(view: ItemView) -> Bit:
    """One word for how an item is."""
    if view.state == DISABLED:
        return Bit("ended", Tone.QUIET)
    if view.unprotected:
        return Bit("UNPROTECTED", Tone.LOUD)
    return Bit("protected", Tone.GOOD) if view.rpo_met else Bit("late", Tone.BAD)


def rpo(view: ItemView) -> Bit:
    """What a loss at this moment would cost, in time."""
    if view.current_rpo is None or view.state == DISABLED:
        return Bit(DASH)
    return Bit(seconds(view.current_rpo), Tone.GOOD if view.rpo_met else Tone.BAD)


def rpo_target(view: ItemView) -> str:
    """What its policy allows."""
    return show_span(timedelta(seconds=view.rpo_target))


def _rpo_now(view: ItemView) -> Said:
    if view.current_rpo is None:
        return said(Bit("none while nothing is replicated", Tone.BAD))
    return said(rpo(view), " now")


def item_facts(view: ItemView, now: datetime) -> list[Fact]:
    """What an item's page has, from where it runs to the test machine that is up."""
    found: list[Fact] = [
        ("runs on", _seat(view.running)),
        ("standby", _seat(view.standby)),
        ("RPO", (*_rpo_now(view), Bit(f", {rpo_target(view)} allowed (policy {view.policy})"))),
        ("newest point", _newest(view.newest_point, now)),
        ("points", said(str(view.points))),
        ("disks", said(listed(view.disks))),
        ("waiting to cross", said(size(view.backlog))),
        ("moved", said(f"{size(view.bytes_moved)} since this direction began")),
    ]
    return found + _passing_facts(view, now)


def _passing_facts(view: ItemView, now: datetime) -> list[Fact]:
    """What is told only while there is something to tell."""
    found: list[Fact] = []
    if view.progress:
        found.append(("at work", said(progress_words(view.progress))))
    if view.job:
        found.append(("job", said(f"{view.job}  (homeport jobs watch {view.job[:8]})")))
    if view.decision:
        found.append(("by itself", _decision(view.decision, now)))
    if view.rehearsal and view.state == PROTECTED:
        found.append(("rehearsal", said(_rehearsal(view.rehearsal))))
    if view.last_resync:
        found.append(("last resync", said(_resync(view.last_resync))))
    if view.test:
        found.append(("test machine", said(_test(view.test))))
    return found


def _newest(point: PointView | None, now: datetime) -> Said:
    if point is None:
        return said("none")
    taken = Bit(age(point.taken_at, now), at=point.taken_at)
    return said(f"{point.position}, taken ", taken, f" ago, {point.consistency}")


def _seat(seat: SeatReport) -> Said:
    phase = f", {seat.phase}" if seat.phase else ""
    where = f"  host {seat.host}, machine {seat.machine}, pool {seat.pool}{phase}"
    found = said(Bit(seat.site, Tone.STRONG), where)
    return found if seat.alive else (*found, Bit("  DOES NOT ANSWER", Tone.BAD))


def _decision(found: PendingDecision, now: datetime) -> Said:
    """What happens if nobody decides: a person must see it in time."""
    left = found.at - now
    time_left = f"in {show_span(left)}" if left > timedelta(0) else "now: its time is over"
    return (
        Bit(f"{found.what} {time_left} (", Tone.WARN),
        Bit(moment(found.at), Tone.WARN, found.at),
        Bit("), unless you decide before", Tone.WARN),
    )


def _rehearsal(found: Rehearsal) -> Bit:
    """Whether a failover was tested; a warning where it would be a failback."""
    missing = found.failback and not found.counts
    return Bit(words_of(found), Tone.WARN if missing else Tone.PLAIN)


def _resync(fact: dict[str, object]) -> str:
    reason = fact.get("reason")
    return f"{fact.get('way', DASH)}{f': {reason}' if reason else ''}"


def _test(fact: dict[str, object]) -> Bit:
    parts = [str(fact[key]) for key in ("machine", "point", "position") if fact.get(key)]
    words = f"{' at '.join(parts) or 'up'}: clean up when done (test-cleanup)"
    return Bit(words, Tone.WARN)


def failback_warning(view: ItemView) -> str:
    """What is said before a failback that nobody has rehearsed; empty where there is none ahead."""
    if view.rehearsal is None or view.state != PROTECTED:
        return ""
    return warning_of(view.rehearsal, view.name)


def marks(point: PointView) -> str:
    """What a point is to a failover's choice."""
    chosen = [("latest", point.latest), ("latest app-consistent", point.latest_app)]
    return ", ".join(
        [word for word, marked in chosen if marked] + ([point.label] if point.label else [])
    )


def receipt_facts(loss: LossReceipt) -> list[Fact]:
    """What a failover is known to have lost."""
    missing = "not known" if loss.missing_bytes is None else size(loss.missing_bytes)
    kind = "planned" if loss.planned else "unplanned"
    newer = f"{size(loss.left_out)} in newer points" if loss.left_out else "nothing newer"
    known = Bit(loss.known, Tone.GOOD if loss.missing_bytes == 0 else Tone.WARN)
    found: list[Fact] = [("failed over", said(when(loss.failed_over_at), f", {kind}"))]
    if loss.downtime:
        found.append(("interrupted", downtime(loss.downtime)))
        found.append(("measured", said(loss.downtime.measured)))
    completed = when(loss.completed_at) if loss.completed_at else "when the old side is back"
    return [
        *found,
        ("to point", said(f"{loss.point}, taken ", when(loss.point_at))),
        ("missing", said(known)),
        ("bytes missing", said(missing)),
        ("time missing", said(_time_missing(loss))),
        ("left out", said(newer)),
        ("the old side", said(loss.assumption)),
        ("completed", said(completed)),
    ]


def downtime(found: Downtime) -> Said:
    """How long the machine was away: until it ran again, and until its guest answered."""
    ran = said(Bit(_exactly(found.started), Tone.STRONG), " until the machine ran again")
    if found.answered is None:
        return (*ran, Bit("; its guest did not answer"))
    answered = Bit(_exactly(found.answered), Tone.STRONG)
    return (*ran, *said(", ", answered, " until its guest answered"))


def _exactly(value: float) -> str:
    """Seconds as a span, with tenths of short ones."""
    return show_span(timedelta(seconds=value))


def _time_missing(loss: LossReceipt) -> str:
    known = seconds(loss.missing_seconds)
    if loss.missing_bytes is None and loss.missing_seconds is not None:
        return f"{known} up to the failover; more if the old side ran on"
    return known


def unsent_end(image: UnsentView, now: datetime) -> str:
    """When an image of writes set aside goes by itself."""
    if image.expires_at is None:
        return DASH
    left = image.expires_at - now
    return f"in {show_span(left)}" if left > timedelta(0) else "with its host's next look"


def setting_facts(made: Review) -> list[Fact]:
    """A review's settings, but the direction."""
    return [(row.setting, _setting(row)) for row in made.rows if row.setting != DIRECTION]


def _setting(row: Row) -> Said:
    new = (Bit(" (new)", Tone.WARN),) if row.new else ()
    fixed = (Bit(f" (fixed: {row.fixed})"),) if row.fixed else ()
    return (Bit(row.value), *new, *fixed)


def resync_facts(made: Review) -> list[Fact]:
    """A review's resync: the way, bytes, and both estimates."""
    return [
        ("way", said(Bit(made.way.value, Tone.STRONG), f": {made.reason}")),
        (
            "bytes",
            said(f"reads {size(made.reads)} on a side, sends {size(made.sends)} at most"),
        ),
        ("time, ours", ours(made.ours)),
        ("time, ASR's formula", said(asr(made.asr))),
    ]


def ours(found: Estimate) -> Said:
    """Our estimate with its bounds."""
    total = found.total
    bounds = f" ({span(total.low)} to {span(total.high)})"
    return said(Bit(span(total.likely), Tone.STRONG), bounds)


def asr(found: AsrEstimate) -> str:
    """ASR's published formula, with its terms."""
    return (
        f"{span(found.low)} to {span(found.high)} (checksum {span(found.checksum)}, difference "
        f"{span(found.difference)}, backlog {span(found.backlog)}, 20 to 30 min to begin)"
    )


def verdict(made: Review) -> Bit:
    """Whether the reprotect can be started."""
    if not made.problems:
        words = f"Nothing stands in the way. Start it: homeport reprotect {made.item}"
        return Bit(words, Tone.GOOD)
    count = len(made.problems)
    words = "1 problem stands" if count == 1 else f"{count} problems stand"
    return Bit(f"{words} in the way; it cannot be started.", Tone.BAD)


def commands(view: ItemView) -> tuple[str, ...]:
    """What may be asked for now, as the commands to type."""
    return tuple(_command(view, word) for word in view.allowed)


def _command(view: ItemView, word: str) -> str:
    if word == "protect":  # an enabling that failed is begun again by its machine
        return f"homeport protect {view.running.site}/{view.running.machine} --to " + (
            view.standby.site
        )
    return f"homeport {word} {view.name}"
