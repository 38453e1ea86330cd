"""A deck for each test: a fresh vault and two hosts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.orchestration.scripted import Deck


@pytest.fixture
def deck(tmp_path: Path) -> Iterator[Deck]:
    made = Deck.open(tmp_path)
    yield made
    made.catalog.close()
