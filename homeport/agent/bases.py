"""
Bases and their names: `<disk>` while a machine runs from it, `<disk>-ASRReplica` while it is one.

The name changes at failover and at reprotect and never grows. No byte is copied.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from homeport.agent.held import HeldItem, entry
from homeport.agent.stamps import altered, restamped
from homeport.dataplane.points import rename_base
from homeport.model.item import Role
from homeport.model.ledger import DiskChain, ItemLedger
from homeport.model.machine import DiskDefinition
from homeport.model.messages import LedgerEntry

REPLICA_SUFFIX = "-ASRReplica"
DISK = "disk"
"""Kind of a replica disk's entry in the ledger; its name is the file's path."""


def base_name(disk: DiskDefinition, *, replica: bool) -> str:
    """The file name of a disk's base: its own, or the replica's; an unmanaged one keeps its own."""
    return f"{disk.name}{REPLICA_SUFFIX if replica and disk.managed else ''}{disk.suffix}"


def replica_chain(disk: DiskDefinition) -> DiskChain:
    """The chain of a replica that does not exist yet: its base lies in the pool itself."""
    return DiskChain(disk=disk, base=f"../../{base_name(disk, replica=True)}", whole=False)


def replica_ledger(
    folder: Path, disks: Iterable[DiskDefinition], now: datetime, **facts: Any
) -> ItemLedger:
    """
    The ledger of replicas that begin in an item's folder, what is to be made entered.

    `facts` are the ledger's other fields; what was `made` before comes first.
    """
    chains = tuple(map(replica_chain, disks))
    bases = [str(folder.parent.parent / Path(chain.base).name) for chain in chains]
    made = (
        *facts.pop("made", ()),
        entry("folder", str(folder), "layers, points and ledger", now),
        *(entry(DISK, base, "replica disk", now) for base in bases),
    )
    return ItemLedger(role=Role.TARGET, disks=chains, made=made, **facts)


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
        gone_at = datetime.fromtimestamp(new.stat().st_ctime, UTC)  # when the old name went
        made = _named_in(held.ledger.made, old=str(old), new=str(new), at=gone_at)
        held.save_chains([restamped(held, named, but={*touched, named.base})], made=made)
        renamed.append(f"{old.name} is now {new.name}")
    return tuple(renamed)


def _named_in(
    made: tuple[LedgerEntry, ...], *, old: str, new: str, at: datetime
) -> tuple[LedgerEntry, ...]:
    """The ledger's entries with a disk under its new name; the old one, which is gone, stays."""
    there = next(
        (one for one in made if (one.kind, one.name, one.gone_at) == (DISK, old, None)), None
    )
    if there is None:
        return made
    others = tuple(one for one in made if one is not there and (one.kind, one.name) != (DISK, new))
    return (*others, replace(there, gone_at=at), replace(there, name=new))
