"""
The loss receipt: what a failover is known to have lost, said plainly, and completed later.

Pure. Not knowing is an answer: while the old side has not been heard, the bytes written there since
the point are not known, and the receipt says so instead of showing a nought.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from homeport.model.messages import PointReport, UnsentReport
from homeport.model.operations import FenceFacts, PromoteFacts
from homeport.model.position import Position
from homeport.model.reports import Downtime, LossReceipt
from homeport.units import show_size

NOTHING_LOST = "nothing: the machine was shut down and its last writes were carried over"
NOT_KNOWN = "not known until the old side is back"
FENCED = "the source answered and was switched off"
SHUT_DOWN = "the source was shut down by this job"
MEASURED = (
    "by the server's clock, from its order to stop the machine to the answer that it runs; the "
    "guest's own part of that by the clock of {host}"
)
CONFIRMED = "it did not answer; by asking for the failover it was taken to be down"


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """
    What is known at the moment of a failover.

    `listed` are the points on the target; `captured` the newest the source had told of. `fence` is
    None when the source did not answer.
    """

    point: Position
    listed: Sequence[PointReport]
    captured: Position | None
    fence: FenceFacts | None
    planned: bool
    stopped_at: datetime  # when the old side lost the ownership
    now: datetime
    downtime: Downtime | None = None


def write_receipt(loss: Loss) -> LossReceipt:
    """The receipt of a failover as far as it is known now."""
    point_at = next((p.taken_at for p in loss.listed if p.position == loss.point), None)
    left_out = sum(p.changed for p in loss.listed if p.position > loss.point)
    captured = max(
        (p for p in (loss.captured, loss.fence and loss.fence.captured, loss.point) if p),
    )
    nothing = loss.planned and left_out == 0
    unsent = 0 if nothing else loss.fence.unsent if loss.fence else None
    seconds = 0.0 if nothing else _span(point_at, loss.stopped_at)
    return LossReceipt(
        point=loss.point,
        point_at=point_at,
        failed_over_at=loss.now,
        planned=loss.planned,
        captured=captured,
        missing_bytes=unsent,
        missing_seconds=seconds,
        left_out=left_out,
        known=NOTHING_LOST if nothing else _known(unsent, left_out),
        assumption=_assumption(loss),
        downtime=loss.downtime,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Boot:
    """
    A boot as the server saw it: `told_at` is when the answer came, by the server's own clock.

    `waited` are the seconds the guest was given to answer, on the host it was booted on.
    """

    facts: PromoteFacts
    told_at: datetime
    waited: float

    @property
    def ran_at(self) -> datetime:
        """When the machine ran: the answer, less what the guest took, or was given, to answer."""
        facts = self.facts
        if facts.answered_at is None:
            return self.told_at - timedelta(seconds=self.waited)
        return self.told_at - max(facts.answered_at - facts.started_at, timedelta(0))


def downtime_of(boot: Boot, *, began_at: datetime | None, host: str) -> Downtime | None:
    """The interruption that began at `began_at`, by the server's clock; None if nobody saw it."""
    if began_at is None:
        return None
    answered = _span(began_at, boot.told_at) if boot.facts.answered_at else None
    return Downtime(
        began_at=began_at,
        started=_span(began_at, boot.ran_at) or 0.0,
        answered=answered,
        measured=MEASURED.format(host=host),
    )


def complete_receipt(
    receipt: LossReceipt, *, unsent: Sequence[UnsentReport], missing: int, now: datetime
) -> LossReceipt:
    """
    The receipt once the old side is back: what it held that the new one has not.

    `missing` are the bytes above the newest point landed; `unsent` the images they were set aside
    as. A receipt that is complete is only given further images, never fewer bytes.
    """
    images = {image.path: image for image in (*receipt.unsent, *unsent)}
    known = max(missing, receipt.missing_bytes or 0)
    return replace(
        receipt,
        missing_bytes=known,
        known=_known(known, receipt.left_out),
        completed_at=receipt.completed_at or now,
        unsent=tuple(images[path] for path in sorted(images)),
    )


def _span(start: datetime | None, end: datetime) -> float | None:
    return None if start is None else max(0.0, (end - start).total_seconds())


def _known(unsent: int | None, left_out: int) -> str:
    """In words what may be concluded of the bytes."""
    chosen = f", and {show_size(left_out)} in newer points that were left out" if left_out else ""
    if unsent is None:
        return NOT_KNOWN + chosen
    return f"{show_size(unsent)} that never reached this side{chosen}"


def _assumption(loss: Loss) -> str:
    if loss.planned:
        return SHUT_DOWN
    return FENCED if loss.fence else CONFIRMED
