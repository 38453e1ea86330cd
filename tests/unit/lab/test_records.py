"""What a guest says its disks hold, against what it acknowledged."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.lab.records import (
    Ack,
    Acks,
    BadRecordsError,
    DiskRecords,
    GuestNic,
    GuestRecords,
    check_records,
    parse_records,
    read_acks,
)

GOOD = DiskRecords(
    disk="os",
    device="/dev/vda2",
    first=1,
    last=10,
    count=10,
    gaps=0,
    bad=0,
    breaks=0,
    boots=1,
    sum=7,
    mounted="rw",
    replayed=False,
    torn=False,
    repair_status=0,
    check_status=0,
)
GUEST = GuestRecords(
    hostname="web",
    uptime=7.5,
    disks=(GOOD, replace(GOOD, disk="data", device="/dev/vdb")),
    nics=(GuestNic(name="eth0", mac="52:54:00:00:00:01", address="192.168.122.10/24"),),
)


def acked(disk: str, *numbers: int) -> Acks:
    return Acks(entries=tuple(Ack(disk=disk, number=n, boot=1, sum=0) for n in numbers))


def test_an_account_is_read_back() -> None:
    assert parse_records(json.dumps(asdict(GUEST))) == GUEST
    assert GUEST.disk("data").device == "/dev/vdb"
    with pytest.raises(KeyError):
        GUEST.disk("third")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("", id="nothing"),
        pytest.param("sh: records: not found", id="words"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="nothing in it"),
        pytest.param('{"hostname":"a","uptime":"x","disks":[],"nics":[]}', id="a bad number"),
        pytest.param('{"hostname":"a","uptime":1,"disks":[{"disk":"os"}],"nics":[]}', id="half"),
    ],
)
def test_anything_else_is_refused_with_what_was_said(answer: str) -> None:
    with pytest.raises(BadRecordsError) as caught:
        parse_records(answer)
    assert caught.value.answer == answer


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"gaps": 2}, "2 gap(s) in the numbers"),
        ({"bad": 1}, "1 line(s) that are no records"),
        ({"breaks": 3}, "3 record(s) that do not continue the one before"),
        ({"count": 9}, "9 records between 1 and 10"),
        ({"check_status": 4}, "file system not sound (e2fsck 0 and 4, mounted rw)"),
        ({"repair_status": 4}, "file system not sound (e2fsck 4 and 0, mounted rw)"),
        ({"repair_status": -1}, "file system not sound (e2fsck -1 and 0, mounted rw)"),
        ({"mounted": "ro"}, "file system not sound (e2fsck 0 and 0, mounted ro)"),
        ({"mounted": ""}, "file system not sound (e2fsck 0 and 0, mounted not at all)"),
    ],
)
def test_each_fault_is_found_and_named(change: dict[str, int], finding: str) -> None:
    disk = replace(GOOD, **change)  # type: ignore[arg-type]
    verdict = check_records(replace(GUEST, disks=(disk,)), Acks())
    assert verdict.disks[0].findings == (finding,)
    assert not verdict.sound
    assert verdict.complete


@pytest.mark.parametrize("change", [{"replayed": True}, {"torn": True}, {"repair_status": 1}])
def test_what_a_crash_leaves_and_boot_repairs_is_sound(change: dict[str, bool]) -> None:
    disk = replace(GOOD, **change)  # type: ignore[arg-type]
    assert check_records(replace(GUEST, disks=(disk,)), Acks()).sound


@pytest.mark.parametrize(
    ("numbers", "lost"),
    [
        pytest.param([], [], id="nothing acknowledged"),
        pytest.param([1, 5, 10], [], id="all there"),
        pytest.param([9, 10, 11], [11], id="one beyond the end"),
        pytest.param([13, 12, 13], [12, 13], id="sorted, each once"),
    ],
)
def test_acknowledged_and_not_there_is_lost(numbers: list[int], lost: list[int]) -> None:
    verdict = check_records(GUEST, acked("os", *numbers))
    assert verdict.disks[0].lost == lost
    assert verdict.disks[1].lost == []
    assert verdict.complete is not bool(lost)
    assert verdict.sound


def test_records_before_the_first_are_lost_too() -> None:
    disk = replace(GOOD, first=4, count=7)
    verdict = check_records(replace(GUEST, disks=(disk,)), acked("os", 3, 4))
    assert verdict.disks[0].lost == [3]


def test_no_log_is_no_acknowledgement(tmp_path: Path) -> None:
    assert read_acks(tmp_path / "absent") == Acks()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        pytest.param("", [], id="empty"),
        pytest.param("os 1 1 5\nos 2 1 6\n", [1, 2], id="whole"),
        pytest.param("os 1 1 5\nos 2 1 6", [1], id="cut in the last line"),
        pytest.param("os 1 1 5\ngarbage\nos 3 1 6\n", [1, 3], id="a foreign line"),
        pytest.param("data 1 1 5\n", [], id="the other disk's"),
        pytest.param("os -1 1 5\n", [], id="no number"),
    ],
)
def test_a_log_is_read_line_by_line(tmp_path: Path, text: str, numbers: list[int]) -> None:
    log = tmp_path / "ack"
    log.write_text(text)
    assert read_acks(log).numbers("os") == numbers
    assert read_acks(log).last("os") == max(numbers, default=0)


@given(st.lists(st.tuples(st.sampled_from(["os", "data"]), *[st.integers(0, 2**32)] * 3)))
def test_any_log_is_read_back(tmp_path_factory: pytest.TempPathFactory, raw: list[tuple]) -> None:  # type: ignore[type-arg]
    log = tmp_path_factory.mktemp("acks") / "ack"
    log.write_text("".join(f"{d} {n} {b} {s}\n" for d, n, b, s in raw))
    expected = tuple(Ack(disk=d, number=n, boot=b, sum=s) for d, n, b, s in raw)
    assert read_acks(log).entries == expected


def test_a_log_is_read_from_where_one_stopped(tmp_path: Path) -> None:
    log = tmp_path / "ack"
    log.write_text("os 1 1 5\n")
    start = log.stat().st_size
    with log.open("a") as file:
        file.write("os 2 1 6\n")
    assert read_acks(log, start=start).numbers("os") == [2]
