"""One pair of sites for all cases that a worker runs; a case that fails does not spoil the next."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.acceptance.pair import Pair


@pytest.fixture(scope="package")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The worker's pair, open while this folder's tests run: its guest is at work all the time."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    pair = Pair(name=f"cases-{worker}", scratch=tmp_path_factory.mktemp("cases"))
    try:
        yield pair
    finally:
        pair.close()


@pytest.fixture
def pair(standing: Pair) -> Iterator[Pair]:
    """The pair with its item protected; afterwards ledgers and disks must agree."""
    assert os.geteuid() == 0, "the lab needs root; CI runs as root"
    if not standing.sound:
        standing.close()
        standing.open()
    yield standing
    if standing.sound:
        standing.nothing_orphaned()
