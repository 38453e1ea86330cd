"""
The agent's process: it asks the server what should be so and what to do, does it, and tells.

Assignments are kept on disk, so replication goes on without the server and after a restart. What
was begun is finished before anything new of the same item. Nothing listens here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from homeport import __version__
from homeport.agent import guard
from homeport.agent.assigned import loses, news
from homeport.agent.confirming import (
    after_boot,
    confirm,
    is_start_due,
    owned,
    start_again,
    unstarted,
)
from homeport.agent.handlers import carry_out
from homeport.agent.journal import Journal
from homeport.agent.ledgers import write_durably
from homeport.agent.link import Link
from homeport.agent.loop import ItemLoop
from homeport.agent.operations.failing_over import fence_item
from homeport.agent.operations.order import Bench
from homeport.agent.reporting import report_items
from homeport.agent.shelf import Shelf
from homeport.agent.temporary import sweep as sweep_temporary
from homeport.dataplane.pipeline import Control
from homeport.errors import HomeportError
from homeport.model.codec import from_json, to_json
from homeport.model.messages import (
    PROTOCOL,
    AgentReport,
    Assignment,
    OperationOrder,
    OperationReport,
    Progress,
    SyncAnswer,
    SyncRequest,
)

WORKERS = 16
"""Operations at once; more wait their turn. They mostly wait for disks and guests."""
REPORT_EVERY = 0.5
INVENTORY_EVERY = 5.0
GUARD_EVERY = 5.0
"""Seconds between two looks for what was done to machines from outside."""
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
    _mended: set[str] = field(default_factory=set)
    _heard: tuple[Assignment, ...] = ()  # what the server has said last in this process's life
    _owned: set[str] = field(default_factory=set)  # what it has confirmed in this process's life
    _starting: set[str] = field(default_factory=set)
    _assigning: set[str] = field(default_factory=set)
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
        for work in (self._report_loop, self._sync_loop, self._guard_loop):
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
                continue
            except HomeportError as error:
                log.warning("sync_failed", code=error.code, message=error.message)
            except Exception:
                # A full disk, for one: an agent that reports and hears nothing is worse than none.
                log.exception("sync_broke")
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
            self._heard = answer.assignments
            self._keep_marks()
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
        if self._ended(identity, report):
            self._settle()

    def _ended(self, identity: str, report: OperationReport) -> bool:
        """Write an end down, however long a full disk takes; False when this process ends first."""
        while True:
            try:
                self.journal.end(identity, report)
            except OSError as error:
                log.warning("end_not_written", id=identity, message=str(error))
                if self.stop.wait(RETRY[0]):
                    return False
            else:
                return True

    # -- what should be so --

    def _settle(self) -> None:
        """
        Make this host as assigned: fences that are due, loops that are wanted.

        What needs the item is done by a worker: an operation may hold it for hours, and the server
        is to be heard and the others to be guarded meanwhile.
        """
        with self._lock:
            for item, assignment in self._assigned.items():
                try:
                    self._settle_item(item, assignment)
                except (HomeportError, OSError) as error:
                    log.warning("assignment_failed", item=item, message=str(error))
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
        if loses(ledger, assignment) or news(ledger, assignment):
            self._once(self._assigning, item, lambda: self._assign(item))
        elif item in self._wanted_loops() and item not in self._loops:
            self._loops[item] = ItemLoop(self.shelf, item)
            self._loops[item].start()

    def _assign(self, item: str) -> None:
        """Have the ledger be as assigned by now, and then the loop begin."""
        try:
            with self.shelf.claim(item, Control()) as work:
                held, assignment = work.held, self._assigned.get(item)
                if assignment is None:
                    return
                if loses(held.ledger, assignment):
                    fence_item(work, assignment.epoch, lock=held.ledger.lock)
                held.save(**news(held.ledger, assignment))
        except (HomeportError, OSError) as error:
            log.warning("assignment_failed", item=item, message=str(error))
            return  # the server's next answer has it tried again
        self._settle()

    def _sweep(self) -> None:
        """Remove what a crash left: temporary replicas, and files no ledger speaks of."""
        for item in self.shelf.items():
            try:
                sweep_temporary(self.shelf.peek(item), self.shelf.means)
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

    # -- what may start --

    def _keep_marks(self) -> None:
        """
        Machines that this side owns by the server's word may start, and those that a boot stopped
        do. What empties libvirt's folder while this process lives is no boot.
        """
        for one in self._heard:
            if not self.shelf.has(one.item):
                continue
            try:
                if owned(self.shelf.peek(one.item).ledger, one):
                    self._keep_mark(one)
            except (HomeportError, OSError) as error:  # its pool is mounted later
                log.debug("not_confirmed", item=one.item, message=str(error))

    def _keep_mark(self, assignment: Assignment) -> None:
        item, means = assignment.item, self.shelf.means
        confirm(means, item) if item in self._owned else after_boot(means, item)
        self._owned.add(item)
        waits = self.shelf.state(item).start_at > means.clock.monotonic()
        if is_start_due(means, item) and not waits:
            self._once(self._starting, item, lambda: self._start_again(assignment))

    def _start_again(self, assignment: Assignment) -> None:
        item = assignment.item
        state = self.shelf.state(item)
        try:
            with self.shelf.claim(item, Control(cancelled=self.stop.is_set)) as work:
                if owned(work.held.ledger, assignment) and start_again(work):
                    log.info("started_after_boot", item=item)
                state.unstarted = None
        except (HomeportError, OSError) as error:
            state.start_at = self.shelf.means.clock.monotonic() + guard.RETRY
            state.unstarted = unstarted(assignment.name, error)
            log.warning("not_started", item=item, **state.unstarted)

    # -- what is not to be touched --

    def _guard_loop(self) -> None:
        while not self.stop.wait(GUARD_EVERY):
            try:
                self._look_round()
            except HomeportError as error:
                log.debug("no_guard", code=error.code, message=error.message)
            except Exception:
                log.exception("guard_broke")

    def _look_round(self) -> None:
        self._keep_marks()
        guard.go_round(self.shelf, self._mend)

    def _mend(self, item: str) -> None:
        """In a worker: an operation may hold the item for hours, and the others are looked at."""
        self._once(self._mended, item, lambda: self._mend_one(item))

    def _mend_one(self, item: str) -> None:
        try:
            with self.shelf.claim(item, Control(cancelled=self.stop.is_set)) as work:
                guard.mend(work)
        except HomeportError as error:
            log.debug("not_guarded", item=item, message=error.message)  # released meanwhile

    def _once(self, at_work: set[str], item: str, act: Callable[[], None]) -> None:
        """Have a worker do it, unless one is at it for that item already."""
        with self._lock:
            if item in at_work:
                return
            at_work.add(item)
        self._pool.submit(self._act, at_work, item, act)

    def _act(self, at_work: set[str], item: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:
            log.exception("work_broke", item=item)  # nobody looks at what a worker returns
        finally:
            with self._lock:
                at_work.discard(item)

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
