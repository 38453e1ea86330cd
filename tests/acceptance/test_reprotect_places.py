"""Unmanaged disks, another pool, and a storage account that is gone, with libvirt and a guest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from homeport.lab.stage import EAST, GUEST, WEST
from homeport.model.planning import Way
from homeport.model.requests import ProtectRequest
from tests.acceptance.images import freed
from tests.acceptance.pair import POLICY, Pair

pytestmark = [pytest.mark.real, pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(600)]

COPY = "-OScopy"


@pytest.fixture
def fresh(pair: Pair) -> Iterator[Pair]:
    """A pair of the case's own: what it leaves is not what others begin with."""
    pair.begin_in(EAST)
    yield pair
    pair.close()


def disks_of(pair: Pair, site: str) -> dict[str, str]:
    """Each disk's file by target, as the machine's next start would have it."""
    status, said = pair.virsh(site, "domblklist", GUEST, "--inactive")
    assert status == 0, said
    lines = [line.split() for line in said.splitlines()[2:] if line.strip()]
    return {target: path for target, path in lines if target.startswith("vd")}


def pools(pair: Pair, site: str) -> set[str]:
    status, said = pair.virsh(site, "pool-list", "--all", "--name", "--persistent", "--autostart")
    assert status == 0, said
    return set(said.split())


def lost(pair: Pair) -> None:
    pair.fail_over(planned=True)
    pair.commit()


def test_unmanaged_disks_are_used_and_the_kept_machine_has_a_copy(fresh: Pair) -> None:
    fresh.done(fresh.client.disable(GUEST))
    asked = ProtectRequest(
        vm=GUEST, source_site=EAST, target_site=WEST, policy=POLICY.name, unmanaged=True
    )
    fresh.done(fresh.client.protect(asked))
    own = {target: path.rpartition("/")[2] for target, path in disks_of(fresh, EAST).items()}
    assert len(own) == 2
    lost(fresh)
    system, data = fresh.review().disks
    assert system.actions[0].startswith("copied: ")
    assert data.actions[0].startswith("detached: ")
    fresh.reprotect()
    kept = disks_of(fresh, EAST)
    assert list(kept) == ["vda"]
    assert COPY in kept["vda"]
    assert not any("ASRReplica" in path.name for path in fresh.images(EAST).iterdir())
    fresh.same_at_both()
    fresh.fail_over(planned=True)
    assert set(disks_of(fresh, EAST)) == {"vda", "vdb"}
    assert not any(COPY in path.name for path in fresh.images(EAST).iterdir())
    assert fresh.records(EAST)
    fresh.commit()
    fresh.reprotect()
    fresh.same_at_both()
    fresh.nothing_orphaned()


def test_a_storage_account_that_is_gone_is_made_anew(fresh: Pair) -> None:
    lost(fresh)
    fresh.stage.lab.kill_process(EAST, "agent", again=False)
    for words in (("undefine", GUEST), ("pool-destroy", "default"), ("pool-undefine", "default")):
        status, said = fresh.virsh(EAST, *words)
        assert status == 0, said
    for path in fresh.images(EAST).rglob("*"):
        freed(path)
    shutil.rmtree(fresh.images(EAST))
    fresh.stage.lab.start_process(EAST, "agent")
    fresh.stage.wait_alive(fresh.client, EAST)
    review = fresh.review()
    storage = next(row for row in review.rows if row.setting == "replica managed disks")
    assert (storage.value, storage.new) == ("defaultasr", True)
    assert review.way is Way.FULL
    fresh.reprotect()
    assert pools(fresh, EAST) == {"defaultasr"}
    fresh.fail_over(planned=True)
    assert all("/defaultasr/" in path for path in disks_of(fresh, EAST).values())
    assert fresh.records(EAST)
