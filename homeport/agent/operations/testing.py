"""Test failover: a point booted beside the replication, and everything of it gone afterwards."""

from __future__ import annotations

import uuid

from homeport.agent.booting import await_guest, lay_overlays, manifest_of, place, start
from homeport.agent.committing import finish_commit
from homeport.agent.machine import check_name_free, delete_own
from homeport.agent.operations.failing_over import need_role
from homeport.agent.operations.order import Bench
from homeport.errors import RefusedError
from homeport.model.host import Note
from homeport.model.item import Role
from homeport.model.ledger import RunningTest
from homeport.model.operations import Nothing, PromoteFacts, TestBoot, TestCleanup

TEST_SPACE = uuid.UUID("5b0f6f5e-6c5d-5f43-9a57-6f6d65706f72")
"""Namespace of test machines' ids: the same test gets the same id when it is tried again."""


class TestRunningError(RefusedError):
    """A second test of an item while one is running."""

    code = "TestRunning"

    def __init__(self, machine: str) -> None:
        super().__init__(
            f"A test machine is there already: {machine}.",
            cause="A test counts, and another can begin, after its cleanup.",
            remedy="Clean it up first (homeport test-cleanup ITEM).",
        )


def test_boot(bench: Bench, order: TestBoot) -> PromoteFacts:
    """Boot a point as the test machine; the point and all below it stay while it lives."""
    with bench.shelf.claim(order.item, bench.control) as work:
        held, means = work.held, work.means
        need_role(held, Role.TARGET)
        manifest = manifest_of(held, order.position)
        finish_commit(held, means)
        running = held.ledger.test
        if running and (running.position, running.machine) != (order.position, order.machine):
            raise TestRunningError(running.machine)
        check_name_free(held, means, order.machine)
        overlays: dict[str, str] = {
            chain.name: f"{chain.name}/{chain.name}-ASRtest.qcow2" for chain in held.ledger.disks
        }
        made = held.made("machine", order.machine, "test failover", means.clock.now())
        test = RunningTest(machine=order.machine, position=order.position, overlays=overlays)
        held.save(test=test, made=made)
        lay_overlays(held, overlays, order.position)
        definition = manifest.machine
        placement = place(
            held,
            definition,
            overlays,
            name=order.machine,
            networks={nic.network: order.network for nic in definition.nics if nic.network},
            note=Note(item=held.item, epoch=held.ledger.epoch, role="test", may_start=True),
            variables=str(held.folder / f"{order.machine}.nvram.fd"),
            uuid=str(uuid.uuid5(TEST_SPACE, f"{held.item}/{order.machine}")),
        )
        means.compute.create(definition, placement)
        started = start(held, means, order.machine, depth_at=order.position)
    return await_guest(bench.means, order.machine, started, wait=order.guest_timeout)


def test_cleanup(bench: Bench, order: TestCleanup) -> Nothing:
    """Take the test machine and its disks away; done twice is done once."""
    with bench.shelf.claim(order.item, bench.control) as work:
        held = work.held
        test = held.ledger.test
        if test is None:
            return Nothing()
        delete_own(held, work.means, test.machine)
        held.save(test=None, made=held.gone("machine", test.machine, work.means.clock.now()))
        held.drop(test.overlays.values())
        return Nothing()
