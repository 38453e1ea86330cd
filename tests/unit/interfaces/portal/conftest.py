"""The server's application with the portal, over a real vault and two hosts in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from homeport.interfaces.api.agents import AgentsApi
from homeport.interfaces.api.app import Services, create_app
from homeport.interfaces.api.bell import Bell
from homeport.interfaces.api.routers import ROUTERS
from homeport.interfaces.portal.pages import add_portal
from homeport.orchestration.desk import AgentDesk
from tests.unit.interfaces.api.conftest import TestClient
from tests.unit.interfaces.portal.reading import Element, read
from tests.unit.orchestration.scripted import Deck


@dataclass
class Portal:
    """A browser before the portal, and the server behind it."""

    deck: Deck
    http: TestClient

    def page(self, path: str = "/", *, status: int = 200) -> Element:
        answer = self.http.get(f"/portal{path}")
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        return read(answer.text)

    def vault(self) -> Any:
        """What a page must leave as it was; questions to agents are no part of it."""
        with self.deck.catalog.read() as rows:
            held = (rows.items(), rows.jobs(), rows.ledger(), rows.network_mappings())
            return (held, rows.sites(), rows.policies(), dict(self.deck.east.machines))


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[Portal]:
    deck = Deck.open(tmp_path)
    bell = Bell()
    services = Services(office=deck, agents=AgentsApi(AgentDesk(deck.catalog), bell), bell=bell)
    app = create_app(services, ROUTERS)
    add_portal(app, services.office)
    with TestClient(app, raise_server_exceptions=False) as http:
        yield Portal(deck=deck, http=http)
    deck.catalog.close()
