"""One piece of work on one item: what it is done to, with what, and who may stop it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from homeport.agent.held import HeldItem
from homeport.agent.means import Means
from homeport.dataplane.layout import ItemStore
from homeport.dataplane.pipeline import Control
from homeport.model.messages import Progress, StoreAddress
from homeport.model.position import Position


@dataclass(kw_only=True)
class CycleState:
    """What a loop remembers between cycles and may lose: nothing here is needed for safety."""

    rotated_at: datetime | None = None
    app_at: datetime | None = None
    progress: Progress | None = None
    problem: dict[str, str] | None = None
    told: tuple[Position, datetime] | None = None  # what the source was told last, and when
    unprotected: tuple[str, ...] = ()  # disks the machine has and the item has not
    phase: str = "waiting"
    standing: dict[str, str] | None = None  # what was changed from outside and only a person mends
    settled: bool = False  # what a crash left open was finished, or the machine runs
    flagless: bool = False  # its file system has no flag for immutable files, and that was told
    unstarted: dict[str, str] | None = None  # why it does not run since the host's boot
    start_at: float = 0.0  # the monotonic second before which that is not tried again
    guard_at: float = 0.0  # the monotonic second before which the guard does not try again


@dataclass(frozen=True, kw_only=True)
class Work:
    """The item in hand, the means, and the reins. The holder of the item's lock has one."""

    held: HeldItem
    means: Means
    control: Control = field(default_factory=Control)
    state: CycleState = field(default_factory=CycleState)

    @cached_property
    def items(self) -> ItemStore:
        """The item's part of its direction's cache store."""
        cache = self.held.ledger.cache
        if cache is None:
            raise AssertionError("an item that replicates has a cache store")
        return self.items_in(cache)

    def items_in(self, cache: StoreAddress) -> ItemStore:
        """The item's part of a store."""
        return ItemStore(
            store=self.means.open_store(cache),
            vault=self.held.ledger.vault,
            item=self.held.ledger.item,
        )

    def watched(self) -> Work:
        """The same work, its progress kept where reports are made from."""
        return replace(self, control=replace(self.control, progress=self._watch()))

    def _watch(self) -> Callable[[int, int], None]:
        began = self.means.clock.monotonic()
        outer = self.control.progress

        def watch(done: int, total: int) -> None:
            span = max(self.means.clock.monotonic() - began, 1e-3)
            self.state.progress = Progress(done=done, total=total, rate=done / span)
            outer(done, total)

        return watch
