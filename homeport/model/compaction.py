"""
Which two neighbouring files of a chain may become one: pure, the same on either side.

A lower file may take in the one above it when nobody needs the disk as the lower one has it. At the
source the upper one must have landed; the base never runs ahead of what the target holds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from homeport.model.ledger import DiskChain, ItemLedger, Layer, Unsent
from homeport.model.position import Position


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two neighbours: `upper` is to go into `lower`; `lower_at` is what would no longer be held."""

    lower: str
    upper: Layer
    lower_at: Position | None


def next_pair(
    chain: DiskChain, needed: Collection[Position], *, up_to: Position | None
) -> Pair | None:
    """
    The lowest pair that may become one, or None.

    `needed` are positions somebody reads from; `up_to` bounds the upper layer.
    """
    lower, lower_at = chain.base, chain.base_at
    for upper in chain.layers:
        if up_to is None or upper.position > up_to:
            return None
        if lower_at not in needed:
            return Pair(lower=lower, upper=upper, lower_at=lower_at)
        lower, lower_at = upper.path, upper.position
    return None


def joined_down(chain: DiskChain, pair: Pair) -> DiskChain:
    """The chain after `upper` went down into `lower`, whose file now holds both."""
    if pair.lower == chain.base:
        return replace(
            chain,
            base_at=pair.upper.position,
            base_state=pair.upper.state,
            layers=tuple(layer for layer in chain.layers if layer != pair.upper),
        )
    layers = []
    for layer in chain.layers:
        if layer.path == pair.lower:
            changed = layer.changed + pair.upper.changed
            layers.append(replace(pair.upper, path=pair.lower, changed=changed))
        elif layer != pair.upper:
            layers.append(layer)
    return replace(chain, layers=tuple(layers))


def joined_up(chain: DiskChain, pair: Pair, *, changed: int) -> DiskChain:
    """The chain after `upper`'s file took in `lower`, a layer, which can be removed."""
    layers = tuple(
        replace(layer, changed=changed) if layer == pair.upper else layer
        for layer in chain.layers
        if layer.path != pair.lower
    )
    return replace(chain, layers=layers)


def needed_positions(ledger: ItemLedger) -> set[Position]:
    """
    Positions that points, tests, unsent writes and what lies beyond a boot are read through.

    All that lies below a test or a temporary replica is needed as it is: somebody has the files
    open, and of a test's QEMU lets nobody write to them.
    """
    needed = {point.position for point in ledger.points}
    for chain in ledger.disks:
        tops = [one.position for one in ledger.reading if one.disk == chain.name]
        tops += [ledger.test.position] if ledger.test is not None else []
        held = (chain.base_at, *(layer.position for layer in chain.layers))
        needed |= {one for one in held if one is not None and any(one <= top for top in tops)}
        needed |= {unsent.position for unsent in chain.set_aside if unsent.position is not None}
        if chain.beyond and ledger.booted is not None:
            needed.add(ledger.booted)
    if ledger.resyncing and ledger.booted is not None:
        needed.add(ledger.booted)
    return needed


def carried(
    chain: DiskChain, gone: Collection[Layer], stands_on: Position | None, *, base: str = ""
) -> tuple[Unsent, ...]:
    """
    The images set aside, after layers left the chain that lay upon `stands_on`.

    An image that stood on one of them takes those it needs with it; two may share some. With `base`
    that file has left the chain too, and all of them stand on it.
    """
    left = {layer.position for layer in gone}
    return tuple(
        replace(
            unsent,
            position=stands_on,
            below=(*_below(unsent, gone), *unsent.below),
            base=unsent.base or base,
        )
        if unsent.position in left or (base and not unsent.base)
        else unsent
        for unsent in chain.set_aside
    )


def _below(unsent: Unsent, gone: Collection[Layer]) -> tuple[str, ...]:
    at = unsent.position
    return tuple(layer.path for layer in gone if at is not None and layer.position <= at)
