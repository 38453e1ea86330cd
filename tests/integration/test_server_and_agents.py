"""The server as it is wired, real agents and real disks: what is reviewed is what is done."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from homeport.agent import agent as agents
from homeport.agent.agent import Agent
from homeport.agent.link import Link
from homeport.client import Client
from homeport.errors import HomeportError
from homeport.model.machine import PowerState
from homeport.model.planning import Way
from homeport.model.protection import State
from homeport.model.reports import SiteReport
from homeport.model.requests import (
    CacheRequest,
    FailoverRequest,
    ProtectRequest,
    ReprotectRequest,
)
from homeport.settings import ServerSettings
from homeport.units import KiB, MiB
from homeport.wiring import build_server
from tests.integration.test_elsewhere import files_in
from tests.integration.test_state_machine import scratch
from tests.integration.test_telling import attach, lose_ledger
from tests.machines import raw_file
from tests.unit.interfaces.api import conftest as api
from tests.world import Host, ManualClock, World, read_image
from tests.worldchecks import same

pytestmark = pytest.mark.real

PLANNED = FailoverRequest(planned=True, guest_timeout=0)
FILES = {"web-vda.qcow2", "web-vdb.raw"}


class RealClock(ManualClock):
    """Time that moves by itself."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float, wake: Any = None) -> bool:
        if wake is not None:
            return bool(wake.wait(min(seconds, 0.05)))
        time.sleep(min(seconds, 0.05))
        return False


@dataclass
class Authorized:
    """The server in this process, asked with a site's token."""

    http: Any
    token: str

    def post(self, path: str, *, content: bytes, timeout: float) -> Any:
        del timeout
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        return self.http.post(path, content=content, headers=headers)


class Near(Link):
    """A link without a network."""

    def __init__(self, http: Any, token: str) -> None:
        self._url = "http://testserver"
        self._http: Any = Authorized(http, token)


@dataclass
class Live:
    """A server at work, its client, and a world whose agents it orders about."""

    client: Client
    world: World

    def end(self, job: Any) -> Any:
        return self.client.wait(job.id, pause=lambda _: time.sleep(0.02))

    def protect(self, **changes: Any) -> None:
        self.end(
            self.client.protect(
                ProtectRequest(vm="web", source_site="east", target_site="west", **changes)
            )
        )

    def lose_east(self) -> None:
        """Protected, failed over to west, committed; west went on."""
        self.end(self.client.failover("web", PLANNED))
        self.end(self.client.commit("web"))
        self.world.west.compute.write("web", "vda", (64 * KiB, b"west" * 500))

    def go_home(self) -> None:
        self.end(self.client.failover("web", PLANNED))
        self.end(self.client.commit("web"))

    def reprotect(self, **asked: Any) -> Any:
        return self.end(self.client.reprotect("web", ReprotectRequest(**asked)))

    def actions(self, **asked: Any) -> dict[str, tuple[str, ...]]:
        made = self.client.review("web", ReprotectRequest(**asked))
        assert made.problems == (), made.problems
        return {disk.disk: disk.actions for disk in made.disks}


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(agents, "INVENTORY_EVERY", 0.1)
    world = World(scratch(), formats={"vda": "qcow2", "vdb": "raw"}, size=MiB, clock=RealClock())
    settings = ServerSettings(
        data_dir=tmp_path, lease=30, hub_interval=0.05, look_interval=0.05, queue_interval=0.05
    )
    server = build_server(settings)
    with ExitStack() as ends:
        ends.callback(shutil.rmtree, world.root)
        ends.callback(server.close)
        http = ends.enter_context(api.TestClient(server.app))
        client = Client("http://testserver", http=http)
        for host in (world.east, world.west):
            made = client.add_site(host.name, CacheRequest(url=host.cache.url))
            ends.callback(start(host, Near(http, made.token)))
        until(lambda: [vm.name for vm in client.vms("east")] == ["web"])
        until(lambda: all(map(told, client.sites())))
        world.write("vda", 0, b"seed" * 1000)
        yield Live(client=client, world=world)


def told(site: SiteReport) -> bool:
    """The site's host has said what it has."""
    return bool(site.hosts) and all(host.inventory is not None for host in site.hosts)


def start(host: Host, link: Link) -> Callable[[], None]:
    """Run a host's agent; what ends it."""
    state = host.root / host.name / "agent"
    agent = Agent(shelf=host.shelf, link=link, state=state, wait=0.2)
    thread = threading.Thread(target=agent.run)
    thread.start()

    def stop() -> None:
        agent.stop.set()
        thread.join()
        time.sleep(0.3)  # a poll under way ends with its wait

    return stop


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it did not come to be"
        time.sleep(0.05)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def content(world: World) -> dict[str, bytes]:
    return {dev: world.west.compute.read("web", dev, 0, MiB) for dev in ("vda", "vdb")}


@pytest.mark.long
def test_unmanaged_disks_do_what_the_review_says(live: Live) -> None:
    east, west = live.world.east, live.world.west
    live.protect(unmanaged=True)
    assert files(west.pool) == FILES
    live.lose_east()
    rows = {row.setting: row.value for row in live.client.review("web").rows}
    assert rows["storage account"] == "default"
    told = live.actions()
    assert told["web-vda"][0] == "copied: web has a copy of its OS disk web-vda until failback"
    assert told["web-vdb"][0] == "detached: web does not have web-vdb until failback"
    live.reprotect()
    copy = east.pool / "web-vda-OScopy.qcow2"
    assert east.compute.sources("web").persistent == {"vda": str(copy)}
    was = content(live.world)
    live.go_home()
    assert set(east.compute.sources("web").persistent) == {"vda", "vdb"}
    assert not copy.exists()
    for dev, expected in was.items():
        same(east.compute.read("web", dev, 0, MiB), expected, dev)
    live.reprotect()
    assert west.compute.state("web") is PowerState.ABSENT
    live.end(live.client.disable("web"))
    assert (files(east.pool), files(west.pool)) == (FILES, set())


@pytest.mark.long
def test_an_account_and_a_network_that_are_gone_are_made_and_go_again(live: Live) -> None:
    east = live.world.east
    live.protect()
    live.lose_east()
    shutil.rmtree(east.pool)  # first: a machine that goes while its ledger is there comes back
    east.compute.delete("web")
    east.compute.delete_network("lan")
    east.compute.delete_pool("default")

    def told() -> dict[str, tuple[str, bool]]:
        return {row.setting: (row.value, row.new) for row in live.client.review("web").rows}

    until(lambda: told()["replica managed disks"] == ("defaultasr", True))
    assert told()["virtual network"] == ("lan -> lan-asr", True)
    assert live.actions()["web-vda"] == ("created: web-vda-ASRReplica",)
    live.reprotect()
    made = east.pool.with_name("defaultasr")
    assert east.compute.pools == {"defaultasr": made}
    assert [network.name for network in east.compute.inventory().networks] == ["lan-asr"]
    assert files(made) == {"web-vda-ASRReplica.qcow2", "web-vdb-ASRReplica.raw"}
    live.end(live.client.disable("web"))
    assert east.compute.pools == {}
    assert east.compute.inventory().networks == ()
    assert not made.exists()


def test_another_pool_of_the_same_host(live: Live) -> None:
    east = live.world.east
    live.protect()
    live.lose_east()
    was = {path.name: read_image(path, path.suffix[1:]) for path in disks_of(east)}
    fast = east.pool.with_name("fast")
    east.compute.make_pool("fast", fast)
    until(lambda: "fast" in str(live.client.site("east")))
    told = live.actions(pool="fast")
    assert all("stays where it is and as it is" in words[-1] for words in told.values())
    live.reprotect(pool="fast")
    assert live.client.item("web").standby.pool == "fast"
    assert files(east.pool) == FILES
    live.go_home()
    assert {Path(path).is_relative_to(fast) for path in sources(east)} == {True}
    live.end(live.client.disable("web"))
    assert files(east.pool) == files(fast) == FILES
    for name, body in was.items():
        same(read_image(east.pool / name, name.partition(".")[2]), body, name)


@pytest.mark.long
def test_disks_whose_ledger_is_lost_stay_and_another_pool_takes_a_full_copy(live: Live) -> None:
    east = live.world.east
    live.protect()
    live.lose_east()
    lose_ledger(east)
    old = files_in(east.pool)
    before = live.client.jobs()
    made = live.client.review("web")
    (problem,) = made.problems
    assert problem["code"] == "OldDisksUnknown"
    for way in ("homeport reprotect web --pool OTHER", "disable and enable protection afresh"):
        assert way in problem["remedy"]
    assert all(disk.actions[0].startswith("not touched: ") for disk in made.disks)
    with pytest.raises(HomeportError, match="no ledger"):
        live.reprotect()
    assert (files_in(east.pool), live.client.item("web").state) == (old, State.COMMITTED)
    assert len(live.client.jobs()) == len(before) + 1
    new = east.pool.with_name("fast")
    east.compute.make_pool("fast", new)
    until(lambda: "fast" in str(live.client.site("east")))
    made = live.client.review("web", ReprotectRequest(pool="fast"))
    assert (made.problems, made.way) == ((), Way.FULL)
    assert made.machine == ("kept and locked until failback: web",)
    live.reprotect(pool="fast")
    note = east.compute.note("web")
    assert note is not None
    assert (note.may_start, bool(note.lock)) == (False, True)
    was = content(live.world)
    live.go_home()
    assert all(Path(path).is_relative_to(new) for path in sources(east))
    for dev, expected in was.items():
        same(east.compute.read("web", dev, 0, MiB), expected, dev)
    live.reprotect()
    live.end(live.client.disable("web"))
    assert files(new) == FILES
    assert files_in(east.pool) == old


def test_a_disk_attached_since_is_a_reason_to_refuse(live: Live) -> None:
    live.protect()
    live.lose_east()
    extra = raw_file(live.world.root / "extra.raw", MiB)
    attach(live.world.west, "live", "vdc", extra)
    (problem,) = live.client.review("web").problems
    assert problem["code"] == "DisksChanged"
    assert "extra was added" in problem["message"]


def sources(host: Host) -> list[str]:
    return list(host.compute.sources("web").persistent.values())


def disks_of(host: Host) -> list[Path]:
    return [path for path in host.pool.iterdir() if path.is_file()]
