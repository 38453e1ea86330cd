"""
What a reprotect's new direction goes into: each setting, whether it is made, and why it is fixed.

The server settles it from the vault, the request and the old side's facts; the review shows it, the
checks look at it, and the job makes what is new.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from homeport.model.operations import Problem
from homeport.model.resources import GroupLock


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A name, empty for none; `new`: it would be made; `fixed`: why it cannot be another."""

    value: str = ""
    new: bool = False
    fixed: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """
    Everything settled of the standby side.

    `networks` maps the running machine's to the standby's, None meaning not attached. `problems`
    are those of the host: its capacity, and who else of the set stands there.
    """

    group: Setting = field(default_factory=Setting)
    availability_set: Setting = field(default_factory=Setting)
    reservation: Setting = field(default_factory=Setting)
    pool: Setting = field(default_factory=Setting)
    networks: dict[str, str | None] = field(default_factory=dict)
    new_networks: tuple[str, ...] = ()
    networks_missing: tuple[str, ...] = ()  # and not to be made
    group_asked: str | None = None
    group_lock: GroupLock | None = None
    group_left_in: str = ""  # where the old machine was left; empty when not known, or gone
    group_now: str = ""
    pool_gone: bool = False  # the pool the old disks were left in
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
