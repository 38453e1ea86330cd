"""Which host a machine gets: the least loaded that fits, apart from its set, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.errors import HomeportError
from homeport.model.host import Pool
from homeport.model.ids import HostName, SiteName
from homeport.model.resources import (
    Hold,
    HostShape,
    Membership,
    Need,
    Resource,
    ResourceKind,
    Seated,
    SiteResources,
    Surroundings,
)
from homeport.orchestration.placement import Wanted, place
from homeport.units import GiB

GROUP, SET, RESERVATION = ResourceKind


def pool(name: str = "disks", *, writable: bool = True) -> Pool:
    return Pool(name=name, path=f"/{name}", capacity=1, available=1, writable=writable)


def host(name: str, **shape: Any) -> HostShape:
    given = {"alive": True, "memory": 8 * GiB, "memory_free": GiB, "cpus": 4, "pools": (pool(),)}
    return HostShape(name=HostName(name), **{**given, **shape})


def stands(where: str, machine: str, memory: int = 1, *, runs: bool = True) -> Seated:
    return Seated(host=HostName(where), machine=machine, memory=memory * GiB, vcpus=1, runs=runs)


def site(*hosts: HostShape, seated: tuple[Seated, ...] = (), **held: Any) -> Surroundings:
    return Surroundings(
        site=SiteName("west"), hosts=hosts, seated=seated, held=SiteResources(**held)
    )


def in_set(*machines: str) -> dict[str, Any]:
    return {
        "resources": (Resource(kind=SET, name="web"),),
        "memberships": tuple(Membership(machine=m, kind=SET, name="web") for m in machines),
    }


def holding(**memory: int) -> dict[str, Any]:
    holds = {HostName(name): Hold(memory=much * GiB, vcpus=1) for name, much in memory.items()}
    return {"resources": (Resource(kind=RESERVATION, name="r", holds=holds),)}


SHOP = Wanted(need=Need(machine="shop", memory=2 * GiB, vcpus=1))
APART = replace(SHOP, availability_set="web")
TWO = (host("w1"), host("w2"))
CHOSEN: dict[str, tuple[Surroundings, Wanted, str]] = {
    "of equals the first by name": (site(host("w2"), host("w1")), SHOP, "w1"),
    "the least loaded": (site(*TWO, seated=(stands("w1", "mail"),)), SHOP, "w2"),
    "a replica standing by is load": (
        site(*TWO, seated=(stands("w1", "mail", runs=False),)),
        SHOP,
        "w2",
    ),
    "load is a part of the host": (
        site(
            host("w1", memory=4 * GiB),
            host("w2", memory=16 * GiB),
            seated=(stands("w1", "a", 1), stands("w2", "b", 2)),
        ),
        SHOP,
        "w2",
    ),
    "not one that is silent": (site(host("w1", alive=False), host("w2")), SHOP, "w2"),
    "not one without a pool": (site(host("w1", pools=()), host("w2")), SHOP, "w2"),
    "not one whose pool is read-only": (
        site(host("w1", pools=(pool(writable=False),)), host("w2")),
        SHOP,
        "w2",
    ),
    "the one with the pool asked for": (
        site(host("w1"), host("w2", pools=(pool(), pool("fast")))),
        replace(SHOP, pool="fast"),
        "w2",
    ),
    "not one too small": (site(host("w1", memory=GiB), host("w2")), SHOP, "w2"),
    "not one held for others": (site(*TWO, **holding(w1=7)), SHOP, "w2"),
    "apart from a member that runs": (
        site(*TWO, seated=(stands("w1", "mail"), stands("w2", "x", 6)), **in_set("mail")),
        APART,
        "w2",
    ),
    "apart from a member standing by": (
        site(*TWO, seated=(stands("w1", "mail", runs=False),), **in_set("mail")),
        APART,
        "w2",
    ),
    "its own seat does not keep it away": (
        site(host("w1"), seated=(stands("w1", "shop"),), **in_set("shop")),
        APART,
        "w1",
    ),
    "who is not in the set does not": (
        site(*TWO, seated=(stands("w1", "mail"), stands("w2", "x", 2)), **in_set()),
        APART,
        "w1",
    ),
    "the one asked for, though loaded": (
        site(*TWO, seated=(stands("w2", "mail", 4),)),
        replace(SHOP, host="w2"),
        "w2",
    ),
}


@pytest.mark.parametrize(("around", "wanted", "chosen"), CHOSEN.values(), ids=CHOSEN)
def test_chosen(around: Surroundings, wanted: Wanted, chosen: str) -> None:
    placed = place(around, wanted)
    assert placed.host == chosen
    assert placed.pool == (wanted.pool or "disks")
    assert placed.reason.startswith(chosen)


FULL = site(*TWO, seated=(stands("w1", "mail"), stands("w2", "wiki")), **in_set("mail", "wiki"))
REFUSED: dict[str, tuple[Surroundings, Wanted, str, str]] = {
    "no host at all": (site(), SHOP, "SiteUnreachable", "any host"),
    "none answers": (site(host("w1", alive=False)), SHOP, "SiteUnreachable", "w1"),
    "the one asked for is not there": (
        site(*TWO),
        replace(SHOP, host="w9"),
        "UnknownHost",
        "has no host w9",
    ),
    "the one asked for is silent": (
        site(host("w1", alive=False), host("w2")),
        replace(SHOP, host="w1"),
        "SiteUnreachable",
        "w1",
    ),
    "no pool": (site(host("w1", pools=())), SHOP, "NoPool", "that can be written to"),
    "no such pool": (site(*TWO), replace(SHOP, pool="fast"), "NoPool", "fast"),
    "every host has one of the set": (
        FULL,
        APART,
        "NoHostForAvailabilitySet",
        "mail on w1, wiki on w2",
    ),
    "the one asked for has one of the set": (
        site(*TWO, seated=(stands("w1", "mail"),), **in_set("mail")),
        replace(APART, host="w1"),
        "NoHostForAvailabilitySet",
        "mail on w1",
    ),
    "all too small": (site(host("w1", memory=GiB)), SHOP, "NotEnoughMemory", "1 GiB"),
    "all held back": (site(*TWO, **holding(w1=7, w2=8)), SHOP, "CapacityHeldBack", "7 GiB"),
}


@pytest.mark.parametrize(("around", "wanted", "code", "told"), REFUSED.values(), ids=REFUSED)
def test_refused_with_what_is_and_what_to_do(
    around: Surroundings, wanted: Wanted, code: str, told: str
) -> None:
    with pytest.raises(HomeportError) as refused:
        place(around, wanted)
    assert refused.value.code == code
    assert told in refused.value.message
    assert refused.value.remedy


def test_the_reason_names_who_was_in_the_way() -> None:
    around = site(*TWO, host("w3", memory=GiB), seated=(stands("w1", "mail"),), **in_set("mail"))
    reason = place(around, APART).reason
    assert reason == (
        "w2 is the only host that fits: 0 B of 8 GiB of its memory is spoken for; not w1: mail "
        "stands there; not w3: w3 has 1 GiB of memory; shop needs 2 GiB."
    )


@given(
    loads=st.lists(st.integers(0, 6), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
    taken=st.sets(st.integers(0, 5)),
)
def test_the_order_of_hosts_does_not_matter_and_the_set_is_never_broken(
    loads: list[int], order: Any, taken: set[int]
) -> None:
    hosts = [host(f"w{number}") for number in range(len(loads))]
    seated = [stands(f"w{n}", f"x{n}", load) for n, load in enumerate(loads)]
    seated += [stands(f"w{n}", f"m{n}", 0, runs=False) for n in taken if n < len(loads)]
    members = in_set(*(f"m{n}" for n in taken))
    shuffled = order.sample(hosts, len(hosts))
    found = []
    for given_hosts in (hosts, shuffled):
        try:
            found.append(place(site(*given_hosts, seated=tuple(seated), **members), APART).host)
        except HomeportError as error:
            found.append(HostName(error.code))
    assert found[0] == found[1]
    assert found[0] not in {f"w{n}" for n in taken}
    free = [load for number, load in enumerate(loads) if number not in taken]
    if free:
        assert loads[int(found[0][1:])] == min(free)
