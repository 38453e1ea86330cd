"""
The agent's process: it asks the server what should be so and what to do, does it, and tells.

Assignments are kept on disk, so replication goes on without the server and after a restart. What
was begun is finished before anything new of the same item. Nothing listens here.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from homeport import __version__
from homeport.agent.handlers import carry_out
from homeport.agent.journal import Journal
from homeport.agent.ledgers import write_durably
from homeport.agent.link import Link
from homeport.agent.loop import ItemLoop
from homeport.agent.operations.failing_over import fence_item
from homeport.agent.operations.order import Bench
from homeport.agent.reporting import report_items
from homeport.agent.shelf import Shelf
from homeport.dataplane.pipeline import Control
from homeport.errors import HomeportError
from homeport.model.codec import from_json, to_json
from homeport.model.item import Role
from homeport.model.messages import (
    PROTOCOL,
    AgentReport,
    Assignment,
    OperationOrder,
    Progress,
    SyncAnswer,
    SyncRequest,
)

WORKERS = 16
"""Operations at once; more wait their turn. They mostly wait for disks and guests."""
REPORT_EVERY = 0.5
INVENTORY_EVERY = 5.0
RETRY = (0.5, 10.0)
"""Seconds before the server is tried again, at first and at most."""

log = structlog.get_logger("homeport.agent")


@dataclass
class Agent:
    """One host's agent. `run` works until `stop` is set."""

    shelf: Shelf
    link: Link
    state: Path
    wait: float = 20.0
    stop: threading.Event = field(default_factory=threading.Event)
    _loops: dict[str, ItemLoop] = field(default_factory=dict)
    _cancelled: set[str] = field(default_factory=set)
    _revision: int = -1
    _assigned: dict[str, Assignment] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.journal = Journal(self.state / "operations")
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="operation")

    def run(self) -> None:
        """Work until stopped: first what was left open, then what the server wants."""
        self.journal.load()
        self._arm_hook()
        self._sweep()
        self._load_assignments()
        for order in self.journal.open_orders():
            self._pool.submit(self._carry_out, order)
        self._settle()
        for work in (self._report_loop, self._sync_loop):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()
        self.stop.wait()
        # A long poll under way is left to end with the process: it holds nothing.
        for loop in list(self._loops.values()):
            loop.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _arm_hook(self) -> None:
        """
        Have libvirt deny the start of machines that run elsewhere, whatever this host becomes.

        libvirtd reads its hooks when it starts, so after the first time it must start once more.
        """
        try:
            armed = self.shelf.means.compute.install_hook()
        except HomeportError as error:
            log.warning("hook_not_installed", code=error.code, message=error.message)
            return
        if not armed:
            log.warning(
                "hook_not_running",
                cause="libvirtd has run since before the hook was put in place",
                remedy="restart libvirtd once: machines run on; until then a fenced machine can be "
                "started by hand",
            )

    # -- what the server wants --

    def _sync_loop(self) -> None:
        pause = RETRY[0]
        while not self.stop.is_set():
            try:
                answer = self.link.sync(self._request())
                self._take(answer)
                pause = RETRY[0]
            except HomeportError as error:
                log.warning("sync_failed", code=error.code, message=error.message)
                self.stop.wait(pause)
                pause = min(pause * 2, RETRY[1])

    def _request(self) -> SyncRequest:
        means = self.shelf.means
        return SyncRequest(
            site=means.site,
            host=means.host,
            agent_version=__version__,
            protocol=PROTOCOL,
            revision=self._revision,
            operations=tuple(report.id for report in self.journal.reports()),
            wait=self.wait,
        )

    def _take(self, answer: SyncAnswer) -> None:
        self._cancelled.update(answer.cancelled)
        for order in answer.operations:
            if self.journal.take(order):
                self._pool.submit(self._carry_out, order)
        if answer.assignments is not None:
            self._assigned = {one.item: one for one in answer.assignments}
            self._keep_assignments()
        self._revision = answer.revision
        self._settle()

    def _carry_out(self, order: OperationOrder) -> None:
        identity = order.id
        control = Control(
            cancelled=lambda: identity in self._cancelled or self.stop.is_set(),
            progress=lambda done, total: self.journal.progress(
                identity, Progress(done=done, total=total)
            ),
        )
        log.info("operation", id=identity, kind=order.kind)
        report = carry_out(Bench(shelf=self.shelf, control=control), order)
        if self.stop.is_set() and report.error and report.error.get("kind") == "cancelled":
            return  # this process is ending: the next one begins the operation again
        self.journal.end(identity, report)
        self._settle()

    # -- what should be so --

    def _settle(self) -> None:
        """Make this host as assigned: fences that are due, loops that are wanted."""
        with self._lock:
            for item, assignment in self._assigned.items():
                try:
                    self._settle_item(item, assignment)
                except HomeportError as error:
                    log.warning("assignment_failed", item=item, code=error.code)
            for item in set(self._loops) - set(self._wanted_loops()):
                self._loops.pop(item).stop()

    def _wanted_loops(self) -> list[str]:
        busy = {order.item for order in self.journal.open_orders()}
        running = set(self._loops)
        return [
            item
            for item, one in self._assigned.items()
            if one.replicate and self.shelf.has(item) and (item in running or item not in busy)
        ]

    def _settle_item(self, item: str, assignment: Assignment) -> None:
        if not self.shelf.has(item):
            return
        ledger = self.shelf.peek(item).ledger
        owns = ledger.role in {Role.SOURCE, Role.RUNNING}
        if assignment.role is Role.FENCED and owns and assignment.epoch > ledger.epoch:
            with self.shelf.claim(item, Control()) as work:
                fence_item(work, assignment.epoch, lock=ledger.lock)
        # A fenced or booted side keeps the store of the direction that ended: it empties it later.
        replicates = ledger.role in {Role.SOURCE, Role.TARGET}
        if replicates and assignment.role is ledger.role and assignment.epoch >= ledger.epoch:
            self._refresh(item, assignment)
        if item in self._wanted_loops() and item not in self._loops:
            self._loops[item] = ItemLoop(self.shelf, item)
            self._loops[item].start()

    def _refresh(self, item: str, assignment: Assignment) -> None:
        ledger = self.shelf.peek(item).ledger
        news = (assignment.policy, assignment.cache, assignment.epoch)
        if news == (ledger.policy, ledger.cache, ledger.epoch):
            return
        with self.shelf.claim(item, Control()) as work:
            work.held.save(policy=assignment.policy, cache=assignment.cache, epoch=assignment.epoch)

    def _sweep(self) -> None:
        """Remove what a crash left: files no ledger speaks of."""
        for item in self.shelf.items():
            try:
                gone = self.shelf.peek(item).sweep_files()
            except (HomeportError, OSError) as error:
                log.warning("item_not_readable", item=item, message=str(error))
                continue
            if gone:
                log.info("swept", item=item, files=[path.name for path in gone])

    def _load_assignments(self) -> None:
        path = self.state / "assignments.json"
        if path.exists():
            kept = from_json(tuple[Assignment, ...], path.read_bytes())
            self._assigned = {one.item: one for one in kept}

    def _keep_assignments(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        body = to_json(tuple[Assignment, ...], tuple(self._assigned.values()))
        write_durably(self.state / "assignments.json", body)

    # -- what the server is told --

    def _report_loop(self) -> None:
        told_inventory = -INVENTORY_EVERY
        pause = REPORT_EVERY
        while not self.stop.wait(pause):
            now = self.shelf.means.clock.monotonic()
            with_inventory = now - told_inventory >= INVENTORY_EVERY
            try:
                self._report(with_inventory=with_inventory)
                told_inventory = now if with_inventory else told_inventory
                pause = REPORT_EVERY
            except HomeportError as error:
                log.debug("report_failed", code=error.code, message=error.message)
                pause = min(pause * 2, RETRY[1])
            except Exception:
                # Whatever it was, a host that falls silent would be taken for dead.
                log.exception("report_broke")
                pause = min(pause * 2, RETRY[1])

    def _report(self, *, with_inventory: bool) -> None:
        means = self.shelf.means
        report = AgentReport(
            site=means.site,
            host=means.host,
            agent_version=__version__,
            protocol=PROTOCOL,
            inventory=means.compute.inventory() if with_inventory else None,
            items=report_items(self.shelf),
            operations=self.journal.reports(),
        )
        answer = self.link.report(report)
        self._cancelled.update(answer.cancelled)
        for identity in answer.recorded:
            self.journal.recorded(identity)
            self._cancelled.discard(identity)
