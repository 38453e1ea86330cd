"""`homeport group`, `set`, `capacity`, and what they are for, as a person types them."""

from __future__ import annotations

import threading

import pytest

from homeport.interfaces.cli.failure import ExitCode
from homeport.model.codec import from_plain
from homeport.model.reports import ResourceReport
from homeport.units import GiB
from tests.unit.interfaces.cli.conftest import Shell


class TestGroups:
    def test_made_locked_unlocked_deleted(self, shell: Shell) -> None:
        made = from_plain(ResourceReport, shell.data("group create east/rg --member shop"))
        assert made.members == ("shop",)
        assert "read-only (audit)" in shell.run("group lock east/rg --name audit").stdout
        told = shell.refusal("group delete east/rg", code=ExitCode.REFUSED)
        assert (told["code"], "group unlock east/rg" in told["remedy"]) == ("GroupLocked", True)
        shell.run("group unlock east/rg")
        told = shell.refusal("group delete east/rg", code=ExitCode.REFUSED)
        assert (told["code"], "shop" in told["message"]) == ("ResourceInUse", True)
        shell.run("group create east/rg --no-members")
        assert "is deleted" in shell.run("group delete east/rg").stdout
        assert "No resource groups" in shell.run("group list").stdout

    @pytest.mark.parametrize("level", ["read-only", "delete"])
    def test_the_level_is_chosen(self, shell: Shell, level: str) -> None:
        shell.run("group create east/rg")
        assert shell.data(f"group lock east/rg --level {level}")["lock"] == level


class TestSets:
    def test_who_stands_where_is_shown(self, shell: Shell) -> None:
        shell.run("set create east/web --member shop")
        shell.run("set create west/web")
        assert "shop on e1" in shell.run("set list").stdout
        assert [one["site"] for one in shell.data("set list")] == ["east", "west"]
        assert [one["site"] for one in shell.data("set list --site west")] == ["west"]
        assert shell.data("set delete west/web") == {}

    def test_no_host_is_left_for_a_second_one(self, shell: Shell) -> None:
        shell.deck.east.add_machine("mail")
        shell.deck.tick()
        shell.run("set create west/web")
        shell.run("protect east/shop --to west --set web")
        told = shell.refusal("protect east/mail --to west --set web", code=ExitCode.REFUSED)
        assert told["code"] == "NoHostForAvailabilitySet"
        shell.run("protect east/mail --to west --set none")


class TestCapacity:
    def test_what_is_held_and_left_is_shown(self, shell: Shell) -> None:
        made = shell.data("capacity create east/r --hold e1=4G,2 --member shop")
        assert made["holds"] == [
            {
                "host": "e1",
                "memory": 4 * GiB,
                "vcpus": 2,
                "memory_left": 3 * GiB,
                "vcpus_left": 1,
            }
        ]
        assert "e1: 4 GiB, 2 vCPUs (3 GiB, 1 left)" in shell.run("capacity list").stdout

    def test_what_is_held_back_is_refused_to_others(self, shell: Shell) -> None:
        shell.run("capacity create west/r --hold w1=8G")
        told = shell.refusal("protect east/shop --to west", code=ExitCode.REFUSED)
        assert (told["code"], "8 GiB" in told["message"]) == ("CapacityHeldBack", True)
        shell.run("protect east/shop --to west --capacity r --group none")
        assert shell.data("group list") == []
        told = shell.refusal("capacity delete west/r", code=ExitCode.REFUSED)
        assert "shop" in told["message"]


BAD = [
    "group create rg",
    "set create /web",
    "set create east/",
    "set create east/web --member a --no-members",
    "capacity create east/r --hold e1",
    "capacity create east/r --hold e1=big",
    "capacity create east/r --hold e1=1G,many",
    "group lock east/rg --level some",
]


@pytest.mark.parametrize("line", BAD)
def test_what_is_not_understood_is_said(shell: Shell, line: str) -> None:
    assert shell.run(line, code=ExitCode.USAGE).stderr


def test_a_site_shows_all_it_has(shell: Shell) -> None:
    shell.run("protect east/shop --to west")
    shell.run("set create west/web")
    shell.run("capacity create west/r --hold w1=1G,1")
    shell.run("group lock west/shop-asr --name audit")
    page = shell.run("site show west").stdout
    for told in (
        "Resource groups",
        "shop-asr  shop on w1; read-only lock audit",
        "Availability sets",
        "Capacity reservations",
        "w1: 1 GiB, 1 vCPU ",
        "Storage accounts",
        "disks  on w1",
    ):
        assert told in page


class TestReview:
    def commit(self, shell: Shell) -> None:
        shell.run("protect east/shop --to west")
        shell.run("failover shop --yes")
        shell.run("commit shop --yes")

    def test_every_setting_is_shown_and_why_one_is_fixed(self, shell: Shell) -> None:
        shell.run("group create east/rg --member shop")
        self.commit(shell)
        page = " ".join(shell.run("review shop --set none").stdout.split())
        assert "resource group rg (fixed: The original machine shop" in page
        assert "capacity reservation none" in page
        shell.run("group create east/other")
        told = shell.data("review shop --group other")["problems"]
        assert [problem["code"] for problem in told] == ["TargetGroupFixed"]

    def test_estimate_and_time_taken_are_printed_by_all_three(self, shell: Shell) -> None:
        self.commit(shell)
        assert "Earlier resyncs" not in shell.run("estimate shop").stdout
        for page in ("reprotect shop", "show shop", "estimate shop"):
            told = shell.run(page).stdout
            assert "ESTIMATED" in told
            assert "TOOK" in told


def test_no_more_jobs_at_a_time_than_allowed_over_the_real_api(shell: Shell) -> None:
    names = ["a", "b", "c", "d"]
    for name in names:
        shell.deck.east.add_machine(name)
    shell.deck.tick()
    for name in names:
        for line in (f"protect east/{name} --to west", f"failover {name} --yes", f"commit {name}"):
            shell.run(line)
    shell.deck.idles = True
    ended, most = threading.Event(), 0

    def engine() -> None:
        nonlocal most
        while not ended.wait(0.05):
            with shell.deck.catalog.read() as rows:
                open_jobs = [job for job in rows.jobs() if job.ended_at is None]
            most = max(most, len(open_jobs))
            if open_jobs:
                shell.deck.run(open_jobs[-1])

    thread = threading.Thread(target=engine)
    thread.start()
    try:
        done = shell.data("reprotect --all --parallel 2")
    finally:
        ended.set()
        thread.join()
    assert {one["item"]: one["job"]["state"] for one in done} == dict.fromkeys(names, "Succeeded")
    assert len({one["job"]["id"] for one in done}) == len(names)
    assert 1 <= most <= 2  # how many overlap is the machine's to say; never more than allowed
