"""Writes set aside, over the API: listed from both hosts, asked of the host that has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport.errors import HomeportError, RefusedError
from homeport.model.item import Role
from homeport.model.reports import JobReport
from homeport.model.unsent import ExportRequest
from homeport.units import MiB
from tests.hosts import DISK, Copy, FakeHost
from tests.unit.interfaces.api.conftest import Lab
from tests.unit.orchestration.stages import done, protect

IMAGE = "disk0-unsent-1-0"


@pytest.fixture
def aside(lab: Lab) -> Lab:
    """An item whose source side has one image set aside."""
    done(lab.deck, protect())
    set_aside(lab.deck.east, "unsent")
    lab.deck.tick()
    return lab


def copy_of(host: FakeHost) -> Copy:
    (copy,) = host.copies.values()
    return copy


def set_aside(host: FakeHost, why: str) -> str:
    copy = copy_of(host)
    copy.unsent = 7 * MiB
    copy.aside.append(host._aside(copy, why))
    return Path(copy.aside[-1].path).name


def refused(call: object, *given: object, **named: object) -> HomeportError:
    assert callable(call)
    with pytest.raises(HomeportError) as caught:
        call(*given, **named)
    return caught.value


def test_images_are_listed_with_where_they_are(aside: Lab) -> None:
    (one,) = aside.client.unsent("shop")
    assert (one.site, one.host, one.alive) == ("east", "e1", True)
    assert (one.disk, one.image, one.size) == (DISK, IMAGE, 7 * MiB)
    assert one.path == f"/e1/{IMAGE}"


def test_those_of_both_hosts_are_listed_and_a_silent_one_as_it_was(aside: Lab) -> None:
    set_aside(aside.deck.west, "undone")
    aside.deck.tick()
    aside.deck.east.deaf = True
    aside.deck.tick(120)
    assert {(one.host, one.alive) for one in aside.client.unsent("shop")} == {
        ("e1", False),
        ("w1", True),
    }


def test_the_files_are_the_hosts_own_answer(aside: Lab) -> None:
    found = aside.client.unsent_files("shop", DISK)
    assert (found.image, found.way) == (IMAGE, "libguestfs")
    (system,) = found.file_systems
    assert [one.path for one in system.files] == ["/etc/new.conf"]
    (system,) = aside.client.unsent_files("shop", DISK, image=IMAGE, limit=0).file_systems
    assert (system.files, system.left_out) == ((), 1)


@pytest.mark.parametrize(
    ("asked", "given"), [(None, 120.0), (0.0, 1.0), (30.0, 30.0), (9999.0, 300.0)]
)
def test_reading_is_bounded_whatever_is_asked(
    aside: Lab, monkeypatch: pytest.MonkeyPatch, asked: float | None, given: float
) -> None:
    seen = []
    inner = aside.deck.ask

    def ask(host: object, kind: str, args: object, **named: object) -> object:
        seen.append((args.seconds, named["patience"]))  # type: ignore[attr-defined]
        return inner(host, kind, args, item=named["item"])  # type: ignore[arg-type]

    monkeypatch.setattr(aside.deck, "ask", ask)
    aside.client.unsent_files("shop", DISK, seconds=asked)
    assert seen == [(given, given + 30.0)]


def test_a_copy_is_a_job_of_the_images_host(aside: Lab) -> None:
    asked = ExportRequest(path="/srv/copy.raw", format="raw")
    job = aside.client.export_unsent("shop", DISK, asked)
    assert (job.kind, job.item_name) == ("Export unsent writes", "shop")
    ended = aside.end(job)
    assert ended.succeeded
    assert ended.result is not None
    assert (ended.result["host"], ended.result["path"]) == ("e1", "/srv/copy.raw")
    assert [task.state for task in ended.tasks] == ["Succeeded", "Succeeded"]
    (order,) = aside.deck.east.exported
    assert (order.image, order.format) == (IMAGE, "raw")
    assert aside.client.item("shop").state == "Protected"


def test_a_copy_that_the_host_refuses_fails_with_its_reason(aside: Lab) -> None:
    aside.deck.east.fails["export-unsent"] = RefusedError("No room.", code="BadExportPath")
    ended = aside.end(aside.client.export_unsent("shop", DISK, ExportRequest(path="/srv/c")))
    assert ended.error is not None
    assert ended.error["code"] == "BadExportPath"


def test_a_copy_asked_to_stop_before_it_began_copies_nothing(aside: Lab) -> None:
    job: JobReport = aside.client.export_unsent("shop", DISK, ExportRequest(path="/srv/c"))
    aside.client.cancel(job.id)
    assert aside.end(job).state == "Cancelled"
    assert aside.deck.east.exported == []


def test_discarding_takes_it_away(aside: Lab) -> None:
    done = aside.client.discard_unsent("shop", DISK, image=IMAGE)
    assert (done.files, done.freed) == ((IMAGE,), 7 * MiB)
    aside.deck.tick()
    assert aside.client.unsent("shop") == ()
    assert refused(aside.client.discard_unsent, "shop", DISK).code == "NoUnsent"


REFUSALS = {
    "no such item": ("other", DISK, None, "UnknownItem"),
    "no such disk": ("shop", "disk9", None, "NoUnsent"),
    "no such image": ("shop", DISK, "another.qcow2", "NoUnsent"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_not_there_is_refused_and_nothing_is_asked_of_a_host(aside: Lab, case: str) -> None:
    item, disk, image, code = REFUSALS[case]
    before, asked = aside.snapshot(), len(aside.deck.east.asked)
    for call in (aside.client.unsent_files, aside.client.discard_unsent):
        found = refused(call, item, disk, image=image)
        assert found.code in (code, "NotFound")
        assert found.remedy
    refused(aside.client.export_unsent, item, disk, ExportRequest(path="/srv/c", image=image))
    assert (aside.snapshot(), len(aside.deck.east.asked)) == (before, asked)


def test_several_images_want_a_name(aside: Lab) -> None:
    other = set_aside(aside.deck.east, "older")
    aside.deck.tick()
    assert refused(aside.client.unsent_files, "shop", DISK).code == "ManyUnsent"
    assert aside.client.unsent_files("shop", DISK, image=other).image == other


def test_a_format_that_is_none_is_refused(aside: Lab) -> None:
    asked = ExportRequest(path="/srv/c", format="vmdk")
    assert refused(aside.client.export_unsent, "shop", DISK, asked).code == "BadFormat"


def test_a_silent_host_is_named(aside: Lab) -> None:
    aside.deck.east.deaf = True
    aside.deck.tick(120)
    found = refused(aside.client.unsent_files, "shop", DISK)
    assert found.code == "SiteUnreachable"
    assert "e1" in found.message


def test_a_host_that_falls_silent_while_asked_is_a_passing_fault(aside: Lab) -> None:
    aside.deck.east.deaf = True
    found = refused(aside.client.unsent_files, "shop", DISK)
    assert (found.code, type(found).__name__) == ("HostUnreachable", "TransientError")


def test_the_hosts_own_refusal_comes_through(aside: Lab) -> None:
    aside.deck.east.fails["unsent-files"] = RefusedError(
        "Not here.", code="FilesUnreadableHere", cause="no kernel", remedy="Export it."
    )
    found = refused(aside.client.unsent_files, "shop", DISK)
    assert (found.code, found.remedy) == ("FilesUnreadableHere", "Export it.")


def test_the_role_of_the_host_does_not_matter(aside: Lab) -> None:
    copy_of(aside.deck.east).role = Role.FENCED
    aside.deck.tick()
    assert aside.client.unsent_files("shop", DISK).image == IMAGE
