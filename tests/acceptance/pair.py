"""
Two sites with a guest that writes throughout, reused by the cases of the reprotect.

A case begins with a protected item and ends with one; which side the guest runs on is as the case
before has left it, unless it asks for one. Everything is asked for by the API or the command line;
files, processes and stores are looked at from outside (`tests.acceptance.sides`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import libvirt

from homeport.client import Client
from homeport.errors import HomeportError
from homeport.lab.commands import run, wait_until
from homeport.lab.evidence import shape_of
from homeport.lab.guests import wait_for_guest
from homeport.lab.proofs import DISKS
from homeport.lab.records import Acks, GuestRecords, check_records
from homeport.lab.stage import EAST, GUEST, WEST, Stage
from homeport.model.machine import Firmware, PowerState
from homeport.model.policy import ReplicationPolicy
from homeport.model.position import Position
from homeport.model.reports import JobReport
from homeport.model.requests import FailoverRequest, ProtectRequest, ReprotectRequest
from homeport.model.review import Review
from homeport.units import MiB
from tests.acceptance.sides import SPEC, Sides

POLICY = ReplicationPolicy(
    name="demo", interval=timedelta(seconds=1), rpo_target=timedelta(seconds=30)
)
ROOM = 192 * MiB
"""Of the file system that the cache stores share."""


@dataclass
class Pair(Sides):
    """The stage, its client, and what the cases ask of both. `guest` is the item at work."""

    name: str
    scratch: Path
    image_format: str = "raw"
    firmware: Firmware = Firmware.BIOS
    guest: str = GUEST
    first: dict[str, dict[str, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stores = self.scratch / "stores"
        self.stage = Stage(
            name=self.name,
            rate=10,
            spec=replace(SPEC, image_format=self.image_format, firmware=self.firmware),
            policy=POLICY,
            stores=self.stores,
            tell=lambda _text: None,
        )
        self.up = False

    # -- up and down --

    def open(self) -> None:
        self.stores.mkdir(exist_ok=True)
        run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", self.name, self.stores])
        self.client: Client = self.stage.open()
        self.up = True
        self.add(GUEST)

    def add(self, guest: str) -> None:
        """Another guest of the kind, protected from east to west."""
        self.stage.add_guest(guest)
        self.first[guest] = self.shape(EAST, guest)
        asked = ProtectRequest(vm=guest, source_site=EAST, target_site=WEST, policy=POLICY.name)
        self.done(self.client.protect(asked))

    def close(self) -> None:
        if self.up:
            self.client.close()
        self.up = False
        self.stage.close()
        if os.path.ismount(self.stores):
            run(["umount", self.stores])

    @property
    def sound(self) -> bool:
        """Whether a case can begin: protected, both sides heard, the guest answering."""
        if not self.up:
            return False
        with suppress(HomeportError, libvirt.libvirtError):
            item = self.client.item(self.guest)
            alive = item.running.alive and item.standby.alive
            return item.state == "Protected" and alive and bool(self.stage.records(self.here))
        return False

    # -- where it runs --

    def begin_in(self, site: str) -> None:
        """Have the guest run in this site, protected."""
        if self.here != site:
            self.fail_over(planned=True)
            self.commit()
            self.reprotect()

    # -- what is asked for --

    def done(self, job: JobReport) -> JobReport:
        """Follow a job to its good end."""
        return self.client.wait(job.id, pause=time.sleep, every=0.1)

    def ended(self, job: JobReport) -> JobReport:
        """Follow a job to its end, whichever."""
        *_, report = self.client.follow(job.id, pause=time.sleep, every=0.1)
        return report

    def fail_over(self, *, planned: bool = False, point: str = "latest") -> dict[str, Any]:
        """Fail over, and wait until the guest has written on both disks where it is now."""
        to = self.there
        start = self.stage.acks_end(to)
        asked = FailoverRequest(planned=planned, point=point, guest_timeout=30)
        result = self.done(self.client.failover(self.guest, asked)).result or {}
        self.held_at_boot(to, start=start)
        return result

    def commit(self) -> None:
        self.done(self.client.commit(self.guest))

    def review(self, **asked: Any) -> Review:
        """The review, once both sides have told what they hold."""
        wait_until(
            lambda: not self.client.review(self.guest, ReprotectRequest(**asked)).problems,
            awaited="a review without problems",
            limit=60,
            pause=0.2,
        )
        return self.client.review(self.guest, ReprotectRequest(**asked))

    def reprotect(self, **asked: Any) -> JobReport:
        self.review(**asked)
        job = self.done(self.client.reprotect(self.guest, ReprotectRequest(**asked)))
        assert self.client.item(self.guest).state == "Protected"
        return job

    @property
    def kept(self) -> dict[str, bool]:
        """The option that keeps the machine of the side left: the original one stays anyway."""
        return {"keep_machine": True} if self.here == EAST else {}

    def start_reprotect(self, **asked: Any) -> JobReport:
        """Begin it, with the machine of the side left to be kept."""
        return self.client.reprotect(self.guest, ReprotectRequest(**{**self.kept, **asked}))

    def cli(self, *words: str, code: int = 0) -> str:
        """The installed program; its standard output, its standard error where it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "homeport", *words, "--server", self.client.url],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    def told(self, *words: str) -> Any:
        """What a command tells programs."""
        return json.loads(self.cli(*words, "--json"))

    def virsh(self, site: str, *words: str) -> tuple[int, str]:
        """`virsh` on a site's host, as a person there would: its status and all it said."""
        done = self.stage.lab.run(site, ["virsh", "-c", "qemu:///system", *words])
        return done.returncode, (done.stdout + done.stderr).decode()

    def reaches(self, job: JobReport, task: str) -> None:
        """Wait until a job is at a task; one that ends before is a failure of the test."""

        def there() -> bool:
            report = self.client.job(job.id)
            (found,) = [one for one in report.tasks if one.name == task]
            assert found.started_at or not report.ended, report
            return found.started_at is not None

        wait_until(there, awaited=task, limit=60, pause=0.02)

    def shipped(self, job: JobReport) -> None:
        """Wait until a resync lies in the store, all of it; it cannot have landed."""
        self.reaches(job, "Resynchronisation")

        def there() -> bool:
            captured = self.files(self.here).ledger.captured
            return bool(captured) and captured[0].shipped

        self.until(there, "the resync to be shipped")

    # -- points --

    def points(self) -> list[Position]:
        return [point.position for point in self.client.points(self.guest)]

    def newer_point(self) -> Position:
        """A point that was taken after this moment, landed."""
        moment = datetime.now(UTC)

        def landed() -> bool:
            return any(point.taken_at > moment for point in self.client.points(self.guest))

        self.until(landed, "a newer point")
        return self.points()[-1]

    # -- the guest --

    def shape(self, site: str, guest: str | None = None) -> dict[str, object]:
        with self.stage.domain(site, guest or self.guest) as found:
            return shape_of(found.domain)

    def records(self, site: str) -> GuestRecords:
        """The guest's own account, sound and free of gaps."""
        with self.stage.domain(site, self.guest) as found:
            wait_for_guest(found.domain)  # a failover does not wait for ever for a slow boot
        acks = self.stage.acks(site, name=self.guest)
        records = self.stage.records(site, self.guest)
        verdict = check_records(records, acks)
        assert [disk.findings for disk in verdict.disks] == [(), ()], verdict
        return records

    def held_at_boot(self, site: str, *, start: int = 0, name: str = "") -> dict[str, int]:
        """The last record that each disk held when the guest first booted in a site."""
        name = name or self.guest

        def acks() -> Acks:
            return self.stage.acks(site, start, name)

        def there() -> bool:
            return all(acks().numbers(disk) for disk in DISKS)

        # OVMF alone takes half a minute where it is emulated and the machine busy.
        self.until(there, "the guest's records", limit=180)
        return {disk: min(acks().numbers(disk)) - 1 for disk in DISKS}

    def power(self, site: str) -> PowerState:
        """The guest's machine in a site, by what libvirt there says."""
        with self.stage.domain(site, self.guest) as found:
            return PowerState.RUNNING if found.domain.isActive() else PowerState.OFF
