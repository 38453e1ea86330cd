"""
What can be odd about an item's machine: what of it is so, and in which words. Nothing is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from homeport.model.host import foreign_lock_remedy
from homeport.model.item import Role
from homeport.model.ledger import ItemLedger
from homeport.model.machine import PowerState

OWNS = frozenset({Role.SOURCE, Role.RUNNING})

RUNS = frozenset({PowerState.RUNNING, PowerState.PAUSED})


class Odd(StrEnum):
    """What is not as the ledger means it, in the order in which it is put right."""

    FOREIGN = "ForeignLock"  # told
    TAKEN = "NameTaken"  # told
    RENAMED = "MachineRenamed"  # told
    STARTED = "FencedMachineRuns"  # told
    UNKNOWN = "unknown"  # there, and the ledger does not say yet that it is to be: no news
    UNFENCED = "unfenced"  # a fence was not finished: no news
    UNDEFINED = "MachineUndefined"
    UNLOCKED = "LockRemoved"
    MOVED = "DefinitionChanged"
    AUTOSTART = "AutostartSet"
    UNSETTLED = "unsettled"  # a crash left something open: no news
    FLAGS = "flags"  # files are not as immutable as they are to be: no news


TOLD = frozenset({Odd.FOREIGN, Odd.TAKEN, Odd.RENAMED, Odd.STARTED})
"""What Homeport leaves as it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """The item's machine as it is now; `name` is what it is called, None when there is none."""

    name: str | None
    state: PowerState = PowerState.ABSENT
    persistent: bool = True
    autostart: bool = False
    foreign: str = ""  # the lock of somebody else on it
    taken: bool = False  # its name is another machine's
    locked: bool = True  # its note denies its start; looked at only where it must
    moved: bool = False  # its definition has other disks than the ledger
    settled: bool = True
    flags: bool = True


def is_locked(ledger: ItemLedger) -> bool:
    """Whether the machine is the one that is not to be touched."""
    return ledger.role is Role.FENCED or (ledger.role is Role.TARGET and ledger.guarded)


def oddities(ledger: ItemLedger, seen: Seen) -> tuple[Odd, ...]:
    """Everything that is not as the ledger means it, in the order in which it is put right."""
    found = {Odd.FLAGS: not seen.flags, Odd.TAKEN: seen.taken and ledger.guarded}
    found[Odd.FOREIGN] = bool(seen.foreign)
    if seen.name is None:
        found[Odd.UNDEFINED] = ledger.guarded and not (seen.taken or seen.foreign)
    elif not seen.foreign:
        found |= _on_machine(ledger, seen)
    return tuple(odd for odd in Odd if found.get(odd))


def _on_machine(ledger: ItemLedger, seen: Seen) -> Mapping[Odd, bool]:
    owns, locked = ledger.role in OWNS, is_locked(ledger)
    runs, renamed = seen.state in RUNS, seen.name != ledger.machine
    return {
        Odd.UNKNOWN: (owns or locked) and not (ledger.guarded or renamed),
        Odd.RENAMED: (owns or locked) and renamed,
        Odd.STARTED: locked and runs and seen.locked and not ledger.fencing,
        Odd.UNFENCED: ledger.fencing,
        Odd.UNDEFINED: owns and not seen.persistent,
        Odd.UNLOCKED: locked and not (seen.locked or ledger.fencing),
        Odd.MOVED: locked and seen.moved and not (runs or renamed),
        Odd.AUTOSTART: (owns or locked) and seen.autostart,
        Odd.UNSETTLED: owns and not (runs or renamed or seen.settled),
    }


WORDS: Mapping[Odd, tuple[str, str, str]] = {
    Odd.FOREIGN: (
        "{machine} carries the lock {foreign}, which is not this item's.",
        "It was put there by somebody else, or left over from another vault or protection.",
        "{lifting}",
    ),
    Odd.TAKEN: (
        "The machine {machine} of this item is gone, and another one has its name.",
        "Somebody undefined it and defined another under its name.",
        "Rename or remove that machine; the item's own is then defined again by itself.",
    ),
    Odd.RENAMED: (
        "{machine} was renamed to {now}.",
        "Somebody ran 'virsh domrename'. It is still guarded; jobs look for it by its old name.",
        "Run 'virsh domrename {now} {machine}', or disable protection and enable it afresh.",
    ),
    Odd.STARTED: (
        "{machine} runs here although another side owns it.",
        "It was started with the libvirt hook away, or before libvirtd had read it.",
        "Shut it down, unless you know why it runs: what it writes is set aside, never merged.",
    ),
    Odd.UNDEFINED: (
        "{machine} had been undefined, and was defined again.",
        "Somebody ran 'virsh undefine', or a tool did, on a machine of a protected item.",
        "Nothing to do. To be rid of it, disable protection first (homeport disable {name}).",
    ),
    Odd.UNLOCKED: (
        "The lock of {machine} had been taken away, and was put back.",
        "Its definition was changed from outside; another side owns the machine.",
        "Nothing to do. To run it here, fail back or undo the failover.",
    ),
    Odd.MOVED: (
        "The disks of {machine} had been changed, and are again the ones that are kept.",
        "Its definition was changed from outside; it is locked until failback completes.",
        "Nothing to do. To change its disks, fail back first.",
    ),
    Odd.AUTOSTART: (
        "Autostart of {machine} had been switched on, and is off again.",
        "After a power cut both sites' machines would start by themselves.",
        "Nothing to do: the side that owns the machine starts it after a boot, when it is sure.",
    ),
}
"""What is, why, and what to do."""


def problem_of(odd: Odd, ledger: ItemLedger, seen: Seen) -> dict[str, str]:
    """Told as passing: no job gives up because of it."""
    facts = {
        "machine": ledger.machine,
        "name": ledger.name,
        "now": seen.name,
        "foreign": seen.foreign,
        "lifting": foreign_lock_remedy(ledger.machine),
    }
    message, cause, remedy = (text.format(**facts) for text in WORDS[odd])
    return {
        "code": odd.value,
        "message": message,
        "cause": cause,
        "remedy": remedy,
        "kind": "transient",
    }
