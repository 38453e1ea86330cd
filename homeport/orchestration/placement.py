"""
Which host of a site a machine gets: a pure choice, with its reason in words.

Decided from what the hosts' inventories tell, where machines run and replicas stand, availability
sets and capacity held back. Of the hosts that fit, the one with the least memory spoken for; of
equals, the first by name, so that the same question has the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from homeport.errors import HomeportError, NotFoundError, RefusedError
from homeport.model.capacity import capacity_errors
from homeport.model.ids import HostName
from homeport.model.resources import HostShape, Need, Surroundings
from homeport.orchestration.places import UnreachableError
from homeport.units import show_size


class NoHostForAvailabilitySetError(RefusedError):
    """Every host that could take a machine has another of its availability set."""

    code = "NoHostForAvailabilitySet"

    def __init__(self, site: str, name: str, stand: Mapping[HostName, str]) -> None:
        told = ", ".join(f"{machine} on {host}" for host, machine in sorted(stand.items()))
        super().__init__(
            f"No host in {site} is left for availability set {name}. There stand: {told}.",
            cause="Machines of an availability set do not share a host, running or standing by.",
            remedy="Add a host to the site, choose another set, or take a machine out of the set "
            f"(homeport set create {site}/{name} --member ...).",
        )
        self.site = site
        self.name = name
        self.stand = dict(stand)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What is to be placed. `host` and `pool` are asked for, or None."""

    need: Need
    availability_set: str | None = None
    pool: str | None = None
    host: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """The host and pool chosen, and why."""

    host: HostName
    pool: str
    reason: str


def place(around: Surroundings, wanted: Wanted) -> Placed:
    """
    Choose a host.

    Raises:
        UnreachableError: none answers, or the one asked for does not.
        NotFoundError: `UnknownHost`: the site has none of that name.
        NoHostForAvailabilitySetError: all that could take it have another of its set.
        RefusedError: `NoPool`, `NotEnoughMemory`, `NotEnoughCpus`, `CapacityHeldBack`,
        `ReservationExhausted`: with figures.
    """
    hosts = _with_pool(around, wanted, _alive(around, wanted))
    free, taken = _apart(around, wanted, hosts)
    if not free:
        raise NoHostForAvailabilitySetError(around.site, str(wanted.availability_set), taken)
    refused: dict[str, HomeportError] = {}
    fitting = []
    for host in free:
        errors = capacity_errors(around, host, wanted.need)
        if errors:
            refused[host.name] = errors[0]
        else:
            fitting.append(host)
    if not fitting:
        raise refused[min(refused)]
    chosen = min(fitting, key=lambda host: (load(around, host), host.name))
    others = [f"not {host}: {machine} stands there" for host, machine in sorted(taken.items())]
    others += [f"not {host}: {error.message}" for host, error in sorted(refused.items())]
    return Placed(
        host=chosen.name,
        pool=wanted.pool or _writable(chosen)[0],
        reason=_reason(around, wanted, chosen, len(fitting), others),
    )


def load(around: Surroundings, host: HostShape) -> float:
    """The part of a host's memory that is spoken for: by what runs, and by what stands by."""
    taken = sum(seated.memory for seated in around.on(host.name))
    return taken / host.memory if host.memory else 1.0


def _alive(around: Surroundings, wanted: Wanted) -> list[HostShape]:
    if wanted.host is not None:
        host = around.host(wanted.host)
        if host is None:
            raise NotFoundError(
                f"{around.site} has no host {wanted.host}.",
                code="UnknownHost",
                cause="No agent of that name has signed in there.",
                remedy=f"Look at the list (homeport site show {around.site}).",
            )
        hosts = [host]
    else:
        hosts = list(around.hosts)
    alive = [host for host in hosts if host.alive]
    if not alive:
        raise UnreachableError(around.site, hosts[0].name if hosts else "any host")
    return alive


def _with_pool(around: Surroundings, wanted: Wanted, hosts: list[HostShape]) -> list[HostShape]:
    fitting = [
        host for host in hosts if _writable(host) and wanted.pool in (None, *_writable(host))
    ]
    if not fitting:
        where = f"{wanted.host} in {around.site}" if wanted.host else f"No host in {around.site}"
        verb = "has no" if wanted.host else "has a"
        raise RefusedError(
            f"{where} {verb} pool {wanted.pool or 'that can be written to'}.",
            code="NoPool",
            cause="Replica disks are made in a pool of the target.",
            remedy=f"Make one there, or name another (homeport site show {around.site}).",
        )
    return fitting


def _writable(host: HostShape) -> list[str]:
    return [pool.name for pool in host.pools if pool.writable]


def _apart(
    around: Surroundings, wanted: Wanted, hosts: list[HostShape]
) -> tuple[list[HostShape], dict[HostName, str]]:
    """The hosts without another member of the set, and who stands on the others."""
    if wanted.availability_set is None:
        return hosts, {}
    stand = around.stand(wanted.availability_set, without=wanted.need.machine)
    free = [host for host in hosts if host.name not in stand]
    return free, {host: machine for host, machine in stand.items() if around.host(host)}


def _reason(
    around: Surroundings,
    wanted: Wanted,
    chosen: HostShape,
    fitting: int,
    others: Sequence[str],
) -> str:
    taken = sum(seated.memory for seated in around.on(chosen.name))
    spoken = f"{show_size(taken)} of {show_size(chosen.memory)} of its memory is spoken for"
    if wanted.host is not None:
        return f"{chosen.name} was asked for; {spoken}"
    why = "the only host that fits" if fitting == 1 else f"the least loaded of {fitting} that fit"
    return "; ".join((f"{chosen.name} is {why}: {spoken}", *others))
