"""Resource groups, availability sets, capacity reservations, and what resyncs have taken."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from homeport.interfaces.cli.render.style import (
    WARN,
    listed,
    moment,
    seconds,
    size,
    table,
)
from homeport.model.reports import HoldReport, ResourceReport, ResyncRecord, StorageAccountReport
from homeport.model.resources import ResourceKind


def resources(found: Sequence[ResourceReport], kind: ResourceKind) -> RenderableType:
    """Resources of one kind, one a line."""
    if not found:
        return Text(f"No {kind.words}s.")
    extra = {
        ResourceKind.GROUP: "LOCK",
        ResourceKind.SET: "STAND",
        ResourceKind.RESERVATION: "HELD BACK",
    }
    made = table("SITE", "NAME", "MEMBERS", extra[kind], whole=("NAME",))
    for one in found:
        made.add_row(one.site, one.name, listed(one.members), _extra(one, kind))
    return made


def _extra(one: ResourceReport, kind: ResourceKind) -> Text:
    if kind is ResourceKind.GROUP:
        return Text(f"{one.lock} ({one.lock_name})", style=WARN) if one.lock else Text("none")
    if kind is ResourceKind.SET:
        return Text(listed(one.stand))
    return Text(listed(_hold(hold) for hold in one.holds))


def _hold(hold: HoldReport) -> str:
    vcpus = "1 vCPU" if hold.vcpus == 1 else f"{hold.vcpus} vCPUs"
    left = f"{size(hold.memory_left)}, {hold.vcpus_left} left"
    return f"{hold.host}: {size(hold.memory)}, {vcpus} ({left})"


def brief(one: ResourceReport) -> Text:
    """One resource on a line of its site's page."""
    parts = [listed(one.stand or one.members, none="no members")]
    if one.lock:
        parts.append(f"{one.lock} lock {one.lock_name}")
    parts += [_hold(hold) for hold in one.holds]
    return Text.assemble((one.name, "bold"), "  ", "; ".join(parts))


def account(one: StorageAccountReport) -> Text:
    """One storage account on a line of its site's page."""
    readonly = "" if one.writable else ", not writable"
    room = f"{size(one.available)} of {size(one.capacity)} free"
    return Text.assemble((one.name, "bold"), f"  on {one.host}, {room}{readonly}")


def resyncs(records: Sequence[ResyncRecord]) -> RenderableType:
    """What resyncs were to be and what they came to, newest first."""
    heads = ("ENDED", "DIRECTION", "WAY", "PLANNED", "MOVED", "ESTIMATED", "TOOK")
    made = table(*heads, right=("PLANNED", "MOVED"), whole=("ENDED",))
    for one in reversed(records):
        made.add_row(
            moment(one.ended_at),
            one.direction,
            one.way,
            size(one.planned),
            size(one.moved),
            seconds(one.estimated),
            Text(seconds(one.actual), style="" if one.low <= one.actual <= one.high else WARN),
        )
    return made
