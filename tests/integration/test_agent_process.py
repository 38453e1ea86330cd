"""The agent's process between the server's word and what holds an item: nothing is lost or late."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from homeport.agent import agent as process
from homeport.agent.guard import RETRY
from homeport.agent.link import Link
from homeport.dataplane.pipeline import Control
from homeport.errors import TransientError
from homeport.model.ids import OperationId
from homeport.model.item import Role
from homeport.model.machine import PowerState
from homeport.model.messages import (
    Assignment,
    OperationOrder,
    OperationState,
    SyncAnswer,
    SyncRequest,
)
from tests.crashes import CrashError, Mortal
from tests.integration.test_agent_guards import Site, an_agent_at_work, unloaded
from tests.integration.test_confirming import boot, marks
from tests.servers_libvirt import wait_until
from tests.world import ITEM, VAULT

pytestmark = pytest.mark.real


@pytest.fixture
def site() -> Iterator[Site]:
    with an_agent_at_work() as site:
        yield site


def lost(site: Site) -> Any:
    """The server's word that the other side owns the machine now."""
    return unloaded(Role.FENCED, site.world, epoch=site.world.epoch + 1)


def heard(site: Site, *assignments: Assignment) -> None:
    """The server's word, and what the agent's workers do upon it."""
    site.hears(*assignments)
    wait_until(lambda: not site.agent._assigning)


def lost_while_failing(site: Site, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """The fence by assignment, with a call to the hypervisor that fails."""

    def fails(*_given: Any, **_more: Any) -> None:
        raise TransientError(f"{call} is not possible just now")

    with monkeypatch.context() as patched:
        patched.setattr(site.host.compute, call, fails)
        heard(site, lost(site))


class TestFencedByAssignment:
    """No order comes again for such a fence: what is left of it is the agent's to finish."""

    @pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
    @pytest.mark.parametrize("at", range(10))
    def test_a_machine_is_off_whatever_died(self, site: Site, at: int, before: bool) -> None:
        with suppress(CrashError), Mortal(at, before=before).living():
            heard(site, lost(site))
        site.host.restart()
        site.reborn()
        site.agent._load_assignments()
        heard(site, lost(site))
        site.host.guard()
        note = site.host.compute.note("web")
        assert note is not None
        assert (site.host.compute.state("web"), note.may_start) == (PowerState.OFF, False)
        assert site.host.ledger.role is Role.FENCED
        assert site.host.guard() == []

    def test_a_stop_that_failed_is_tried_again(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lost_while_failing(site, monkeypatch, "stop")
        assert site.host.compute.state("web") is PowerState.RUNNING
        site.host.guard()
        assert site.host.compute.state("web") is PowerState.OFF

    def test_one_that_cannot_be_marked_is_stopped_all_the_same(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lost_while_failing(site, monkeypatch, "set_autostart")
        assert site.host.compute.state("web") is PowerState.OFF
        site.host.guard()
        note = site.host.compute.note("web")
        assert note is not None
        assert not note.may_start


def fails(*_given: Any, **_more: Any) -> None:
    raise TransientError("the network lan is not active yet")


def booted_in_vain(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host came up, and the machine that was to start could not."""
    boot(site.host)
    site.reborn()
    with monkeypatch.context() as patched:
        patched.setattr(site.host.compute, "start", fails)
        site.hears(unloaded(Role.SOURCE, site.world))
        wait_until(lambda: "not active yet" in site.message())


class TestAfterABoot:
    def test_one_that_could_not_be_started_is_told_and_tried_again(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        booted_in_vain(site, monkeypatch)
        site.round()
        assert "not active yet" in site.message(), "the next look at the machine hid it"
        assert site.host.compute.state("web") is PowerState.OFF, "not at every round"
        site.world.clock.pass_time(RETRY + 1)
        site.goes_round_until(lambda: site.host.compute.state("web") is PowerState.RUNNING)
        wait_until(lambda: site.message() == "")

    def test_one_that_is_started_by_hand_meanwhile_is_told_no_longer(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        booted_in_vain(site, monkeypatch)
        site.host.compute.start("web")
        site.world.clock.pass_time(RETRY + 1)
        site.goes_round_until(lambda: site.message() == "")

    def test_an_agent_that_died_before_the_start_begins_it_again(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        boot(site.host)
        site.reborn()
        monkeypatch.setattr(site.agent, "_start_again", lambda *_given: None)
        site.hears(unloaded(Role.SOURCE, site.world))
        assert marks(site.host)
        site.host.restart()
        site.reborn()
        site.hears(unloaded(Role.SOURCE, site.world))
        wait_until(lambda: site.host.compute.state("web") is PowerState.RUNNING)
        wait_until(lambda: marks(site.host) == [ITEM])

    def test_a_pool_that_is_mounted_late_is_waited_for(self, site: Site) -> None:
        boot(site.host)
        away = site.host.pool.rename(site.host.pool.with_name("away"))
        site.host.restart()
        site.reborn()
        site.hears(unloaded(Role.SOURCE, site.world))
        assert marks(site.host) == []
        away.rename(site.host.pool)
        site.goes_round_until(lambda: site.host.compute.state("web") is PowerState.RUNNING)

    def test_a_mark_removed_by_somebody_is_no_boot(self, site: Site) -> None:
        site.hears(unloaded(Role.SOURCE, site.world))
        site.host.compute.stop("web", timeout=0)
        shutil.rmtree(Path(str(site.host.confirmed)))
        site.hears(unloaded(Role.SOURCE, site.world))
        site.round()
        site.agent._pool.shutdown(wait=True)
        assert (marks(site.host), site.host.compute.state("web")) == ([ITEM], PowerState.OFF)

    def test_one_lost_before_it_was_started_is_told_no_longer(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        boot(site.host)
        site.reborn()
        monkeypatch.setattr(site.host.compute, "start", fails)
        site.hears(unloaded(Role.SOURCE, site.world))
        wait_until(lambda: "not active yet" in site.message())
        site.hears(lost(site))
        wait_until(lambda: site.host.ledger.role is Role.FENCED)
        assert (marks(site.host), site.message()) == ([], "")


@contextmanager
def somebody_at(site: Site) -> Iterator[None]:
    """An operation that holds the item for as long as it likes."""
    has_it, ends = threading.Event(), threading.Event()

    def works() -> None:
        with site.agent.shelf.claim(ITEM, Control()):
            has_it.set()
            ends.wait()

    thread = threading.Thread(target=works)
    thread.start()
    has_it.wait()
    try:
        yield
    finally:
        ends.set()
        thread.join()


class TestTheServersWord:
    @pytest.mark.parametrize("word", ["another policy", "a fence"])
    def test_is_heard_while_an_item_is_held(self, site: Site, word: str) -> None:
        other = replace(site.world.policy, name="slow")
        said = lost(site) if word == "a fence" else unloaded(Role.SOURCE, site.world, policy=other)
        hears = threading.Thread(target=site.hears, args=(said,))
        with somebody_at(site):
            hears.start()
            hears.join(10)
            assert not hears.is_alive(), "the whole host waits for one item"
            assert (site.host.ledger.role, site.host.ledger.policy.name) == (Role.SOURCE, "fast")
        if word == "a fence":
            wait_until(lambda: site.host.compute.state("web") is PowerState.OFF)
            wait_until(lambda: site.host.ledger.role is Role.FENCED)
        else:
            wait_until(lambda: site.host.ledger.policy.name == "slow")

    def test_of_an_item_whose_pool_is_away_is_heard_again(self, site: Site) -> None:
        away = site.host.pool.rename(site.host.pool.with_name("away"))
        news = unloaded(Role.SOURCE, site.world, policy=replace(site.world.policy, name="slow"))
        heard(site, news)
        away.rename(site.host.pool)
        heard(site, news)
        assert site.host.ledger.policy.name == "slow"

    def test_is_asked_for_again_after_an_error_that_nobody_foresaw(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = []

        def no_room() -> None:
            raise OSError(errno.ENOSPC, "no room for the assignments")

        class Server:
            def sync(self, _request: SyncRequest) -> SyncAnswer:
                answers.append(site.agent._revision)
                word = (unloaded(Role.SOURCE, site.world),)
                return SyncAnswer(vault=VAULT, revision=7, assignments=word)

        monkeypatch.setattr(process, "RETRY", (0.01, 0.01))
        site.agent.link = cast("Link", Server())
        with monkeypatch.context() as patched:
            patched.setattr(site.agent, "_keep_assignments", no_room)
            thread = threading.Thread(target=site.agent._sync_loop)
            thread.start()
            wait_until(lambda: len(answers) > 2)
            assert set(answers) == {-1}, "what was not taken is asked for again"
        wait_until(lambda: site.agent._revision == 7)
        site.agent.stop.set()
        thread.join()

    def test_of_an_order_is_answered_when_the_disk_has_room_again(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order = OperationOrder(
            id=OperationId("1"), kind="show-machine", item=ITEM, args={"name": "web"}
        )
        site.agent.journal.load()
        assert site.agent.journal.take(order)
        tries = []

        def no_room(*_given: Any) -> None:
            tries.append(None)
            raise OSError(errno.ENOSPC, "no room for the journal")

        monkeypatch.setattr(process, "RETRY", (0.01, 0.01))
        with monkeypatch.context() as patched:
            patched.setattr(site.agent.journal, "end", no_room)
            worker = threading.Thread(target=site.agent._carry_out, args=(order,))
            worker.start()
            wait_until(lambda: len(tries) > 1)
        worker.join(10)
        (report,) = site.agent.journal.reports()
        assert report.state is OperationState.DONE
