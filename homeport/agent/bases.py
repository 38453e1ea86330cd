"""
Bases and their names: `<disk>` while a machine runs from it, `<disk>-ASRReplica` while it is one.

The name changes at failover and at reprotect and never grows. No byte is copied.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from homeport.agent.held import HeldItem
from homeport.dataplane.points import backing_of, rename_base
from homeport.model.ledger import DiskChain
from homeport.model.machine import DiskDefinition

REPLICA_SUFFIX = "-ASRReplica"


def base_name(disk: DiskDefinition, *, replica: bool) -> str:
    """The file name of a disk's base: its own, or the replica's."""
    return f"{disk.name}{REPLICA_SUFFIX if replica else ''}{disk.suffix}"


def name_bases(held: HeldItem, *, replica: bool) -> tuple[str, ...]:
    """
    Give every base its name for this role; what was renamed, in words. Nobody runs from the chains.
    """
    renamed = []
    for name in [chain.name for chain in held.ledger.disks]:
        chain = held.ledger.chain(name)
        old = held.path(chain.base)
        new = old.with_name(base_name(chain.disk, replica=replica))
        if old == new:
            continue
        rename_base(
            old, new, above=standing_on_base(held, chain, old), base_format=chain.disk.format.value
        )
        held.save_chains([replace(chain, base=held.name_of(new))])
        renamed.append(f"{old.name} is now {new.name}")
    return tuple(renamed)


def standing_on_base(held: HeldItem, chain: DiskChain, base: Path) -> list[Path]:
    """The images of a disk that name its base, under its old name or its new one."""
    names = [layer.path for layer in (*chain.layers, *chain.beyond)]
    names += [chain.active] if chain.active else []
    for unsent in chain.set_aside:
        names += [unsent.path, *unsent.below]
    paths = [held.path(name) for name in names]
    folder = base.parent
    bases = {folder / base_name(chain.disk, replica=replica) for replica in (True, False)}
    return [path for path in paths if path.exists() and backing_of(path) in bases]
