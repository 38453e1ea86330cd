"""`homeport unsent` and `homeport receipt --files`, as a person or a script runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport.errors import RefusedError
from homeport.interfaces.cli.failure import ExitCode
from homeport.units import MiB
from tests.hosts import DISK
from tests.unit.interfaces.cli.conftest import Shell
from tests.unit.interfaces.cli.test_commands import PROTECT

IMAGE = "disk0-unsent-1-0"


@pytest.fixture
def aside(shell: Shell) -> Shell:
    """An item whose source side has one image set aside."""
    shell.run(PROTECT)
    set_aside(shell, "unsent")
    return shell


def set_aside(shell: Shell, why: str) -> str:
    (copy,) = shell.deck.east.copies.values()
    copy.unsent = 7 * MiB
    copy.aside.append(shell.deck.east._aside(copy, why))
    shell.deck.tick()
    return Path(copy.aside[-1].path).name


def test_nothing_is_set_aside(shell: Shell) -> None:
    shell.run(PROTECT)
    for line in ("unsent shop", "unsent shop --files"):
        assert "Nothing is set aside" in shell.run(line).stdout
    assert shell.data("unsent shop") == []
    assert shell.data("unsent shop --files") == {"files": [], "problems": {}}
    for line in ("unsent shop --discard --yes", "unsent shop --export /srv/copy"):
        assert shell.refusal(line, code=ExitCode.NOT_FOUND)["code"] == "NoUnsent"


def test_images_are_listed_with_their_host(aside: Shell) -> None:
    shown = aside.run("unsent shop").stdout
    assert f"e1:/e1/{IMAGE}" in shown
    assert "7 MiB" in shown
    (one,) = aside.data("unsent shop")
    assert (one["host"], one["image"], one["position"]) == ("e1", IMAGE, "1-0")


def test_files_are_told(aside: Shell) -> None:
    shown = aside.run(f"unsent shop --files --disk {DISK}").stdout
    assert "/etc/new.conf" in shown
    assert "1 added" in shown
    told = aside.data("unsent shop --files")
    assert told["files"][0]["file_systems"][0]["files"][0]["path"] == "/etc/new.conf"


def test_a_short_list_says_how_many_more(aside: Shell) -> None:
    assert "and 1 more" in aside.run("unsent shop --files --limit 0").stdout


def test_an_image_that_cannot_be_read_does_not_hide_the_others(aside: Shell) -> None:
    set_aside(aside, "older")
    aside.deck.east.fails["unsent-files"] = RefusedError("Not here.", code="FilesUnreadableHere")
    assert set(aside.data("unsent shop --files")["problems"]) == {IMAGE, "disk0-older-1-0"}
    aside.deck.east.fails.clear()
    aside.deck.east.done.clear()
    assert len(aside.data("unsent shop --files")["files"]) == 2


def test_a_copy_is_watched_to_its_end(aside: Shell) -> None:
    job = aside.data("unsent shop --export /srv/copy.raw --format raw")
    assert (job["state"], job["result"]["path"]) == ("Succeeded", "/srv/copy.raw")
    assert aside.deck.east.exported[0].image == IMAGE


def test_a_copy_need_not_be_waited_for(aside: Shell) -> None:
    aside.deck.idles = True
    assert set(aside.data("unsent shop --export /srv/copy --no-wait")) == {"job"}


def test_discarding_says_what_went(aside: Shell) -> None:
    shown = aside.run("unsent shop --discard --yes").stdout
    assert f"Discarded {IMAGE} on e1; 7 MiB are free again." in shown
    aside.deck.tick()
    assert aside.data("unsent shop") == []


def test_one_is_copied_or_discarded_at_a_time(aside: Shell) -> None:
    other = set_aside(aside, "older")
    for line in (
        "unsent shop --discard --yes",
        "unsent shop --export /srv/copy",
        f"unsent shop --discard --yes --disk {DISK}",
    ):
        assert aside.refusal(line, code=ExitCode.REFUSED)["code"] == "ManyUnsent"
    aside.run(f"unsent shop --discard --yes --image {other}")
    aside.deck.tick()
    assert [one["image"] for one in aside.data("unsent shop")] == [IMAGE]


def test_what_is_named_and_not_there_is_said(aside: Shell) -> None:
    for named in ("--disk disk9", "--image another"):
        error = aside.refusal(f"unsent shop --files {named}", code=ExitCode.NOT_FOUND)
        assert error["code"] == "NoUnsent"
        assert named.split()[1] in error["message"]


@pytest.mark.parametrize(
    "both", ["--files --discard", "--files --export /c", "--export /c --discard"]
)
def test_one_thing_is_asked_for_at_a_time(aside: Shell, both: str) -> None:
    result = aside.run(f"unsent shop {both}", code=ExitCode.USAGE)
    assert "cannot be asked for" in result.output


def test_a_receipt_tells_the_files_when_asked(aside: Shell) -> None:
    aside.deck.east.copies[next(iter(aside.deck.east.copies))].aside.clear()
    aside.run("failover shop --yes")
    aside.run("commit shop --yes")
    aside.run("reprotect shop")
    told = aside.data("receipt shop --files")
    assert told["receipt"]["completed_at"]
    assert "Loss receipt" in aside.run("receipt shop --files").stdout
    images = {Path(one["path"]).name for one in told["receipt"]["unsent"]}
    assert {one["image"] for one in told["files"]["files"]} == images
    assert aside.data("receipt shop") == told["receipt"]
