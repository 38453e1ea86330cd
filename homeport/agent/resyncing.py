"""
The first point of a new direction, at the running side: what differs, found the planned way.

Exact: from change maps alone, no disk is read whole. Differential: both sides digest, only digests
and what differs crosses. Full: everything. Whatever the way, the other side gets one more layer (or
a new base), and nothing of what it had is altered before that point is listed.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from homeport.agent.held import HeldItem
from homeport.agent.means import DiskReader
from homeport.agent.seeds import record_of, ship_whole
from homeport.agent.temporary import reading
from homeport.agent.work import Work
from homeport.clock import Clock
from homeport.dataplane.findings import Findings
from homeport.dataplane.qcow2 import read_map
from homeport.dataplane.resync import Comparison
from homeport.dataplane.shipping import ship_difference, ship_found
from homeport.errors import IntegrityError
from homeport.model.extent import ExtentSet, union_of
from homeport.model.ids import Digest
from homeport.model.ledger import Captured, DiskChain, ItemLedger
from homeport.model.manifest import DiskImage, ImageKind
from homeport.model.planning import Way
from homeport.model.position import Position


class MapsLostError(IntegrityError):
    """A change map that an exact resync needs is not there."""

    code = "MapsLost"

    def __init__(self, disk: str, position: Position) -> None:
        super().__init__(
            f"The change map of point {position} of disk {disk} is missing.",
            cause="It was deleted, or forgotten because the point is too old.",
            remedy="Reprotect again with a differential resync (homeport reprotect --way "
            "differential).",
        )
        self.disk = disk
        self.position = position


def ship_resync(
    work: Work, captured: Captured, chain: DiskChain, *, again: bool = False
) -> DiskImage:
    """Ship one disk of a resync's point the way that was planned; `again` replaces its objects."""
    way = Way(captured.ways[chain.name])
    with reading(work, chain, captured.position) as reader:
        if way is Way.FULL:
            if again:
                record_of(work.held, chain, captured.position, "shipped").forget()
            return ship_whole(work, chain, captured.position, reader)
        if way is Way.DIFFERENTIAL:
            return _ship_differing(work, chain, captured.position, reader, again=again)
        return ship_difference(
            work.items,
            position=captured.position,
            disk=chain.name,
            read=reader.read,
            extents=exact_difference(work.held, chain, captured).clipped(reader.size),
            size=reader.size,
            before=_state_at(work.held.ledger, chain, captured.previous),
            control=work.control,
            replace=again,
        ).image


def _ship_differing(
    work: Work, chain: DiskChain, position: Position, reader: DiskReader, *, again: bool
) -> DiskImage:
    """Ship the blocks in which the two sides' digests differ, while they are being found."""
    begin = partial(
        Comparison,
        work.items,
        position=position,
        disk=chain.name,
        read=reader.read,
        size=reader.size,
        allocated=reader.allocated(),
    )
    pause = partial(_pause, work.means.clock)
    with Findings(
        lambda control: begin(control=control), control=work.control, pause=pause
    ) as findings:
        image = ship_found(
            work.items,
            position=position,
            disk=chain.name,
            read=reader.read,
            findings=findings,
            size=reader.size,
            control=work.control,
            replace=again,
        ).image
    return replace(image, kind=ImageKind.REPAIR)


def exact_difference(held: HeldItem, chain: DiskChain, captured: Captured) -> ExtentSet:
    """
    What may differ between the common point and the captured one, from maps alone.

    That is what the machine wrote here since it was booted, and what the points between the common
    one and the booted one changed, whichever of the two is newer.

    Raises:
        MapsLostError: a map in between is not known.
    """
    common, booted = captured.previous, held.ledger.booted
    if common is None:
        raise MapsLostError(chain.name, captured.position)
    own_line = booted is None or common.epoch == held.ledger.epoch
    since = common if own_line or booted is None else booted
    if since not in (chain.base_at, *(layer.position for layer in chain.layers)):
        raise MapsLostError(chain.name, since)  # it went into a layer together with others
    maps = [
        read_map(held.path(layer.path)).changed
        for layer in chain.layers
        if since < layer.position <= captured.position
    ]
    if since != common:
        low, high = sorted((common, since))
        known = [past.position for past in held.ledger.past if low <= past.position <= high]
        if not {low, high} <= set(known):
            raise MapsLostError(chain.name, low)  # forgotten, and with it maps in between
        maps += [_known_map(held, chain, position) for position in known if position != low]
    return union_of(maps)


def _known_map(held: HeldItem, chain: DiskChain, position: Position) -> ExtentSet:
    try:
        return held.map_of(chain.name, position)
    except FileNotFoundError as error:
        raise MapsLostError(chain.name, position) from error


def _state_at(ledger: ItemLedger, chain: DiskChain, position: Position | None) -> Digest | None:
    for past in ledger.past:
        if past.position == position:
            return past.states.get(chain.name)
    return None


def _pause(clock: Clock) -> None:
    clock.sleep(0.2)
