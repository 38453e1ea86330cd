"""
The target's cycle: land what is in the cache store, in order, and keep the points policy asks for.

A point is listed by one saved ledger, after all its layers are on disk under their names. What
cannot be used is named, nothing of it is applied, and the source is asked for it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial

from homeport.agent.committing import compact, finish_commit
from homeport.agent.held import HeldItem
from homeport.agent.ledgers import write_durably
from homeport.agent.means import Means
from homeport.agent.seeds import forget_records, land_early, land_whole
from homeport.agent.work import Work
from homeport.clock import has_passed
from homeport.dataplane.landing import acknowledge, ask_again, land_delta, next_manifest, wanted
from homeport.dataplane.layout import DamagedObjectError, ForeignObjectError, position_of
from homeport.dataplane.points import relative, stamp
from homeport.dataplane.resync import answer_digests
from homeport.model.compaction import needed_positions
from homeport.model.item import Role
from homeport.model.ledger import DiskChain, ItemLedger, PastPoint, PointRecord
from homeport.model.manifest import (
    DiskImage,
    HistoryMismatchError,
    ImageKind,
    Manifest,
    encode_manifest,
)
from homeport.model.messages import PointReport
from homeport.model.position import Position, PositionMismatchError
from homeport.model.retention import MOST_LAYERS, to_prune


def cycle(work: Work) -> None:
    """One pass at the target: land all there is, prune, compact."""
    held, means = work.held, work.means
    finish_commit(held, means)
    if held.ledger.resyncing:
        _answer_digests(work)
    if held.ledger.stands_at is None:
        with _asking(work):
            land_early(work)
    land_all(work)
    prune(held, means)
    compact(held, means, go_on=lambda: not work.control.cancelled())


def land_all(work: Work, *, until: Position | None = None) -> Position | None:
    """
    Land every point there is, up to `until`; the newest position listed afterwards.

    Raises what `next_manifest` and `land_delta` raise; damaged objects are asked for again.
    """
    held = work.held
    _tell(work)
    while until is None or held.ledger.stands_at is None or held.ledger.stands_at < until:
        work.control.check()
        with _asking(work):
            if not _land_next(work):
                break
    return held.ledger.stands_at


@contextmanager
def _asking(work: Work) -> Iterator[None]:
    """Ask the source again for what cannot be used; the error goes on to be shown."""
    try:
        yield
    except (DamagedObjectError, ForeignObjectError) as error:
        _ask(work, position_of(error.key))
        raise
    except PositionMismatchError as error:  # a point's manifest is missing
        _ask(work, error.found)
        raise
    except HistoryMismatchError as error:
        _ask(work, error.position)
        raise


def _land_next(work: Work) -> bool:
    ledger = work.held.ledger
    manifest = next_manifest(
        work.items, after=ledger.stands_at, states=ledger.states, epoch=ledger.epoch
    )
    if manifest is not None:
        land(work, manifest)
    return manifest is not None


def _ask(work: Work, position: Position | None) -> None:
    """Ask the source for a point again, unless it has landed or was asked for."""
    stands_at = work.held.ledger.stands_at
    if position is None or (stands_at is not None and position <= stands_at):
        return
    if position not in wanted(work.items):
        ask_again(work.items, position)


def _tell(work: Work) -> None:
    """
    Say that the newest point has landed, and once an interval again: a crash may have come before
    it was said, or the note was damaged. The source goes on only when it has heard of the first
    point of a direction.
    """
    ledger, now = work.held.ledger, work.means.clock.now()
    stands_at, told = ledger.stands_at, work.state.told
    if stands_at is None or ledger.resyncing:
        return
    every = ledger.policy.interval
    if told and told[0] == stands_at and not has_passed(every, since=told[1], now=now):
        return
    acknowledge(work.items, stands_at, ledger.states)
    work.state.told = (stands_at, now)


def land(work: Work, manifest: Manifest) -> None:
    """Land a point whole: layers, maps, manifest; the ledger lists it, then the source hears."""
    held = work.held
    work.state.phase = "seeding" if _is_seed(manifest) else "replicating"
    watched = work.watched()
    with _whole_or_not_at_all(held, manifest.position):
        chains = [_land_disk(watched, manifest, image) for image in manifest.disks]
    folder = held.folder / "points"
    folder.mkdir(exist_ok=True)
    write_durably(folder / manifest.position.key, encode_manifest(manifest))
    kept = () if held.ledger.resyncing else held.ledger.points
    moved = sum(stored.size for image in manifest.disks for stored in image.objects)
    held.save_chains(
        chains,
        points=(*kept, _point(manifest, work.means.clock.now())),
        past=held.with_past(_past(manifest)),
        definition=manifest.machine,
        acknowledged=manifest.position,
        resyncing=False,
        bytes_moved=held.ledger.bytes_moved + moved,
    )
    _tell(work)
    work.state.progress = None
    work.state.phase = "replicating"
    forget_records(held)
    held.tidy()


@contextmanager
def _whole_or_not_at_all(held: HeldItem, position: Position) -> Iterator[None]:
    """
    Without the layers of the disks that came first, when a later one cannot be landed.

    Another role may come before the next try, and nobody would know of them then.
    """
    try:
        yield
    except Exception:
        held.drop(held.layer_name(chain, position) for chain in held.ledger.disks)
        held.tidy()
        raise


def prune(held: HeldItem, means: Means) -> None:
    """
    Unlist points the policy no longer keeps; their layers are compacted afterwards.

    Points age by new ones, and no faster than this host's clock: neither side's clock, set wrong,
    ends them all.
    """
    points, test = reports(held.ledger), held.ledger.test
    if held.ledger.role is not Role.TARGET or not points:
        return
    pinned = {point.position for point in points if test and point.position <= test.position}
    others = needed_positions(held.ledger) - {point.position for point in points}
    now, most = min(means.clock.now(), points[-1].taken_at), MOST_LAYERS - len(others)
    gone = set(to_prune(points, held.ledger.policy, now, pinned, most=most))
    if gone:
        held.save(points=tuple(p for p in held.ledger.points if p.position not in gone))
        held.tidy()


def reports(ledger: ItemLedger) -> tuple[PointReport, ...]:
    """The points as they are listed, oldest first, each with the depth it would boot at."""
    found = []
    for point in ledger.points:
        depth = max(len(chain.chain_at(point.position)) for chain in ledger.disks) - 1
        found.append(
            PointReport(
                position=point.position,
                taken_at=point.taken_at,
                landed_at=point.landed_at,
                consistency=point.consistency,
                changed=point.changed,
                depth=depth,
                label=point.label,
            )
        )
    return tuple(found)


def _answer_digests(work: Work) -> None:
    """Give the running side the digests that a differential resync asks for."""
    for chain in work.held.ledger.disks:
        if not chain.whole:
            continue
        names = [chain.base, *(layer.path for layer in chain.layers)]
        paths = tuple(work.held.path(name) for name in reversed(names))
        answer_digests(
            work.items,
            disk=chain.name,
            open_reader=partial(work.means.open_reader, paths, chain.disk.format.value),
            control=work.control,
        )


def _land_disk(work: Work, manifest: Manifest, image: DiskImage) -> DiskChain:
    held, position = work.held, manifest.position
    chain = held.ledger.chain(image.disk)
    disk = replace(chain.disk, size=image.size)
    if image.kind is ImageKind.SEED:
        land_whole(work, chain, image, position)
        return replace(
            chain,
            disk=disk,
            base_at=position,
            base_state=image.state,
            base_stamp=stamp(held.path(chain.base)),
            whole=True,
            proven=True,
        )
    name = held.layer_name(chain, position)
    path = held.path(name)
    path.parent.mkdir(exist_ok=True)
    changed = land_delta(
        work.items,
        image,
        position=position,
        path=path,
        backing=relative(held.path(chain.top), path),
        backing_format=held.format_of(chain, chain.top),
        control=work.control,
    )
    held.keep_map(chain.name, position, changed)
    layer = held.layer(name, position, state=image.state, changed=image.changed)
    return replace(chain, disk=disk, layers=(*chain.layers, layer), proven=True)


def _point(manifest: Manifest, now: datetime) -> PointRecord:
    return PointRecord(
        position=manifest.position,
        taken_at=manifest.taken_at,
        landed_at=now,
        consistency=manifest.consistency,
        changed=sum(image.changed for image in manifest.disks),
    )


def _is_seed(manifest: Manifest) -> bool:
    return any(image.kind is ImageKind.SEED for image in manifest.disks)


def _past(manifest: Manifest) -> PastPoint:
    return PastPoint(
        position=manifest.position,
        states={image.disk: image.state for image in manifest.disks},
        changed={image.disk: image.changed for image in manifest.disks},
    )
