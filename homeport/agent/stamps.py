"""
Stamps: whether anybody but Homeport wrote to a file that must not change.

Every immutable file of a chain has the stamp it had when we last wrote to it. Whoever rewrites a
header or commits into a file asks `altered` first and lets `restamped` take in what it did: a file
that had been touched from outside before stays known as such.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from homeport.agent.held import HeldItem
from homeport.dataplane.points import MissingLayerError, stamp
from homeport.model.ledger import DiskChain, Stamp


def altered(held: HeldItem, chain: DiskChain) -> frozenset[str]:
    """Base and layers that do not look as we left them; those never stamped are not told of."""
    seen = {chain.base: chain.base_stamp}
    seen |= {layer.path: layer.stamp for layer in (*chain.layers, *chain.beyond)}
    return frozenset(
        name for name, one in seen.items() if one is not None and one != _now(held.path(name))
    )


def restamped(held: HeldItem, chain: DiskChain, *, but: Collection[str] = frozenset()) -> DiskChain:
    """The chain with its files as they look now, except those named in `but`."""

    def seen(name: str, old: Stamp | None) -> Stamp | None:
        return old if name in but else _now(held.path(name)) or old

    return replace(
        chain,
        base_stamp=seen(chain.base, chain.base_stamp),
        layers=tuple(replace(one, stamp=seen(one.path, one.stamp)) for one in chain.layers),
        beyond=tuple(replace(one, stamp=seen(one.path, one.stamp)) for one in chain.beyond),
    )


def _now(path: Path) -> Stamp | None:
    try:
        return stamp(path)
    except MissingLayerError:
        return None
