"""Room on a host beside what is held back, with its figures; and who belongs to what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from homeport.model.capacity import capacity_errors, free_on
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
    left_of,
    made_name,
    users_of,
)
from homeport.units import GiB

GROUP, SET, RESERVATION = ResourceKind
W1 = HostName("w1")


def seated(machine: str, memory: int = 2, *, runs: bool = True, host: str = "w1") -> Seated:
    return Seated(host=HostName(host), machine=machine, memory=memory * GiB, vcpus=1, runs=runs)


def site(
    *there: Seated,
    holds: dict[str, tuple[int, int]] | None = None,
    members: dict[str, str] | None = None,
    memory: int = 8,
    cpus: int = 4,
) -> Surroundings:
    """One host; `holds` of it by reservation in GiB and vCPUs, `members` by machine."""
    kept = holds or {}
    return Surroundings(
        site=SiteName("west"),
        hosts=(HostShape(name=W1, alive=True, memory=memory * GiB, memory_free=GiB, cpus=cpus),),
        seated=there,
        held=SiteResources(
            resources=tuple(
                Resource(kind=RESERVATION, name=name, holds={W1: Hold(memory=m * GiB, vcpus=vcpus)})
                for name, (m, vcpus) in kept.items()
            ),
            memberships=tuple(
                Membership(machine=machine, kind=RESERVATION, name=name)
                for machine, name in (members or {}).items()
            ),
        ),
    )


def need(memory: int = 2, vcpus: int = 1, reservation: str | None = None) -> Need:
    return Need(machine="shop", memory=memory * GiB, vcpus=vcpus, reservation=reservation)


def codes(around: Surroundings, asked: Need, **options: Any) -> list[str]:
    (host,) = around.hosts
    return [error.code for error in capacity_errors(around, host, asked, **options)]


SIZES: dict[str, tuple[Surroundings, Need, list[str]]] = {
    "an empty host": (site(), need(), []),
    "the whole of it": (site(), need(8, 4), []),
    "more than it has": (site(), need(9), ["NotEnoughMemory"]),
    "more vCPUs than CPUs": (site(), need(1, 5), ["NotEnoughCpus"]),
    "more of both": (site(), need(9, 5), ["NotEnoughMemory", "NotEnoughCpus"]),
    "not known, so it fits": (site(holds={"r": (8, 4)}), need(0, 0), []),
    "held for others, and enough beside": (site(holds={"r": (6, 3)}), need(2, 1), []),
    "memory held for others": (site(holds={"r": (7, 0)}), need(2), ["CapacityHeldBack"]),
    "vCPUs held for others": (site(holds={"r": (0, 4)}), need(1, 1), ["CapacityHeldBack"]),
    "two reservations add up": (
        site(holds={"r": (3, 0), "q": (4, 0)}),
        need(2),
        ["CapacityHeldBack"],
    ),
    "what others hold is not taken though members run there": (
        site(seated("mail", 4), holds={"r": (4, 0)}, members={"mail": "r"}),
        need(5),
        ["CapacityHeldBack"],
    ),
    "it draws on what is held": (site(holds={"r": (7, 3)}), need(4, 2, "r"), []),
    "its reservation is too small": (
        site(holds={"r": (1, 1)}),
        need(2, 1, "r"),
        ["ReservationExhausted"],
    ),
    "its reservation has too few vCPUs": (
        site(holds={"r": (4, 1)}),
        need(2, 2, "r"),
        ["ReservationExhausted"],
    ),
    "another member draws on it already": (
        site(seated("mail", 3), holds={"r": (4, 4)}, members={"mail": "r"}),
        need(2, 1, "r"),
        ["ReservationExhausted"],
    ),
    "another member stands by on it": (
        site(seated("mail", 3, runs=False), holds={"r": (4, 4)}, members={"mail": "r"}),
        need(2, 1, "r"),
        ["ReservationExhausted"],
    ),
    "itself is not counted": (
        site(seated("shop", 3), holds={"r": (4, 4)}, members={"shop": "r"}),
        need(3, 1, "r"),
        [],
    ),
    "its reservation holds memory only": (site(holds={"r": (8, 0)}), need(2, 1, "r"), []),
    "its reservation holds vCPUs only": (site(holds={"r": (0, 4)}), need(2, 1, "r"), []),
    "its reservation is gone": (site(holds={"q": (1, 1)}), need(2, 1, "gone"), []),
}


@pytest.mark.parametrize(("around", "asked", "found"), SIZES.values(), ids=SIZES)
def test_by_the_hosts_size(around: Surroundings, asked: Need, found: list[str]) -> None:
    assert codes(around, asked) == found


FREE: dict[str, tuple[Surroundings, Need, list[str]]] = {
    "nothing runs": (site(), need(8), []),
    "what runs leaves enough": (site(seated("mail", 6)), need(2), []),
    "what runs leaves too little": (site(seated("mail", 7)), need(2), ["NotEnoughMemory"]),
    "what stands by takes nothing": (site(seated("mail", 7, runs=False)), need(2), []),
    "it runs there itself": (site(seated("shop", 2), seated("mail", 6)), need(2), []),
    "the rest is held back": (
        site(seated("x", 3), holds={"r": (4, 0)}),
        need(2),
        ["CapacityHeldBack"],
    ),
    "full, and held back besides": (
        site(seated("x", 7), holds={"r": (2, 0)}),
        need(2),
        ["CapacityHeldBack"],
    ),
    "what is held back is drawn by who runs": (
        site(seated("mail", 4), holds={"r": (4, 0)}, members={"mail": "r"}),
        need(4),
        [],
    ),
    "half of what is held back is drawn": (
        site(seated("mail", 2), holds={"r": (4, 0)}, members={"mail": "r"}),
        need(5),
        ["CapacityHeldBack"],
    ),
}


@pytest.mark.parametrize(("around", "asked", "found"), FREE.values(), ids=FREE)
def test_beside_what_runs(around: Surroundings, asked: Need, found: list[str]) -> None:
    free = free_on(around, around.hosts[0], without="shop")
    assert codes(around, asked, free=free) == found


def test_the_figures_are_told() -> None:
    around = site(holds={"r": (7, 1)})
    (error,) = capacity_errors(around, around.hosts[0], need(2))
    assert error.message == (
        "w1 has 8 GiB and 4 vCPUs; 7 GiB and 1 vCPU of it is held back for others, and shop "
        "needs 2 GiB and 1 vCPU."
    )
    around = site(seated("mail", 3), holds={"r": (4, 4)}, members={"mail": "r"})
    (error,) = capacity_errors(around, around.hosts[0], need(2, 1, "r"))
    assert error.message == (
        "Capacity reservation r has 1 GiB and 3 vCPUs left on w1; shop needs 2 GiB and 1 vCPU."
    )


def test_a_reservation_that_holds_nothing_on_the_host_is_exhausted_there() -> None:
    around = site(holds={"r": (8, 4)})
    elsewhere = replace(around.hosts[0], name=HostName("w2"))
    (error,) = capacity_errors(around, elsewhere, need(2, 1, "r"))
    assert error.code == "ReservationExhausted"


def test_what_is_left_of_a_reservation() -> None:
    around = site(seated("mail", 3), holds={"r": (4, 4)}, members={"mail": "r", "shop": "r"})
    assert left_of(around, "w1", need(reservation="r")) == Hold(memory=GiB, vcpus=3)
    assert left_of(around, "w2", need(reservation="r")) == Hold(memory=0, vcpus=0)
    assert left_of(around, "w1", need()) is None


@pytest.mark.parametrize(
    ("name", "suffix", "made"),
    [
        ("web", "-asr", "web-asr"),
        ("web-asr", "-asr", "web-asr"),
        ("disks", "asr", "disksasr"),
        ("disksasr", "asr", "disksasr"),
        ("x" * 63, "-asr", "x" * 59 + "-asr"),
    ],
)
def test_a_made_name_never_grows(name: str, suffix: str, made: str) -> None:
    assert made_name(name, suffix) == made
    assert made_name(made, suffix) == made


def test_members_that_are_gone_use_nothing() -> None:
    around = site(seated("mail"), holds={"r": (1, 1)}, members={"mail": "r", "gone": "r"})
    assert around.held.members(RESERVATION, "r") == ("gone", "mail")
    assert users_of(around, RESERVATION, "r") == ("mail",)
