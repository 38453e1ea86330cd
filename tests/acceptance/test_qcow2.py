"""Cases that the other files have on raw disks, on a guest whose disks are qcow2."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.pair import Pair
from tests.acceptance.test_failback_cases import gives_back_the_first_machine
from tests.acceptance.test_reprotect_ways import older, sends_what_differs

pytestmark = [pytest.mark.real, pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def qcow2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = Pair(name="qcow2", scratch=tmp_path_factory.mktemp("qcow2"), image_format="qcow2")
    try:
        pair.open()
        yield pair
    finally:
        pair.close()


def test_a_failback_gives_back_the_first_machine(qcow2: Pair) -> None:
    gives_back_the_first_machine(qcow2)
    qcow2.nothing_orphaned()


def test_an_exact_resync_sends_what_differs(qcow2: Pair) -> None:
    sends_what_differs(qcow2, older)
    qcow2.nothing_orphaned()
