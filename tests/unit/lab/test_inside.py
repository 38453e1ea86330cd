"""The first process of a host keeps its services running."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from homeport.lab import inside
from homeport.lab.files import read_json, write_json
from homeport.lab.inside import Config, Service, Supervisor


class Machine:
    """Starts services without processes, and counts them. Ids rise from 100."""

    def __init__(self, tmp_path: Path) -> None:
        self.now = 10.0
        self.started: list[str] = []
        self.broken: set[str] = set()
        self.path = tmp_path / "config.json"
        self.services_file = tmp_path / "services.json"
        self.supervisor = Supervisor(
            config_path=self.path, start=self.start, clock=lambda: self.now
        )

    def start(self, service: Service) -> int:
        if service.name in self.broken:
            raise FileNotFoundError(service.argv[0])
        self.started.append(service.name)
        return 99 + len(self.started)

    def configure(self, **wanted: bool) -> None:
        services = tuple(
            Service(name=name, argv=(name,), environment={}, log=Path("/dev/null"), wanted=each)
            for name, each in wanted.items()
        )
        config = Config(
            hostname="east",
            binds=((Path("/a"), Path("/b")),),
            first=Path("/first"),
            services_file=self.services_file,
            services=services,
        )
        write_json(self.path, config.dump())
        assert inside.load(self.path) == config

    def turn(self, *dead: int, after: float = 0.0) -> object:
        self.now += after
        self.supervisor.bury(set(dead))
        self.supervisor.reconcile()
        return read_json(self.services_file)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_is_wanted_is_started_once_and_told(machine: Machine) -> None:
    machine.configure(libvirtd=True, agent=True)
    assert machine.turn() == {"libvirtd": 100, "agent": 101}
    assert machine.turn() == {"libvirtd": 100, "agent": 101}
    assert machine.started == ["libvirtd", "agent"]


def test_what_dies_rests_and_is_started_again(machine: Machine) -> None:
    machine.configure(libvirtd=True)
    machine.turn()
    assert machine.turn(100) == {}
    assert machine.turn(after=inside.RESTART_AFTER / 2) == {}
    assert machine.turn(after=inside.RESTART_AFTER) == {"libvirtd": 101}


def test_orphans_that_die_are_nobody(machine: Machine) -> None:
    machine.configure(libvirtd=True)
    machine.turn()
    assert machine.turn(7, 8, 9) == {"libvirtd": 100}


def test_what_is_held_down_stays_down_until_it_is_wanted(machine: Machine) -> None:
    machine.configure(libvirtd=True, agent=True)
    machine.turn()
    machine.configure(libvirtd=True, agent=False)
    assert machine.turn() == {"libvirtd": 100, "agent": 101}, "one that runs is left alone"
    assert machine.turn(101, after=60) == {"libvirtd": 100}
    machine.configure(libvirtd=True, agent=True)
    assert machine.turn(after=60) == {"libvirtd": 100, "agent": 102}


def test_a_service_may_come_later(machine: Machine) -> None:
    machine.configure(libvirtd=True)
    machine.turn()
    machine.configure(libvirtd=True, agent=True)
    assert machine.turn() == {"libvirtd": 100, "agent": 101}


def test_a_missing_program_does_not_take_the_host_down(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.configure(agent=True, libvirtd=True)
    machine.broken = {"agent"}
    assert machine.turn() == {"libvirtd": 100}
    assert "agent cannot be started" in capsys.readouterr().err
    machine.broken = set()
    assert machine.turn() == {"libvirtd": 100}, "not at once again"
    assert machine.turn(after=inside.RESTART_AFTER) == {"libvirtd": 100, "agent": 101}


def test_a_first_process_says_who_it_is(tmp_path: Path) -> None:
    inside.announce(tmp_path / "first.json")
    assert read_json(tmp_path / "first.json")["pid"] == os.getpid()


def test_a_service_writes_to_its_log_and_is_reaped(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    code = "import sys, os; print(os.environ['A'], file=sys.stderr)"
    service = Service(
        name="x", argv=(sys.executable, "-c", code), environment={"A": "b"}, log=log, wanted=True
    )
    pid = inside.spawn(service)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert pid in inside.collect_dead()
    assert log.read_text() == "before\nb\n"


def test_nothing_to_reap_is_no_error() -> None:
    assert inside.collect_dead() == set()
