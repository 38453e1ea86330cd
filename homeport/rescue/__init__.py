"""
Rescue: any recovery point from a site's files alone, with no server, no database and no agent.

`finding` reads what lies in a pool's or an item's folder, `proving` tells what of it is whole,
`taking` copies disks out of it, `booting` starts a machine on throw-away overlays. Nothing here
writes into the folder it reads, so it may be used beside a living agent. It knows the data plane
and the model only; the command line stands above it.
"""

from homeport.rescue.booting import BootOptions, boot
from homeport.rescue.finding import (
    FoundDisk,
    FoundItem,
    FoundPoint,
    NothingFoundError,
    find_item,
    find_items,
)
from homeport.rescue.proving import Depth, PointDamagedError, Prover, Verdict
from homeport.rescue.taking import Exported, definition, export

__all__ = [
    "BootOptions",
    "Depth",
    "Exported",
    "FoundDisk",
    "FoundItem",
    "FoundPoint",
    "NothingFoundError",
    "PointDamagedError",
    "Prover",
    "Verdict",
    "boot",
    "definition",
    "export",
    "find_item",
    "find_items",
]
