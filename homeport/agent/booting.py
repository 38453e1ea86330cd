"""
Booting a point as a machine: an overlay on each disk's layer, the definition fitted to this host.

Used by promote and by test failover; which names and files are used is theirs to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from homeport.agent.held import HeldItem
from homeport.agent.means import Means
from homeport.dataplane.points import disk_size, put_overlay
from homeport.errors import NotFoundError
from homeport.model.host import DiskPlace, Note, Placement
from homeport.model.ledger import DiskChain
from homeport.model.machine import DiskFormat, Firmware, MachineDefinition, PowerState
from homeport.model.manifest import Manifest, decode_manifest
from homeport.model.operations import PromoteFacts
from homeport.model.position import Position


class NoSuchPointError(NotFoundError):
    """A point that is not listed on this host."""

    code = "NoSuchPoint"

    def __init__(self, position: Position, item: str) -> None:
        super().__init__(
            f"Point {position} of {item} is not listed here.",
            cause="It was pruned by policy, has not landed, or belongs to another item.",
            remedy="Choose one from the list of points (homeport points ITEM).",
        )
        self.position = position


def manifest_of(held: HeldItem, position: Position) -> Manifest:
    """The manifest of a listed point; NoSuchPointError when it is not listed."""
    path = held.folder / "points" / position.key
    listed = any(point.position == position for point in held.ledger.points)
    if not listed or not path.exists():
        raise NoSuchPointError(position, held.ledger.name)
    return decode_manifest(path.read_bytes())


def lay_overlays(held: HeldItem, overlays: Mapping[str, str], position: Position) -> None:
    """An empty overlay on each disk's file of the point; those that are there stay."""
    for chain in held.ledger.disks:
        below = chain.file_at(position)
        image_format = held.format_of(chain, below)
        put_overlay(
            held.path(overlays[chain.name]),
            below=held.path(below),
            below_format=image_format,
            size=disk_size(held.path(below), image_format),
        )


def place(
    held: HeldItem,
    definition: MachineDefinition,
    tops: Mapping[str, str],
    *,
    name: str,
    networks: Mapping[str, str | None],
    note: Note,
    variables: str,
    uuid: str | None = None,
) -> Placement:
    """
    How the definition is fitted to this host, its disks on the files of `tops` by disk.

    `variables` is where a machine with UEFI firmware keeps its variables.
    """
    firmware = definition.firmware is Firmware.UEFI
    return Placement(
        name=name,
        uuid=uuid or definition.uuid,
        disks={
            chain.disk.target: DiskPlace(
                path=str(held.path(tops[chain.name])), format=DiskFormat.QCOW2.value
            )
            for chain in held.ledger.disks
        },
        networks=dict(networks),
        nvram_path=variables if firmware else None,
        note=note,
    )


def start(held: HeldItem, means: Means, machine: str, *, depth_at: Position) -> PromoteFacts:
    """Start a machine; what its guest says comes later."""
    if means.compute.state(machine) is not PowerState.RUNNING:
        means.compute.start(machine)
    return PromoteFacts(
        started_at=means.clock.now(),
        answered_at=None,
        depth=depth(held.ledger.disks, depth_at),
    )


def await_guest(means: Means, machine: str, started: PromoteFacts, *, wait: float) -> PromoteFacts:
    """
    Give the guest of a started machine `wait` seconds to answer; 0 asks nothing.

    Needs nothing of the item, so call it with the item given back: landing goes on meanwhile.
    """
    if wait > 0 and means.compute.ping_guest(machine, timeout=wait):
        return replace(started, answered_at=means.clock.now())
    return started


def depth(disks: tuple[DiskChain, ...], position: Position) -> int:
    """How many files lie below a machine booted from the point, at most."""
    return max(len(chain.chain_at(position)) for chain in disks)
