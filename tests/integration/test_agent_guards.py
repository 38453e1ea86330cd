"""The agent's process at its guard: rounds of its own, and what the server's word lets start."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from homeport.agent import agent as process
from homeport.agent.agent import Agent
from homeport.agent.guard import RETRY
from homeport.agent.link import Link
from homeport.agent.reporting import report_item
from homeport.dataplane.pipeline import Control
from homeport.model.item import Role
from homeport.model.machine import PowerState
from homeport.model.messages import Assignment, SyncAnswer, SyncRequest
from homeport.units import MiB
from tests.integration.test_confirming import assignment, boot, marks, protected
from tests.integration.test_state_machine import scratch
from tests.servers_libvirt import wait_until
from tests.world import ITEM, VAULT, Host, World

pytestmark = pytest.mark.real


@dataclass
class Site:
    """The world's primary site with a real agent's process in it."""

    world: World
    agent: Agent

    @property
    def host(self) -> Host:
        return self.world.east

    def told(self) -> str:
        return (report_item(self.agent.shelf, ITEM).problem or {}).get("code", "")

    def message(self) -> str:
        return (report_item(self.agent.shelf, ITEM).problem or {}).get("message", "")

    def round(self) -> None:
        """One of the guard's, with what is to be put right done by the agent's workers."""
        self.agent._look_round()

    def goes_round_until(self, holds: Callable[[], bool]) -> None:
        """Rounds, as in its life: the worker of the one before may not have ended yet."""

        def look() -> bool:
            self.round()
            return holds()

        wait_until(look)

    def hears(self, *assignments: Assignment) -> None:
        self.agent._take(SyncAnswer(vault=VAULT, revision=1, assignments=assignments))

    def reborn(self) -> None:
        self.agent.stop.set()
        self.agent = agent_of(self.host)


def agent_of(host: Host) -> Agent:
    return Agent(shelf=host.shelf, link=cast("Link", None), state=host.root / host.name / "agent")


@contextmanager
def an_agent_at_work() -> Iterator[Site]:
    """A protected machine in east, and the process that cares for it; its threads are not begun."""
    world = World(scratch(), formats={"vda": "raw"}, size=MiB)
    world.east.confirmed = world.root / "run"
    world.east.restart()
    protected(world)
    site = Site(world, agent_of(world.east))
    yield site
    site.agent.stop.set()
    site.agent._pool.shutdown(wait=True)
    shutil.rmtree(world.root)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(process, "GUARD_EVERY", 0.01)
    with an_agent_at_work() as site:
        yield site


@pytest.fixture
def rounds(site: Site) -> Iterator[threading.Thread]:
    """The guard at its rounds."""
    thread = threading.Thread(target=site.agent._guard_loop)
    thread.start()
    yield thread
    site.agent.stop.set()
    thread.join()


def unloaded(role: Role, world: World, **changes: Any) -> Assignment:
    return assignment(world, role, replicate=False, **changes)


def test_it_defines_again_what_was_undefined(site: Site, rounds: threading.Thread) -> None:
    site.host.compute.stop("web", timeout=0)
    del site.host.compute.machines["web"]
    wait_until(lambda: site.told() == "MachineUndefined")
    assert site.host.compute.state("web") is PowerState.OFF
    assert rounds.is_alive()


def test_an_item_that_is_being_worked_on_is_waited_for_and_no_other(
    site: Site, rounds: threading.Thread
) -> None:
    with site.agent.shelf.claim(ITEM, Control()):
        del site.host.compute.machines["web"]
        wait_until(lambda: ITEM in site.agent._mended)
        assert site.host.compute.state("web") is PowerState.ABSENT
    wait_until(lambda: site.host.compute.state("web") is PowerState.OFF)
    wait_until(lambda: ITEM not in site.agent._mended)
    assert rounds.is_alive()


def test_a_hypervisor_that_is_away_does_not_end_the_rounds(
    site: Site, rounds: threading.Thread
) -> None:
    site.host.compute.reachable = False
    del site.host.compute.machines["web"]
    rounds.join(0.1)
    assert rounds.is_alive()
    site.host.compute.reachable = True
    wait_until(lambda: site.told() == "MachineUndefined")


def test_what_cannot_be_put_right_is_told_and_tried_again(
    site: Site, rounds: threading.Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def fails(*given: Any) -> None:
        tries.append(given)
        raise OSError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(site.host.compute, "create", fails)
        del site.host.compute.machines["web"]
        wait_until(lambda: "no room" in str(report_item(site.agent.shelf, ITEM).problem))
        rounds.join(0.2)
        assert len(tries) == 1, "not at every round"
    site.world.clock.pass_time(RETRY + 1)
    wait_until(lambda: site.told() == "MachineUndefined")


def test_the_servers_word_starts_what_had_autostart_before_the_boot(site: Site) -> None:
    boot(site.host)
    site.reborn()
    site.hears(unloaded(Role.SOURCE, site.world))
    wait_until(lambda: site.host.compute.state("web") is PowerState.RUNNING)
    assert marks(site.host) == [ITEM]
    site.host.compute.stop("web", timeout=0)
    site.hears(unloaded(Role.SOURCE, site.world))
    site.agent._pool.shutdown(wait=True)
    assert site.host.compute.state("web") is PowerState.OFF, "once after a boot"


def test_one_that_was_lost_meanwhile_is_fenced_and_not_started(site: Site) -> None:
    boot(site.host)
    site.reborn()
    site.hears(unloaded(Role.FENCED, site.world, epoch=site.world.epoch + 1))
    site.agent._pool.shutdown(wait=True)
    assert site.host.compute.state("web") is PowerState.OFF
    assert (site.host.ledger.role, marks(site.host)) == (Role.FENCED, [])


def test_assignments_of_an_earlier_life_confirm_nothing(site: Site) -> None:
    site.hears(unloaded(Role.SOURCE, site.world))
    boot(site.host)
    site.reborn()
    site.agent._load_assignments()
    site.agent._settle()
    site.agent._keep_marks()
    assert marks(site.host) == []


def test_marks_that_something_else_removed_come_back(site: Site, rounds: threading.Thread) -> None:
    site.hears(unloaded(Role.SOURCE, site.world))
    shutil.rmtree(Path(str(site.host.confirmed)))
    wait_until(lambda: site.host.confirmed is not None and marks(site.host) == [ITEM])
    assert rounds.is_alive()


class Repeating(Link):
    """A server that says the same to every question, and counts what it was asked."""

    def __init__(self, answer: SyncAnswer) -> None:
        self.answer = answer
        self.asked: list[int] = []

    def sync(self, request: SyncRequest) -> SyncAnswer:
        self.asked.append(request.revision)
        time.sleep(0.01)
        return self.answer


@pytest.mark.parametrize(
    "trouble", [OSError(28, "No space left on device"), RuntimeError("a mistake of ours")]
)
def test_it_hears_the_server_again_after_any_error(
    site: Site, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    """A full disk kept what the server had said from being kept, once."""
    agent, written = site.agent, process.write_durably
    agent.link = server = Repeating(
        SyncAnswer(vault=VAULT, revision=7, assignments=(unloaded(Role.SOURCE, site.world),))
    )

    def write(path: Path, body: bytes) -> None:
        if len(server.asked) <= 2:
            raise trouble
        written(path, body)

    monkeypatch.setattr(process, "write_durably", write)
    monkeypatch.setattr(process, "RETRY", (0.01, 0.1))
    thread = threading.Thread(target=agent._sync_loop)
    thread.start()
    try:
        wait_until(lambda: 7 in server.asked)
        assert server.asked[:3] == [-1, -1, -1]  # it asks for what it could not keep again
        assert thread.is_alive()
    finally:
        agent.stop.set()
        thread.join()
