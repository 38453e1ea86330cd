"""
Reprotect to a side that died inside a live commit or inside a rotation.

The moment is read from the ledger, which has its intents before anything moves; then a process is
killed by its id at once. The ledger must still say so afterwards, or the moment was missed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from homeport.errors import HomeportError
from homeport.lab.processes import sharing_namespace_of
from homeport.lab.stage import GUEST
from homeport.model.ledger import ItemLedger
from homeport.model.planning import Way
from homeport.model.position import Position
from tests.acceptance.pair import Pair

pytestmark = [pytest.mark.real, pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(420)]

MOMENTS: dict[str, Callable[[ItemLedger], object]] = {
    "live commit": lambda ledger: ledger.committing,
    "rotation": lambda ledger: ledger.rotating,
}
SHORT = [("live commit", "host"), ("rotation", "agent")]
VICTIMS = ("agent", "libvirtd", "qemu", "host")


def process_of(pair: Pair, site: str, victim: str) -> int:
    """The process to kill, looked up before the moment comes."""
    _, first = pair.stage.lab._running(site)
    if victim == "host":
        return first.pid
    if victim == "agent":
        (agent,) = pair._agents(site)
        return agent
    name = {"libvirtd": "libvirtd", "qemu": "qemu-system-x86_64"}[victim]
    (found,) = [one for one in sharing_namespace_of(first) if one.program == name]
    return found.identity.pid


def dies_in(pair: Pair, moment: str, victim: str) -> None:
    """Kill in the moment, and see that it was in it; tried again where the moment was missed."""
    site, inside = pair.here, MOMENTS[moment]
    for _ in range(20):
        pid = process_of(pair, site, victim)
        folder = pair.files(site).folder
        ends = time.monotonic() + 60
        while not inside(pair.files(site).ledger):
            assert time.monotonic() < ends, f"no {moment} within a minute"
        os.kill(pid, signal.SIGKILL)
        if inside(pair.files(site).ledger) or victim in ("libvirtd", "qemu"):
            return
        assert folder.exists()
        if victim == "host":
            pair.stage.lab.kill(site)
            pair.stage.lab.start(site)
        pair.stage.wait_alive(pair.client, site)
        if victim == "host":
            pair.client.start_vm(site, GUEST)
    raise AssertionError(f"never hit inside a {moment}")


def lost(pair: Pair, site: str) -> None:
    """The rest of the site goes too, before anything has been put right."""
    pair.stage.lose(site)


def reprotected_after(pair: Pair, moment: str, victim: str) -> None:
    old = pair.here
    dies_in(pair, moment, victim)
    lost(pair, old)
    pair.fail_over()
    pair.commit()
    pair.stage.bring_back(old)
    pair.stage.wait_alive(pair.client, old)
    review = pair.review(**pair.kept)
    assert review.way is Way.EXACT, review.reason
    report = pair.done(pair.start_reprotect())
    assert (report.result or {})["way"] == "exact"
    assert Position.parse((report.result or {})["point"]) in pair.points()
    pair.same_at_both()
    pair.records(pair.here)


@pytest.mark.parametrize(("moment", "victim"), SHORT)
def test_exact_after_a_death_inside(pair: Pair, moment: str, victim: str) -> None:
    reprotected_after(pair, moment, victim)


@pytest.mark.long
@pytest.mark.parametrize(
    ("moment", "victim"),
    [(moment, victim) for moment in MOMENTS for victim in VICTIMS if (moment, victim) not in SHORT],
)
def test_exact_after_any_death_inside(pair: Pair, moment: str, victim: str) -> None:
    try:
        reprotected_after(pair, moment, victim)
    except HomeportError as error:
        raise AssertionError(f"{victim} in a {moment}: {error.message} {error.cause}") from error
