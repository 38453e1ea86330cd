"""
Making chains shorter: layers nobody needs any more go into the file below, or into the one above.

At a source this is the commit of what has landed, live while the machine runs; at a target it is
what retention leaves to do. The intent is in the ledger before a file changes, and is finished
before the files are used for anything else: until then the lower one may equal no point.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from homeport.agent.held import HeldItem
from homeport.agent.means import Means
from homeport.agent.rotation import RUNNING
from homeport.agent.stamps import altered, restamped
from homeport.dataplane.points import (
    backing_of,
    commit_down,
    disk_size,
    merge_layers,
    punch,
    stand_on,
    sync_path,
)
from homeport.dataplane.qcow2 import read_map
from homeport.model.compaction import Pair, joined_down, joined_up, needed_positions, next_pair
from homeport.model.item import Role
from homeport.model.ledger import CommitIntent, DiskChain
from homeport.model.machine import DiskFormat
from homeport.model.position import Position


def always() -> bool:
    """Go on to the end."""
    return True


def compact(
    held: HeldItem, means: Means, *, go_on: Callable[[], bool], most: int | None = None
) -> int:
    """
    Make every chain as short as what is needed allows; the number of layers that went.

    `go_on` is asked between layers and during live commits: False stops at a safe place. `most` is
    how many layers of a disk may go.
    """
    if not finish_commit(held, means, go_on=go_on):
        return 0
    gone = 0
    for name in [chain.name for chain in held.ledger.disks]:
        joined = 0
        while go_on() and (most is None or joined < most):
            chain = held.ledger.chain(name)
            pair = next_pair(chain, needed_positions(held.ledger), up_to=_limit(held))
            if pair is None or not _join(held, means, chain, pair, go_on):
                break
            joined += 1
        gone += joined
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
    if intent.up:
        _goes_up(held, chain, pair)
        return True
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
    if _is_live(held, means, chain) and not fits_live(held, chain, pair.lower, pair.upper.path):
        return False
    return _goes_down(held, means, chain, pair, go_on)


def _goes_up(held: HeldItem, chain: DiskChain, pair: Pair) -> None:
    """The upper file takes in the lower one: its name stays, so all above it stays right."""
    touched = altered(held, chain)
    intent = CommitIntent(disk=chain.name, layer=pair.upper.path, into=pair.lower, up=True)
    if held.ledger.committing == intent:  # resumed: it may be in place already
        touched -= {pair.upper.path}
    held.save(committing=intent)
    below = chain.names[chain.names.index(pair.lower) - 1]
    merged = merge_layers(
        held.path(pair.lower),
        held.path(pair.upper.path),
        below=held.path(below),
        below_format=held.format_of(chain, below),
    )
    new = restamped(held, joined_up(chain, pair, changed=merged.total), but=touched)
    held.save_chains([new], committing=None)
    held.drop([pair.lower])


def _goes_down(
    held: HeldItem, means: Means, chain: DiskChain, pair: Pair, go_on: Callable[[], bool]
) -> bool:
    """The lower file takes in the upper one, live when the machine runs on the chain."""
    intent = CommitIntent(disk=chain.name, layer=pair.upper.path, into=pair.lower)
    touched = altered(held, chain)
    if held.ledger.committing == intent:  # resumed: what was begun is ours, the header above too
        at = chain.names.index(pair.lower)
        touched -= set(chain.names[at : at + 3])
    held.save(committing=intent)
    layer, into = held.path(pair.upper.path), held.path(pair.lower)
    if _is_live(held, means, chain):
        if not _live(held, means, chain, intent, go_on):
            return False
    else:
        into_format = held.format_of(chain, pair.lower)
        above = held.standing_on(chain, layer)
        commit_down(layer, into=into, into_format=into_format, above=above)
    new = restamped(held, joined_down(chain, pair), but=touched)
    held.save_chains([new], committing=None)
    held.drop([pair.upper.path])
    return True


def _is_live(held: HeldItem, means: Means, chain: DiskChain) -> bool:
    return chain.active is not None and means.compute.state(held.ledger.machine) in RUNNING


def fits_live(held: HeldItem, chain: DiskChain, lower: str, upper: str) -> bool:
    """
    Whether a live commit leaves the lower file as long as the upper one.

    A longer one must be cut first: its end would come back when the disk is made longer again.
    Nobody can see that end, so a raw file is cut here; a qcow2 that QEMU has open cannot be.
    """
    into, into_format = held.path(lower), held.format_of(chain, lower)
    size = disk_size(held.path(upper), DiskFormat.QCOW2.value)
    if disk_size(into, into_format) <= size or into.is_block_device():
        return True
    if into_format == DiskFormat.QCOW2.value:
        return False
    os.truncate(into, size)
    sync_path(into)
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
    upper = held.path(chain.names[chain.names.index(intent.layer) + 1])
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
    for image in held.standing_on(chain, layer):
        if image != upper:
            stand_on(image, below=into, below_format=held.format_of(chain, intent.into))
    return True
