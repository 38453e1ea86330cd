"""
Files of a fenced machine that nobody may change, root neither: base and landed layers.

Invariant: a file that carries our flag is in `ItemLedger.immutable`. The name is entered before the
flag is set, and goes after it was lifted, so no crash leaves a flag that is not known. While an
item is FENCED no file in there is renamed, committed into, written or removed: every order that
does such a thing calls `lift` first. Those are unfence, prepare-replica and release; the others
that may come for a fenced item (fence, facts, land-all, export and discard of unsent writes) touch
none of these files. An order that fails half way leaves the item FENCED, when `keep` sets the flags
again, or in another role, when it lifts what is left.

The active overlays are left out: a machine started with the hook away must not find them locked,
and its writes are set aside like any others. Stamps know size, inode and last write of a file,
none of which the flag alters.
"""

from __future__ import annotations

from homeport.agent.held import HeldItem
from homeport.agent.means import Means
from homeport.dataplane import flags
from homeport.errors import TransientError
from homeport.model.item import Role
from homeport.model.ledger import ItemLedger


class StillImmutableError(TransientError):
    """A file that is to be changed and whose flag cannot be lifted."""

    code = "StillImmutable"

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} is immutable, and the flag cannot be lifted.",
            cause="The agent lacks the capability CAP_LINUX_IMMUTABLE, or the file system is "
            "read-only.",
            remedy=f"Run: chattr -i {path}",
        )


def at_rest(ledger: ItemLedger) -> tuple[str, ...]:
    """The files that the ledger will not change before the next order comes."""
    if ledger.role is not Role.FENCED:
        return ()
    return tuple(name for chain in ledger.disks for name in chain.names if name != chain.active)


def is_kept(held: HeldItem, means: Means) -> bool:
    """Whether every file is as it is to be; one on a file system without flags never is."""
    names = at_rest(held.ledger) if means.immutable else ()
    return held.ledger.immutable == names and all(
        flags.is_immutable(held.path(name)) for name in names if held.path(name).is_file()
    )


def keep(held: HeldItem, means: Means) -> bool:
    """
    Set the flags of a fenced item, lift what another has left; False where there are no flags.

    Nothing depends on the answer but what is told.
    """
    names = at_rest(held.ledger) if means.immutable else ()
    if not set(held.ledger.immutable) <= set(names) or not names:
        lift(held)
    held.save(immutable=names)
    files = [path for path in map(held.path, names) if path.is_file()]
    set_here = [flags.set_immutable(path, on=True) for path in files]  # every one, not the first
    return all(set_here)


def lift(held: HeldItem) -> None:
    """
    Lift every flag of the item's files: what comes next changes them. Done twice is done once.

    Looked at are not only the names in the ledger: it may be a new one on the files of one lost.

    Raises:
        StillImmutableError: a flag cannot be lifted.
    """
    beside = {path for one in held.ledger.disks for path in (held.folder / one.name).glob("*")}
    known = {*held.files(), *map(held.path, held.ledger.immutable)}
    for path in sorted(known | beside):
        if not flags.set_immutable(path, on=False) and flags.is_immutable(path):
            raise StillImmutableError(str(path))
    held.save(immutable=())
