"""
The disks of a machine of the user's own, when it is deleted: which go, which stay, and why.

A file goes only if it is known that nothing else needs it: no other machine, no item, no image that
stands on it. What cannot be known stays; what stands below a disk always does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from homeport.agent.ledgers import FOLDER
from homeport.agent.means import Means
from homeport.agent.shelf import Shelf
from homeport.dataplane.points import backing_of
from homeport.errors import HomeportError, RefusedError


def disks_of(means: Means, machine: str) -> dict[Path, str]:
    """The machine's disks, each with what keeps it from being removed, empty for nothing."""
    sources = means.compute.sources(machine)
    try:
        own = {disk.target for disk in means.compute.describe(machine).disks}
    except RefusedError:  # it cannot be described: nothing of it is known well enough
        own = set()
    return {
        Path(path): "" if target in own else "it is read-only, shared or of a kind not known"
        for view in (sources.persistent, sources.live)
        for target, path in view.items()
    }


def check_removable(shelf: Shelf, disks: dict[Path, str], *, machine: str) -> dict[Path, str]:
    """The disks again, each with the reason why it has to stay, empty where it may go."""
    used = _used(shelf, machine)
    return {path: reason or _reason(path, used) for path, reason in disks.items()}


def _reason(path: Path, used: dict[Path, str] | None) -> str:
    if path.is_symlink() or not path.is_file():
        return "it is not a file"
    if used is None:
        return "not all items and machines of this host can be read, so one may need it"
    user = used.get(path.resolve())
    if user:
        return f"{user} has it too"
    above = next(_standing_on(path), None)
    return f"{above} stands on it" if above else ""


def _used(shelf: Shelf, machine: str) -> dict[Path, str] | None:
    """Files that others need, with who does; None if that is not known."""
    used: dict[Path, str] = {}
    compute = shelf.means.compute
    try:
        for name in (one.name for one in compute.inventory().machines if one.name != machine):
            sources = compute.sources(name)
            paths = {Path(path) for path in (*sources.persistent.values(), *sources.live.values())}
            used |= dict.fromkeys(_with_below(paths), f"the machine {name}")
        for item in shelf.items():
            held = shelf.peek(item)
            used |= dict.fromkeys(_with_below(held.files()), f"the item {held.ledger.name}")
    except HomeportError:
        return None
    return used


def _with_below(paths: set[Path]) -> Iterator[Path]:
    """The files, and those that they stand on."""
    todo, seen = list(paths), set[Path]()
    while todo:
        path = todo.pop().resolve()
        if path in seen:
            continue
        seen.add(path)
        yield path
        below = _below(path)
        todo += [below] if below else []


def _standing_on(path: Path) -> Iterator[Path]:
    """Images beside a file, and in items' folders there, that name it below themselves."""
    for other in sorted((*path.parent.iterdir(), *(path.parent / FOLDER).rglob("*"))):
        below = _below(other) if other.is_file() else None
        if below is not None and below.resolve() == path.resolve():
            yield other


def _below(path: Path) -> Path | None:
    with suppress(HomeportError, OSError):  # raw files and foreign ones name nothing
        return backing_of(path)
    return None
