"""
Which network stands for which on the other side: one pure answer for protect, promote and reverse.

What is asked for comes first, then the sites' mapping, then the inverse of how the machine came
here, and at last the network's own name.
"""

from __future__ import annotations

from collections.abc import Mapping

from homeport.model.item import ReplicatedItem, Side
from homeport.model.machine import MachineDefinition
from homeport.orchestration.ports import Json

Networks = dict[str, str | None]


def networks_of(definition: MachineDefinition | None) -> tuple[str, ...]:
    """The networks a machine's cards are on, each once, in order."""
    nics = definition.nics if definition else ()
    return tuple(dict.fromkeys(nic.network for nic in nics if nic.network is not None))


def fit_networks(
    names: tuple[str, ...],
    *,
    asked: Mapping[str, str | None],
    mapped: Mapping[str, str],
    came_by: Mapping[str, str | None] | None = None,
) -> Networks:
    """`names` on one side to those on the other; `came_by` maps the other way round."""
    inverse = {to: source for source, to in (came_by or {}).items() if to is not None}
    fitted: Networks = {}
    for name in names:
        if name in asked:
            fitted[name] = asked[name]
        else:
            fitted[name] = mapped.get(name) or inverse.get(name) or name
    return fitted


def towards(facts: Mapping[str, Json], side: Side) -> Networks:
    """The item's map of networks for machines that are started on `side`."""
    return dict(facts.get("networks", {}).get(side.value, {}))


def remember(facts: Mapping[str, Json], side: Side, networks: Networks) -> dict[str, Json]:
    """The item's facts with the map towards `side` set, and the other one kept."""
    return {"networks": {**facts.get("networks", {}), side.value: networks}}


def lock_name(vault: str, item: ReplicatedItem) -> str:
    """The read-only lock on the machine that is not to be touched until failback completes."""
    return f"SiteRecovery-{vault}-homeport-{item.standby.site}"
