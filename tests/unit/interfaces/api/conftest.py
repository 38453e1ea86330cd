"""The API over a real vault and two hosts in memory; jobs are run when a test says so."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from homeport.client import Client
from homeport.interfaces.api.agents import AgentsApi
from homeport.interfaces.api.app import Services, create_app
from homeport.interfaces.api.bell import Bell
from homeport.interfaces.api.routers import ROUTERS
from homeport.model.reports import JobReport
from homeport.orchestration.desk import AgentDesk
from tests.unit.orchestration.scripted import Deck

with warnings.catch_warnings():  # it asks for a client of its own that is not ours to choose
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient


@dataclass
class Lab:
    """The client of the API, what is behind it, and how a job is brought to its end."""

    deck: Deck
    http: TestClient
    client: Client

    def end(self, job: JobReport) -> JobReport:
        """Run the job; its last report."""
        with self.deck.catalog.read() as rows:
            row = rows.job(job.id)  # type: ignore[arg-type]
        self.deck.run(row)
        return self.client.job(job.id)

    def snapshot(self) -> Any:
        """Everything a refused request must leave as it was."""
        with self.deck.catalog.read() as rows:
            jobs = [(job.id, job.state) for job in rows.jobs()]
            return (rows.items(), jobs, rows.network_mappings(), rows.sites(), rows.policies())


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    deck = Deck.open(tmp_path)
    bell = Bell()
    agents = AgentsApi(AgentDesk(deck.catalog), bell)
    app = create_app(Services(office=deck, agents=agents, bell=bell), ROUTERS)
    with TestClient(app, raise_server_exceptions=False) as http:
        yield Lab(deck=deck, http=http, client=Client("http://testserver", http=http))
    deck.catalog.close()
