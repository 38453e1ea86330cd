"""
Making, changing and deleting a site's groups, sets and reservations on request.

Runs inside one `books()` transaction of its caller: what is refused changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from homeport.errors import NotFoundError, RefusedError
from homeport.model.ids import SiteName, check_name
from homeport.model.requests import CapacityRequest, GroupRequest, SetRequest
from homeport.model.resources import (
    GroupLock,
    Hold,
    LockLevel,
    Resource,
    ResourceKind,
    Surroundings,
    users_of,
)
from homeport.orchestration.books import Books
from homeport.orchestration.customise import unknown

GROUP, SET, RESERVATION = ResourceKind
Change = GroupRequest | SetRequest | CapacityRequest
UNLOCK = "none"
DEFAULT_LOCK = "locked"
"""What a lock is called that was given no name."""


class ResourceInUseError(RefusedError):
    """A resource that machines belong to."""

    code = "ResourceInUse"

    def __init__(self, kind: ResourceKind, site: str, name: str, users: tuple[str, ...]) -> None:
        super().__init__(
            f"{kind.words.capitalize()} {site}/{name} is used by {', '.join(users)}.",
            cause="They are placed, or kept room for, by it.",
            remedy="Take them out first, or disable their items.",
        )
        self.kind = kind
        self.users = users


class GroupLockedError(RefusedError):
    """A resource group that somebody has locked."""

    code = "GroupLocked"

    def __init__(self, site: str, name: str, lock: GroupLock) -> None:
        super().__init__(
            f"Resource group {site}/{name} carries the {lock.level.value} lock {lock.name}.",
            cause="Somebody has locked it against that.",
            remedy=f"Lift it first (homeport group unlock {site}/{name}).",
        )
        self.lock = lock


def find(books: Books, site: SiteName, kind: ResourceKind, name: str) -> Resource:
    """
    A resource of a site.

    Raises:
        NotFoundError: there is none of that kind and name.
    """
    around = books.resources.around(site)
    found = around.held.find(kind, check_name(kind.words, name))
    if found is None:
        raise unknown(around, kind, name)
    return found


def put(books: Books, site: SiteName, kind: ResourceKind, name: str, asked: Change) -> Resource:
    """
    Make a resource, or change what is given of it.

    Raises:
        InvalidNameError: the name is none.
        GroupLockedError: its members were to be changed under a read-only lock.
        NotFoundError: `UnknownMachine` or `UnknownHost`: the site has none of that name.
        NoHostForAvailabilitySetError: two of the members stand on one host.
    """
    around = books.resources.around(site)
    before = around.held.find(kind, check_name(kind.words, name))
    made = _changed(before or Resource(kind=kind, name=name), asked)
    _check_hosts(around, made)
    if asked.members is not None:
        _check_members(around, made, before, asked.members)
    books.resources.put(site, made)
    if asked.members is not None:
        _have_members(books, around, made, asked.members)
    return made


def delete(books: Books, site: SiteName, kind: ResourceKind, name: str) -> None:
    """
    Delete a resource that nobody uses.

    Raises:
        NotFoundError: there is none.
        GroupLockedError, ResourceInUseError: it is locked, or in use, by whom is said.
    """
    found = find(books, site, kind, name)
    if found.lock is not None:
        raise GroupLockedError(site, name, found.lock)
    users = users_of(books.resources.around(site), kind, name)
    if users:
        raise ResourceInUseError(kind, site, name, users)
    books.resources.remove(site, kind, name)


def _changed(found: Resource, asked: Change) -> Resource:
    if isinstance(asked, GroupRequest) and asked.lock is not None:
        return replace(found, lock=_lock(asked), made_for=None)
    if isinstance(asked, CapacityRequest) and asked.holds is not None:
        holds = {host: hold for host, hold in asked.holds.items() if hold.memory or hold.vcpus}
        return replace(found, holds=holds, made_for=None)
    return replace(found, made_for=None)  # it is the user's from now on


def _lock(asked: GroupRequest) -> GroupLock | None:
    if asked.lock in (None, UNLOCK):
        return None
    return GroupLock(name=asked.lock_name or DEFAULT_LOCK, level=LockLevel(asked.lock))


def _check_hosts(around: Surroundings, resource: Resource) -> None:
    for name, hold in resource.holds.items():
        host = around.host(name)
        if host is None:
            raise NotFoundError(
                f"{around.site} has no host {name}.",
                code="UnknownHost",
                cause="No agent of that name has signed in there.",
                remedy=f"Look at the list (homeport site show {around.site}).",
            )
        others = [
            other.holds[name]
            for other in around.held.of_kind(ResourceKind.RESERVATION)
            if name in other.holds and other.name != resource.name
        ]
        _check_sum(host.name, Hold(memory=host.memory, vcpus=host.cpus), [hold, *others])


def _check_sum(host: str, size: Hold, holds: Iterable[Hold]) -> None:
    held = list(holds)
    memory, vcpus = sum(hold.memory for hold in held), sum(hold.vcpus for hold in held)
    if min(hold.memory for hold in held) < 0 or min(hold.vcpus for hold in held) < 0:
        raise RefusedError(
            "What is held back cannot be below nothing.",
            code="InvalidRequest",
            remedy="Give memory and vCPUs of 0 or more.",
        )
    if memory > size.memory or vcpus > size.vcpus:
        raise RefusedError(
            f"All reservations together would hold back {memory} bytes and {vcpus} vCPUs of "
            f"{host}, which has {size.memory} bytes and {size.vcpus} CPUs.",
            code="HostTooSmall",
            cause="What is promised to members must be there.",
            remedy="Hold back less, or lower another reservation (homeport capacity list).",
        )


def _check_members(
    around: Surroundings, made: Resource, before: Resource | None, members: tuple[str, ...]
) -> None:
    lock = before.lock if before else None
    if lock is not None and lock.level is LockLevel.READ_ONLY and made.lock is not None:
        raise GroupLockedError(around.site, made.name, lock)
    there = {s.machine for s in around.seated} | {m for h in around.hosts for m in h.machines}
    unknown_ones = [name for name in members if name not in there]
    if unknown_ones:
        raise NotFoundError(
            f"There is no machine {unknown_ones[0]} in {around.site}.",
            code="UnknownMachine",
            cause="None of the site's agents has it in its list, and no item stands by there.",
            remedy=f"Look at the list (homeport vm list --site {around.site}).",
        )
    if made.kind is SET:
        _check_apart(around, made, members)


def _check_apart(around: Surroundings, made: Resource, members: tuple[str, ...]) -> None:
    taken: dict[str, str] = {}
    for seated in around.seated:
        if seated.machine not in members:
            continue
        other = taken.setdefault(seated.host, seated.machine)
        if other != seated.machine:
            raise RefusedError(
                f"{other} and {seated.machine} both stand on {seated.host}.",
                code="NoHostForAvailabilitySet",
                cause=f"Machines of availability set {made.name} do not share a host, running or "
                "standing by.",
                remedy="Move one of them to another host first.",
            )


def _have_members(
    books: Books, around: Surroundings, made: Resource, members: tuple[str, ...]
) -> None:
    for machine in around.held.members(made.kind, made.name):
        if machine not in members:
            books.resources.leave(around.site, machine, made.kind)
    for machine in members:
        books.resources.join(around.site, machine, made.kind, made.name)
