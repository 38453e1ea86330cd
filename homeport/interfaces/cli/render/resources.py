"""Resource groups, availability sets, capacity reservations, and what resyncs have taken."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from rich.console import RenderableType
from rich.text import Text

from homeport.interfaces.cli.render.style import WARN, table
from homeport.interfaces.words import listed, size
from homeport.model.reports import HoldReport, ResourceReport, ResyncRecord, StorageAccountReport
from homeport.model.resources import ResourceKind
from homeport.units import show_span


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
    """What resyncs were to be and what they came to, newest first; loud outside of the bounds."""
    heads = ("ENDED", "DIRECTION", "WAY", "MOVED", "ESTIMATED", "TOOK", "ERROR")
    made = table(*heads, right=("MOVED", "ERROR"), whole=("ENDED", *heads[4:]))
    for one in reversed(records):
        style = "" if one.low <= one.actual <= one.high else WARN
        made.add_row(
            f"{one.ended_at:%Y-%m-%d %H:%M}Z",
            one.direction,
            one.way,
            size(one.moved),
            show_span(timedelta(seconds=one.estimated)),
            Text(show_span(timedelta(seconds=one.actual)), style=style),
            Text(f"{one.error:+.0%}", style=style),
        )
    return made


def batch(records: Sequence[tuple[str, ResyncRecord]]) -> RenderableType:
    """What the last resync of several items was to take, and took."""
    made = table("ITEM", "WAY", "MOVED", "ESTIMATED", "TOOK", "ERROR", right=("MOVED", "ERROR"))
    for name, one in records:
        estimated, took = (
            show_span(timedelta(seconds=count)) for count in (one.estimated, one.actual)
        )
        made.add_row(name, one.way, size(one.moved), estimated, took, f"{one.error:+.0%}")
    return made
