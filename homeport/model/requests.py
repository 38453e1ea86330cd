"""
What people may ask for, as one value each: the body of the API's call and the job's own record.

Fields that a request leaves out mean "as it is": an empty reprotect reverses everything. Fields
nobody knows are refused, because a mistyped option that is ignored would do something else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import ConfigDict

from homeport.model.ids import DiskName, HostName
from homeport.model.machine_orders import NewDisk
from homeport.model.resources import Hold

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheRequest:
    """A cache store: the URL of a folder or bucket, and what is needed to open it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    url: str
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteRequest:
    """A new site; without a cache store nothing can be replicated from it yet."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: str
    cache: CacheRequest | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MappingRequest:
    """`network` of one site stands for `to` of the other; replaces an earlier mapping of it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    source_site: str
    network: str
    target_site: str
    to: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupRequest:
    """
    Make or change a resource group. `members` are machines of the site; None leaves them.

    `lock`: `read-only`, `delete`, or `none` to lift it; `lock_name` is what people see of it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    members: tuple[str, ...] | None = None
    lock: Literal["read-only", "delete", "none"] | None = None
    lock_name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SetRequest:
    """Make or change an availability set; `members` None leaves them."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    members: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CapacityRequest:
    """Make or change a capacity reservation: what it holds back, by host; None leaves it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    holds: dict[HostName, Hold] | None = None
    members: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskRequest:
    """A disk of a new machine: empty, or a copy of `image` (a path on its host). Size in bytes."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: str
    size: int
    format: str = "raw"
    image: str | None = None

    def made(self) -> NewDisk:
        """The disk as an agent is asked for it."""
        return NewDisk(
            name=DiskName(self.name), size=self.size, format=self.format, image=self.image
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineRequest:
    """A new machine of the user's own. `memory` in bytes; host and pool are chosen if left out."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    site: str
    name: str
    memory: int
    disks: tuple[DiskRequest, ...]
    vcpus: int = 1
    host: str | None = None
    network: str | None = None
    pool: str | None = None
    start: bool = True
    logs: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProtectRequest:
    """
    Protect a machine. `name` is the item's, by default the machine's; `pool` is the target's.

    `networks` maps the machine's networks to the target's, None meaning not attached; what it
    leaves out follows the sites' network mapping, or keeps its name. `host` is chosen unless asked
    for. Left out, the group is `<name>-asr`, the set stands for the source's, and no capacity is
    drawn on; an empty name means none. `unmanaged`: its disks keep their files and names at both
    sites, `pool` is the storage account they get in the target.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    vm: str
    source_site: str
    target_site: str
    policy: str = "default"
    name: str | None = None
    pool: str | None = None
    networks: dict[str, str | None] = field(default_factory=dict)
    host: str | None = None
    resource_group: str | None = None
    availability_set: str | None = None
    capacity_reservation: str | None = None
    unmanaged: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class FailoverRequest:
    """
    Fail over, or between failover and commit: change the recovery point.

    `guest_timeout` is how many seconds the guest is given to shut down and to answer.
    `confirm_source_down`: the person asking says that the source does not run, so that the
    failover need not reach it; without that an unreachable source is a reason to refuse.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    point: str = "latest"
    planned: bool = False
    guest_timeout: float = 60.0
    confirm_source_down: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class ReprotectRequest:
    """
    Reverse the direction. Empty: reverse everything.

    `networks` maps from the running side to the other and rewrites the reverse network mapping;
    `cache` is the running site's cache store, which may be replaced while nobody else uses it;
    `pool` is the storage account, or the pool of the replica disks: another than the old disks'
    means a full copy there. `host` is one that the old disks are not on, and a full copy too.
    `way` forces a dearer resync (`differential` or `full`); `keep_machine` keeps the recovery
    site's machine after a failback. An empty name of a set or reservation means none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    networks: dict[str, str | None] = field(default_factory=dict)
    cache: CacheRequest | None = None
    pool: str | None = None
    keep_machine: bool | None = None
    way: str | None = None
    host: str | None = None
    resource_group: str | None = None
    availability_set: str | None = None
    capacity_reservation: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TestFailoverRequest:
    """Boot a point as `<vm>-test`; without a network it is isolated."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    __test__: ClassVar[bool] = False  # the name is no test for pytest

    point: str = "latest-processed"
    network: str | None = None
    guest_timeout: float = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DisableRequest:
    """
    Take everything Homeport made away; the active machine stays.

    `force` goes on without a host that does not answer; `keep_unsent` leaves set-aside images.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    force: bool = False
    keep_unsent: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A commit or an undo; `by` names the policy whose timer ran out, empty for a person."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    by: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class NoOptions:
    """A request that has nothing to choose."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
