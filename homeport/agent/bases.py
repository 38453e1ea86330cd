"""
Bases and their names: `<disk>` while a machine runs from it, `<disk>-ASRReplica` while it is one.

The name changes at failover and at reprotect and never grows. No byte is copied.
"""

from __future__ import annotations

from dataclasses import replace

from homeport.agent.held import HeldItem
from homeport.agent.stamps import altered, restamped
from homeport.dataplane.points import rename_base
from homeport.model.machine import DiskDefinition

REPLICA_SUFFIX = "-ASRReplica"


def base_name(disk: DiskDefinition, *, replica: bool) -> str:
    """The file name of a disk's base: its own, or the replica's."""
    return f"{disk.name}{REPLICA_SUFFIX if replica else ''}{disk.suffix}"


def name_bases(held: HeldItem, *, replica: bool) -> tuple[str, ...]:
    """
    Give every base its name for this role; what was renamed, in words. Nobody runs from the chains.

    A block device keeps its name, and a base that is being filled has the replica's from the start.
    """
    renamed = []
    for name in [chain.name for chain in held.ledger.disks]:
        chain = held.ledger.chain(name)
        old = held.path(chain.base)
        new = old.with_name(base_name(chain.disk, replica=replica))
        if old == new or not chain.whole or old.is_block_device():
            continue
        touched = altered(held, chain)
        above = held.standing_on(chain, old, new)
        rename_base(old, new, above=above, base_format=chain.disk.format.value)
        named = replace(chain, base=held.name_of(new))
        held.save_chains([restamped(held, named, but={*touched, named.base})])
        renamed.append(f"{old.name} is now {new.name}")
    return tuple(renamed)
