"""Several items reprotected by one command, each its own job."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from homeport.lab.guests import wait_for_guest
from homeport.lab.stage import EAST, GUEST, WEST
from homeport.model.requests import FailoverRequest
from tests.acceptance.pair import Pair

pytestmark = [pytest.mark.real, pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(420)]
SECOND = "second"


@pytest.fixture
def both(pair: Pair) -> Iterator[Pair]:
    """The pair with another guest, which goes afterwards."""
    pair.begin_in(EAST)
    pair.add(SECOND)
    yield pair
    pair.done(pair.client.disable(SECOND))
    starts_again(pair, pair.here)
    for site in (EAST, WEST):
        pair.client.stop_vm(site, SECOND, timeout=0)
        pair.client.delete_vm(site, SECOND)
        for disk in pair.images(site).glob(f"{SECOND}-*"):  # the user's own now
            disk.unlink()


def starts_again(pair: Pair, site: str) -> None:
    """Released while it ran, the machine finds its disks at the next start too."""
    pair.client.stop_vm(site, SECOND, timeout=0)
    pair.client.start_vm(site, SECOND)
    with pair.stage.domain(site, SECOND) as found:
        wait_for_guest(found.domain)
    assert pair.stage.records(site, SECOND).disk("data").chain_ok


def test_one_command_reprotects_all_that_were_failed_over(both: Pair) -> None:
    names = (GUEST, SECOND)
    asked = FailoverRequest(planned=True, guest_timeout=30)
    for job in [both.client.failover(name, asked) for name in names]:
        both.done(job)
    for job in [both.client.commit(name) for name in names]:
        both.done(job)
    told = both.told("reprotect", "--all")
    assert {one["item"] for one in told} == set(names)
    assert all(one["job"]["state"] == "Succeeded" for one in told), told
    assert len({one["job"]["id"] for one in told}) == len(names)
    for name in names:
        item = both.client.item(name)
        assert (item.state, item.direction) == ("Protected", "west -> east")
        assert both.stage.records(WEST, name).disk("data").chain_ok
