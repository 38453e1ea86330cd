"""
Making chains shorter: layers nobody needs any more go into the file below, or into the one above.

At a source this is the commit of what has landed, live while the machine runs; at a target it is
what retention leaves to do. The intent of a commit is in the ledger while the lower file equals no
point; it is finished before that file is used for anything else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from homeport.agent.held import HeldItem
from homeport.agent.means import Means
from homeport.dataplane.points import (
    backing_of,
    commit_down,
    merge_layers,
    punch,
    stamp,
    stand_on,
    sync_path,
)
from homeport.dataplane.qcow2 import read_map
from homeport.model.compaction import Pair, joined_down, joined_up, needed_positions, next_pair
from homeport.model.item import Role
from homeport.model.ledger import CommitIntent, DiskChain
from homeport.model.machine import DiskFormat, PowerState
from homeport.model.position import Position


def always() -> bool:
    """Go on to the end."""
    return True


RUNNING = frozenset({PowerState.RUNNING, PowerState.PAUSED})


def compact(held: HeldItem, means: Means, *, go_on: Callable[[], bool]) -> int:
    """
    Make every chain as short as what is needed allows; the number of layers that went.

    `go_on` is asked between layers and during live commits: False stops at a safe place.
    """
    if not finish_commit(held, means, go_on=go_on):
        return 0
    gone = 0
    for name in [chain.name for chain in held.ledger.disks]:
        while go_on():
            chain = held.ledger.chain(name)
            pair = next_pair(chain, needed_positions(held.ledger), up_to=_limit(held))
            if pair is None or not _join(held, means, chain, pair, go_on):
                break
            gone += 1
    return gone


def finish_commit(held: HeldItem, means: Means, *, go_on: Callable[[], bool] = always) -> bool:
    """
    Finish a commit that was cut short: until then its lower file equals no point.

    False when `go_on` stopped it once more; reading through the layer above stays right.
    """
    intent = held.ledger.committing
    if intent is None:
        return True
    chain = held.ledger.chain(intent.disk)
    upper = next((layer for layer in chain.layers if layer.path == intent.layer), None)
    if upper is None:
        held.save(committing=None)
        return True
    pair = Pair(lower=intent.into, upper=upper, lower_at=None)
    return _goes_down(held, means, chain, pair, go_on)


def _limit(held: HeldItem) -> Position | None:
    """The newest upper layer that may be joined."""
    if held.ledger.role is Role.SOURCE:
        return held.ledger.acknowledged
    return held.ledger.stands_at if held.ledger.role is Role.TARGET else None


def _join(
    held: HeldItem, means: Means, chain: DiskChain, pair: Pair, go_on: Callable[[], bool]
) -> bool:
    if held.ledger.role is Role.TARGET and pair.lower != chain.base:
        _goes_up(held, chain, pair)
        return True
    return _goes_down(held, means, chain, pair, go_on)


def _goes_up(held: HeldItem, chain: DiskChain, pair: Pair) -> None:
    """The upper file takes in the lower one: its name stays, so all above it stays right."""
    names = [chain.base, *(layer.path for layer in chain.layers)]
    below = names[names.index(pair.lower) - 1]
    merged = merge_layers(
        held.path(pair.lower),
        held.path(pair.upper.path),
        below=held.path(below),
        below_format=held.format_of(chain, below),
    )
    new = joined_up(chain, pair, changed=merged.total)
    held.save_chains([_stamped(held, new, pair.upper.path)])
    held.path(pair.lower).unlink(missing_ok=True)


def _goes_down(
    held: HeldItem, means: Means, chain: DiskChain, pair: Pair, go_on: Callable[[], bool]
) -> bool:
    """The lower file takes in the upper one, live when the machine runs on the chain."""
    intent = CommitIntent(disk=chain.name, layer=pair.upper.path, into=pair.lower)
    held.save(committing=intent)
    layer, into = held.path(pair.upper.path), held.path(pair.lower)
    above = _standing_on(held, chain, layer)
    if chain.active and means.compute.state(held.ledger.machine) in RUNNING:
        if not _live(held, means, chain, intent, go_on):
            return False
    else:
        into_format = held.format_of(chain, pair.lower)
        commit_down(layer, into=into, into_format=into_format, above=above)
    new = joined_down(chain, pair)
    held.save_chains([_stamped(held, new, pair.lower)], committing=None)
    layer.unlink(missing_ok=True)
    return True


def _live(
    held: HeldItem,
    means: Means,
    chain: DiskChain,
    intent: CommitIntent,
    go_on: Callable[[], bool],
) -> bool:
    """Commit under the running machine; synced, thin again, and every other image re-pointed."""
    layer, into = held.path(intent.layer), held.path(intent.into)
    names = [*(item.path for item in chain.layers), chain.active or ""]
    upper = held.path(names[names.index(intent.layer) + 1])
    if backing_of(upper) != into and not means.compute.commit(
        held.ledger.machine,
        chain.disk.target,
        base=into,
        top=layer,
        progress=lambda _current, _end: go_on(),
    ):
        return False
    for path in (into, upper, upper.parent):
        sync_path(path)
    if into == held.path(chain.base) and chain.disk.format is DiskFormat.RAW:
        punch(into, read_map(layer).zero)
        sync_path(into)
    for image in _standing_on(held, chain, layer):
        if image != upper:
            stand_on(image, below=into, below_format=held.format_of(chain, intent.into))
    return True


def _standing_on(held: HeldItem, chain: DiskChain, file: Path) -> list[Path]:
    """All images of the disk that name `file` below themselves."""
    names = [layer.path for layer in (*chain.layers, *chain.beyond)]
    names += [chain.active] if chain.active else []
    for unsent in chain.set_aside:
        names += [unsent.path, *unsent.below]
    if held.ledger.test and chain.name in held.ledger.test.overlays:
        names.append(held.ledger.test.overlays[chain.name])
    paths = [held.path(name) for name in names]
    return [path for path in paths if path.exists() and backing_of(path) == file]


def _stamped(held: HeldItem, chain: DiskChain, name: str) -> DiskChain:
    """The chain with the stamp of a file we have just written to."""
    seen = stamp(held.path(name))
    if name == chain.base:
        return replace(chain, base_stamp=seen)
    layers = tuple(
        replace(item, stamp=seen) if item.path == name else item for item in chain.layers
    )
    return replace(chain, layers=layers)
