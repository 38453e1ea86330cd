"""The program as a person runs it, against a real server over HTTP with two hosts in memory."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from homeport.interfaces.api.agents import AgentsApi
from homeport.interfaces.api.app import Services, create_app
from homeport.interfaces.api.bell import Bell
from homeport.interfaces.api.routers import ROUTERS
from homeport.interfaces.cli.frame import SERVER_VARIABLE
from homeport.interfaces.cli.main import app
from homeport.orchestration.desk import AgentDesk
from tests.serving import serving
from tests.unit.orchestration.scripted import Deck

made_once = functools.cache(get_command)


@pytest.fixture(autouse=True)
def _commands_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building the commands takes longer than most of them do."""
    monkeypatch.setattr("typer.testing._get_command", made_once)


@dataclass
class BusyDeck(Deck):
    """A deck that has run every job before its request is answered, unless it `idles`."""

    idles: bool = False

    @contextmanager
    def books(self) -> Any:
        with super().books() as rows:
            yield rows
        while self.submitted and not self.idles:
            with self.catalog.read() as rows:
                job = rows.job(self.submitted.pop(0))
            self.run(job)


@dataclass
class Shell:
    """Somebody's shell: `run` is a command line, `deck` what is behind the server."""

    deck: BusyDeck
    url: str
    runner: CliRunner = field(default_factory=CliRunner)

    def run(self, line: str, *, code: int = 0) -> Result:
        """Run a command line; it must end with `code`."""
        environment = {SERVER_VARIABLE: self.url, "COLUMNS": "100"}
        result = self.runner.invoke(app, line.split(), env=environment)
        assert result.exit_code == code, result.output
        return result

    def data(self, line: str, *, code: int = 0) -> Any:
        """What a command prints with --json: one document and nothing else."""
        return json.loads(self.run(f"{line} --json", code=code).stdout)

    def refusal(self, line: str, *, code: int) -> dict[str, str]:
        """The error of a command run with --json; standard output stays empty."""
        result = self.run(f"{line} --json", code=code)
        assert result.stdout == ""
        error: dict[str, str] = json.loads(result.stderr)["error"]
        return error


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    deck = BusyDeck.open(tmp_path)
    assert isinstance(deck, BusyDeck)
    bell = Bell()
    agents = AgentsApi(AgentDesk(deck.catalog), bell)
    served = create_app(Services(office=deck, agents=agents, bell=bell), ROUTERS)
    with serving(served) as http:
        yield Shell(deck=deck, url=str(http.base_url))
    deck.catalog.close()
