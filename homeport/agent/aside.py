"""
Writes set aside: what one side had and the other has not is kept as an image anyone can open.

It stands on the point it was made after, so that point's files stay while it lives. It expires by
policy, and goes when the item is released.
"""

from __future__ import annotations

import os
from dataclasses import replace

from homeport.agent.held import HeldItem
from homeport.agent.means import Means
from homeport.dataplane.points import sync_path
from homeport.dataplane.qcow2 import read_map
from homeport.model.ledger import DiskChain, Unsent
from homeport.model.messages import UnsentReport
from homeport.model.position import Position


def set_aside(held: HeldItem, means: Means, keep: Position | None) -> tuple[UnsentReport, ...]:
    """
    Take everything above `keep` off every chain; what holds writes is kept, empty layers go.

    With `keep` None all layers stay and only the active one is taken off. Repeated, it finds
    nothing left to do. Nobody runs from the chains.
    """
    for name in [chain.name for chain in held.ledger.disks]:
        _set_aside_disk(held, means, held.ledger.chain(name), keep)
    return unsent_reports(held)


def unsent_bytes(held: HeldItem, chain: DiskChain, above: Position | None) -> int:
    """Bytes of data in the layers above a point, the active one too."""
    names = [layer.path for layer in chain.layers if above is None or layer.position > above]
    names += [chain.active] if chain.active else []
    paths = [held.path(name) for name in names]
    return sum(read_map(path).changed.total for path in paths if path.exists())


def unsent_reports(held: HeldItem) -> tuple[UnsentReport, ...]:
    """The images set aside, as people are told of them."""
    keep = held.ledger.policy.unsent_retention
    return tuple(
        UnsentReport(
            disk=chain.name,
            path=str(held.path(unsent.path)),
            position=unsent.position or Position(1, 0),
            size=unsent.size,
            set_aside_at=unsent.set_aside_at,
            expires_at=unsent.set_aside_at + keep,
        )
        for chain in held.ledger.disks
        for unsent in chain.set_aside
    )


def expire_unsent(held: HeldItem, means: Means, *, everything: bool = False) -> int:
    """Remove images whose time is over; the number removed."""
    now, keep = means.clock.now(), held.ledger.policy.unsent_retention
    gone: list[Unsent] = []
    chains = []
    for chain in held.ledger.disks:
        over = [u for u in chain.set_aside if everything or u.set_aside_at + keep <= now]
        gone += over
        stays = tuple(unsent for unsent in chain.set_aside if unsent not in over)
        chains.append(replace(chain, set_aside=stays))
    held.save_chains(chains)
    for unsent in gone:
        for name in (unsent.path, *reversed(unsent.below)):
            held.path(name).unlink(missing_ok=True)
    return len(gone)


def _set_aside_disk(held: HeldItem, means: Means, chain: DiskChain, keep: Position | None) -> None:
    above = [layer for layer in chain.layers if keep is not None and layer.position > keep]
    names = [layer.path for layer in above] + ([chain.active] if chain.active else [])
    if not names:
        return
    stays = tuple(layer for layer in chain.layers if layer not in above)
    written = [name for name in names if _size(held, name)]
    if not written:
        held.save_chains([replace(chain, layers=stays, active=None)])
        for name in names:
            held.path(name).unlink(missing_ok=True)
        return
    *below, top = names[: names.index(written[-1]) + 1]
    stands_on = stays[-1].position if stays else chain.base_at
    final = _unsent_name(held, chain, stands_on, top)
    if not held.path(final).exists():
        os.link(held.path(top), held.path(final))
        sync_path(held.path(final).parent)
    unsent = Unsent(
        path=final,
        position=stands_on,
        size=sum(_size(held, name) for name in (*below, final)),
        set_aside_at=means.clock.now(),
        below=tuple(below),
    )
    new = replace(chain, layers=stays, active=None, set_aside=(*chain.set_aside, unsent))
    held.save_chains([new])
    for name in names[len(below) :]:
        held.path(name).unlink(missing_ok=True)


def _unsent_name(held: HeldItem, chain: DiskChain, at: Position | None, top: str) -> str:
    """`<disk>-unsent-<position>`; numbered when an earlier image stands on the same point."""
    taken = {unsent.path for unsent in chain.set_aside}
    number = 1
    while True:
        end = f"-{number}" if number > 1 else ""
        name = f"{chain.name}/{chain.name}-unsent-{at or 'unknown'}{end}.qcow2"
        path = held.path(name)
        # A crash before the ledger was saved leaves the file under both names: that one is ours.
        if name not in taken and (not path.exists() or path.samefile(held.path(top))):
            return name
        number += 1


def _size(held: HeldItem, name: str) -> int:
    path = held.path(name)
    return read_map(path).changed.total if path.exists() else 0
