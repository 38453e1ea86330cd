"""A fenced machine on a real host: undefined, unlocked and started by hand, and home again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport.client import Client
from homeport.dataplane.flags import is_immutable, set_immutable
from homeport.lab.commands import wait_until
from homeport.lab.guestagent import GuestSilentError
from homeport.lab.stage import EAST, GUEST, POLICY, WEST, Stage
from homeport.model.reports import JobReport
from homeport.model.requests import FailoverRequest, ProtectRequest, ReprotectRequest

pytestmark = [pytest.mark.real, pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    assert os.geteuid() == 0, "the lab needs root; CI runs as root"
    stage = Stage(name="guarded", tell=lambda _text: None)
    try:
        yield stage
    finally:
        stage.close()


@pytest.fixture(scope="module")
def client(stage: Stage) -> Iterator[Client]:
    """The guest protected from east to west, failed over and committed; east's is fenced."""
    client = stage.open()
    stage.add_guest()
    asked = ProtectRequest(vm=GUEST, source_site=EAST, target_site=WEST, policy=POLICY.name)
    assert virsh(stage, "autostart", GUEST)[0] == 0, "the user wants it started at boot"
    done(client, client.protect(asked))
    done(client, client.failover(GUEST, FailoverRequest(guest_timeout=60)))
    done(client, client.commit(GUEST))
    yield client
    client.close()


def done(client: Client, job: JobReport) -> JobReport:
    return client.wait(job.id, pause=time.sleep, every=0.1)


def virsh(stage: Stage, *words: str) -> tuple[int, str]:
    """`virsh` on east's host, as a person there would."""
    ended = stage.lab.run(EAST, ["virsh", "-c", "qemu:///system", *words])
    return ended.returncode, (ended.stdout + ended.stderr).decode()


def answers(stage: Stage) -> bool:
    """Whether the guest runs in east and its disks hold what it wrote."""
    try:
        return bool(stage.records(EAST).disks)
    except GuestSilentError:
        return False


def told(client: Client, code: str) -> None:
    """The item says what was done to its machine."""

    def there() -> bool:
        problem = client.item(GUEST).problem
        return problem is not None and problem["code"] == code

    wait_until(there, awaited=code, limit=60, pause=0.2)


def bases(stage: Stage) -> list[Path]:
    return sorted(stage.lab.host_folder(EAST).images.glob(f"{GUEST}*"))


def flagged(stage: Stage) -> list[Path]:
    return [path for path in bases(stage) if is_immutable(path)]


def keeps_flags(folder: Path) -> bool:
    probe = folder / "probe"
    probe.touch()
    could = set_immutable(probe, on=True)
    set_immutable(probe, on=False)
    probe.unlink()
    return could


def test_an_undefined_machine_is_back_and_told_and_may_not_start(
    stage: Stage, client: Client
) -> None:
    assert virsh(stage, "undefine", GUEST, "--nvram")[0] == 0
    told(client, "MachineUndefined")
    assert GUEST in stage.machines(EAST)
    status, said = virsh(stage, "start", GUEST)
    assert status != 0
    assert "Homeport denies the start" in said


def test_its_autostart_goes_off_again(stage: Stage, client: Client) -> None:
    assert virsh(stage, "autostart", GUEST)[0] == 0
    told(client, "AutostartSet")
    assert "Autostart:      disable" in virsh(stage, "dominfo", GUEST)[1]


def test_its_files_are_immutable_where_the_file_system_can(stage: Stage, client: Client) -> None:
    assert client.item(GUEST).state
    could = keeps_flags(stage.lab.host_folder(EAST).images)
    assert flagged(stage) == (bases(stage) if could else [])


def test_it_is_a_replica_and_comes_home_all_the_same(stage: Stage, client: Client) -> None:
    wait_until(
        lambda: not client.review(GUEST).problems, awaited="a good review", limit=60, pause=0.2
    )
    done(client, client.reprotect(GUEST, ReprotectRequest()))
    assert flagged(stage) == []
    assert virsh(stage, "undefine", GUEST)[0] == 0
    told(client, "MachineUndefined")
    assert "Homeport denies the start" in virsh(stage, "start", GUEST)[1]
    done(client, client.failover(GUEST, FailoverRequest(planned=True, guest_timeout=60)))
    assert stage.records(EAST).disks
    done(client, client.commit(GUEST))


def test_after_a_power_cut_it_starts_when_the_server_has_spoken_and_not_before(
    stage: Stage, client: Client
) -> None:
    stage.lab.cut(EAST)
    stage.lab.kill(EAST)
    stage.lab.start(EAST)
    wait_until(lambda: GUEST in virsh(stage, "list", "--all")[1], awaited="libvirtd", limit=60)
    status, said = virsh(stage, "start", GUEST)
    assert status != 0
    assert "has not heard from the server" in " ".join(said.split())
    stage.lab.heal(EAST)
    wait_until(
        lambda: "running" in virsh(stage, "domstate", GUEST)[1], awaited="the guest", limit=60
    )
    wait_until(lambda: answers(stage), awaited="the guest to boot", limit=90)
