"""
Which points to keep: everything lately, then one an hour, then nothing.

What is pinned (held by a person, tested, in use, or labelled) is kept whatever its age, and the
newest point is always kept: if no new one can be made, old ones outlive the retention.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from homeport.model.messages import PointReport
from homeport.model.policy import ReplicationPolicy
from homeport.model.position import Position

HOUR = timedelta(hours=1)


def to_prune(
    points: Sequence[PointReport],
    policy: ReplicationPolicy,
    now: datetime,
    pinned: Collection[Position] = (),
) -> tuple[Position, ...]:
    """
    Positions of the points that may go, oldest first. `points` are in order of position.

    Of each hour beyond `keep_all` the newest point stays, an app-consistent one before others.
    """
    if not points:
        return ()
    newest = points[-1].position
    best: dict[datetime, PointReport] = {}
    candidates = []
    for point in points[:-1]:
        age = now - point.taken_at
        if point.position in pinned or age <= policy.keep_all or point.position == newest:
            continue
        candidates.append(point)
        if age <= policy.retention:
            hour = point.taken_at.replace(minute=0, second=0, microsecond=0)
            kept = best.get(hour)
            if kept is None or _worth(point) >= _worth(kept):
                best[hour] = point
    kept_positions = {point.position for point in best.values()}
    return tuple(p.position for p in candidates if p.position not in kept_positions)


def _worth(point: PointReport) -> tuple[bool, datetime]:
    return (point.consistency.value.startswith("app"), point.taken_at)
