"""
What a guest's disks hold, by its own account, against what it had acknowledged to its host.

The guest writes numbered, chained records, syncs each, and then acknowledges it through a port to a
file of the host. So an acknowledged record that is missing was lost by whoever carried the disks.
The pure part; `homeport.lab.guestagent` asks the guest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from homeport.errors import IntegrityError

# e2fsck's exit status: 0 clean, 1 repaired; 4 and more: something is left.
_FSCK_HARMLESS = 1

_ACK = re.compile(rb"(os|data) (\d+) (\d+) (\d+)\n")


class BadRecordsError(IntegrityError):
    """The guest's answer is not an account of records."""

    code = "BadRecords"

    def __init__(self, *, answer: str, reason: str) -> None:
        super().__init__(f"The guest's account of its records cannot be read: {reason}.")
        self.answer, self.reason = answer, reason


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskRecords:
    """What one disk of the guest holds."""

    disk: str
    """`os` or `data`."""
    device: str
    first: int
    last: int
    count: int
    gaps: int
    """Places where the next number is not the one after."""
    bad: int
    """Lines that are no record of this disk."""
    breaks: int
    """Records whose sum does not continue that of the record before."""
    boots: int
    """Boot records: how often the workload started on this disk."""
    sum: int
    mounted: str
    """`rw`, `ro`, or empty if not mounted."""
    replayed: bool
    """Whether the journal was replayed before this boot: the disk was not shut down in order."""
    torn: bool
    """Whether this boot cut off a last record that was not whole."""
    repair_status: int
    """Exit status of `e2fsck -p` before mounting; -1 if it did not run."""
    check_status: int
    """Exit status of `e2fsck -fn` after that."""

    @property
    def chain_ok(self) -> bool:
        """Every record from the first to the last is there and continues the one before."""
        whole = self.count == self.last - self.first + 1
        return whole and not (self.gaps or self.bad or self.breaks)

    @property
    def file_system_ok(self) -> bool:
        """The file system is writable and was found sound when it was mounted."""
        sound = self.check_status == 0 and 0 <= self.repair_status <= _FSCK_HARMLESS
        return sound and self.mounted == "rw"


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestNic:
    """A network card as the guest sees it."""

    name: str
    mac: str
    address: str
    """With its prefix length; empty if none was given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestRecords:
    """What `/sbin/records` says."""

    hostname: str
    uptime: float
    disks: Sequence[DiskRecords]
    nics: Sequence[GuestNic]

    def disk(self, name: str) -> DiskRecords:
        """One disk's account. Raises KeyError if the guest has no such disk."""
        for each in self.disks:
            if each.disk == name:
                return each
        raise KeyError(name)


def parse_records(answer: str) -> GuestRecords:
    """
    The account in what `/sbin/records` printed.

    Raises:
        BadRecordsError: it is not JSON, or something is missing from it.
    """
    try:
        raw: Mapping[str, Any] = json.loads(answer)
        return GuestRecords(
            hostname=raw["hostname"],
            uptime=float(raw["uptime"]),
            disks=tuple(DiskRecords(**disk) for disk in raw["disks"]),
            nics=tuple(GuestNic(**nic) for nic in raw["nics"]),
        )
    except (ValueError, KeyError, TypeError) as fault:
        raise BadRecordsError(answer=answer, reason=str(fault)) from fault


@dataclass(frozen=True, kw_only=True, slots=True)
class Ack:
    """One record that the guest said was safely on its disk."""

    disk: str
    number: int
    boot: int
    sum: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Acks:
    """All that a guest acknowledged in one log, in order."""

    entries: Sequence[Ack] = ()

    def numbers(self, disk: str) -> list[int]:
        """Numbers acknowledged for a disk, in order."""
        return [ack.number for ack in self.entries if ack.disk == disk]

    def last(self, disk: str) -> int:
        """The highest number acknowledged for a disk; 0 for none."""
        return max(self.numbers(disk), default=0)


def _parse_acks(lines: Iterable[bytes]) -> Iterable[Ack]:
    for line in lines:
        found = _ACK.fullmatch(line)
        if found:
            disk, number, boot, said = found.groups()
            yield Ack(disk=disk.decode(), number=int(number), boot=int(boot), sum=int(said))


def _open_at(path: Path, start: int) -> BinaryIO:
    file = path.open("rb")
    file.seek(start)
    return file


def read_acks(path: Path, *, start: int = 0) -> Acks:
    """
    What is acknowledged in the log at `path`, from byte `start` on; nothing if there is no log.

    A last line that is not whole is left out: it was being written when the host died.
    """
    try:
        with _open_at(path, start) as file:
            return Acks(entries=tuple(_parse_acks(file)))
    except FileNotFoundError:
        return Acks()


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskVerdict:
    """What the account and the acknowledgements of one disk say together."""

    disk: str
    findings: Sequence[str]
    """What is wrong, in words; empty if nothing is."""
    lost: Sequence[int]
    """Numbers acknowledged that the disk does not hold, ascending."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the whole guest's account and acknowledgements say together."""

    disks: Sequence[DiskVerdict]

    @property
    def sound(self) -> bool:
        """Chains and file systems are whole; says nothing of what was lost at their end."""
        return not any(disk.findings for disk in self.disks)

    @property
    def complete(self) -> bool:
        """Nothing that was acknowledged is missing."""
        return not any(disk.lost for disk in self.disks)


def _findings(disk: DiskRecords) -> Iterable[str]:
    if disk.gaps:
        yield f"{disk.gaps} gap(s) in the numbers"
    if disk.bad:
        yield f"{disk.bad} line(s) that are no records"
    if disk.breaks:
        yield f"{disk.breaks} record(s) that do not continue the one before"
    if not disk.chain_ok and not (disk.gaps or disk.bad or disk.breaks):
        yield f"{disk.count} records between {disk.first} and {disk.last}"
    if not disk.file_system_ok:
        statuses = f"e2fsck {disk.repair_status} and {disk.check_status}"
        yield f"file system not sound ({statuses}, mounted {disk.mounted or 'not at all'})"


def _verdict(disk: DiskRecords, acks: Acks) -> DiskVerdict:
    lost = {number for number in acks.numbers(disk.disk) if not disk.first <= number <= disk.last}
    return DiskVerdict(disk=disk.disk, findings=tuple(_findings(disk)), lost=sorted(lost))


def check_records(records: GuestRecords, acks: Acks) -> Verdict:
    """
    Hold what a guest's disks contain against what was acknowledged.

    `acks` are those of the world the disks come from: after a failover, those logged at the old
    site until then. Of a guest that runs, read the acknowledgements first and ask it afterwards. A
    gap in the middle is a finding, records missing at the end are `lost`.
    """
    return Verdict(disks=tuple(_verdict(disk, acks) for disk in records.disks))
