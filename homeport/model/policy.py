"""The replication policy: how often points are taken, and how long they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from homeport.errors import RefusedError
from homeport.model.ids import check_name


class CommitTimer(StrEnum):
    """What happens by itself when a failover has waited long enough for a person."""

    NONE = "none"
    COMMIT = "commit"
    UNDO = "undo"


class InvalidPolicyError(RefusedError):
    """Policy values that contradict each other."""

    code = "InvalidPolicy"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicationPolicy:
    """
    How an item is replicated.

    `interval` is the time between two captures; `rpo_target` is the loss that counts as healthy.
    Everything within `keep_all` is kept, older points by the hour until `retention` ends.
    """

    name: str
    rpo_target: timedelta = timedelta(minutes=5)
    interval: timedelta = timedelta(seconds=60)
    retention: timedelta = timedelta(days=1)
    keep_all: timedelta = timedelta(hours=2)
    app_consistent_interval: timedelta | None = None
    unsent_retention: timedelta = timedelta(days=7)
    commit_timer: CommitTimer = CommitTimer.NONE
    commit_after: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        check_name("policy", self.name)
        if self.interval <= timedelta(0) or self.rpo_target < self.interval:
            raise InvalidPolicyError(
                f"Policy {self.name}: the interval must be above 0 and not above the RPO target.",
                cause="A point taken less often than the target allows would always be late.",
                remedy="Raise the RPO target or lower the interval.",
            )
        if self.retention < self.keep_all:
            raise InvalidPolicyError(
                f"Policy {self.name}: the retention is shorter than the time in which every point "
                "is kept.",
                remedy="Raise retention or lower keep_all.",
            )
        app = self.app_consistent_interval
        if app is not None and app < self.interval:
            raise InvalidPolicyError(
                f"Policy {self.name}: app-consistent points come more often than points.",
                remedy="Raise the app-consistent interval or lower the interval.",
            )
