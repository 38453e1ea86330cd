"""Ledgers and facts for tables of cases, with only what a case is about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from homeport.model.ids import Digest, DiskName, HostName, ItemId, SiteName, VaultId
from homeport.model.item import DiskState, ReplicatedItem, Role, Seat, Side
from homeport.model.ledger import DiskChain, ItemLedger, Layer, PointRecord, Unsent
from homeport.model.machine import (
    DiskDefinition,
    DiskFormat,
    Firmware,
    MachineDefinition,
    PowerState,
)
from homeport.model.manifest import Consistency
from homeport.model.operations import DiskFacts, HeldPoint, SideFacts
from homeport.model.policy import ReplicationPolicy
from homeport.model.position import Position
from homeport.units import MiB

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)
DISK = DiskName("web-vda")
ITEM = ItemId("0" * 32)


def seat(site: str) -> Seat:
    return Seat(site=SiteName(site), host=HostName(f"{site}-1"), machine="shop", pool="disks")


SHOP = ReplicatedItem(
    id=ItemId("i"),
    name="shop",
    primary=seat("east"),
    recovery=seat("west"),
    active=Side.RECOVERY,
    epoch=2,
    policy="default",
)


def at(sequence: int, epoch: int = 1) -> Position:
    return Position(epoch, sequence)


def disk(name: str = DISK, size: int = 64 * MiB) -> DiskDefinition:
    return DiskDefinition(name=DiskName(name), target="vda", format=DiskFormat.RAW, size=size)


def machine(*disks: DiskDefinition) -> MachineDefinition:
    return MachineDefinition(
        name="web",
        uuid="u",
        memory=MiB,
        vcpus=1,
        firmware=Firmware.BIOS,
        disks=disks or (disk(),),
        nics=(),
        domain_xml="<domain/>",
    )


def layer(sequence: int, epoch: int = 1, **facts: Any) -> Layer:
    return Layer(path=f"{epoch}-{sequence}", position=at(sequence, epoch), **facts)


def unsent(sequence: int | None, *below: str, path: str = "unsent", base: str = "") -> Unsent:
    position = None if sequence is None else at(sequence)
    return Unsent(
        path=path, position=position, size=1, set_aside_at=NOW, below=tuple(below), base=base
    )


def chain(base_at: int | None = 0, layers: Iterable[int] = (), **facts: Any) -> DiskChain:
    position = None if base_at is None else at(base_at)
    return DiskChain(
        disk=disk(),
        base="base",
        base_at=position,
        layers=tuple(layer(number) for number in layers),
        **facts,
    )


def point(sequence: int, *, age: timedelta = timedelta(0), app: bool = False) -> PointRecord:
    return PointRecord(
        position=at(sequence),
        taken_at=NOW - age,
        landed_at=NOW - age,
        consistency=Consistency.APP if app else Consistency.CRASH,
        changed=0,
    )


def ledger(*chains: DiskChain, **facts: Any) -> ItemLedger:
    values: dict[str, Any] = {
        "vault": VaultId("v"),
        "item": ITEM,
        "name": "web",
        "machine": "web",
        "role": Role.TARGET,
        "epoch": 1,
        "definition": machine(),
        "disks": chains or (chain(),),
        "original": False,
        "policy": ReplicationPolicy(name="default"),
    }
    return ItemLedger(**{**values, **facts})


def held(sequence: int, state: str = "", *, changed: int = 0, epoch: int = 1) -> HeldPoint:
    """A position a side can prove; sides agree where its states are the same."""
    digest = Digest(state or f"{epoch}/{sequence}")
    states = (DiskState(disk=DISK, state=digest),)
    return HeldPoint(position=at(sequence, epoch), states=states, changed={DISK: changed})


def disk_facts(name: str = DISK, **facts: Any) -> DiskFacts:
    values: dict[str, Any] = {
        "disk": DiskName(name),
        "exists": True,
        "readable": True,
        "untouched": True,
        "size": 64 * MiB,
        "allocated": 10 * MiB,
        "path": f"/pool/{name}.raw",
    }
    return DiskFacts(**{**values, **facts})


def side(points: Sequence[HeldPoint] = (), *disks: DiskFacts, **facts: Any) -> SideFacts:
    values: dict[str, Any] = {
        "item": ITEM,
        "machine_state": PowerState.OFF,
        "disks": disks or (disk_facts(),),
        "held": tuple(points),
        "stands_at": points[-1].position if points else None,
    }
    return SideFacts(**{**values, **facts})
