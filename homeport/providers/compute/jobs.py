"""
Block jobs: committing a closed layer into the one below it, and coming back down to the base.

libvirt allows one job a disk, reports it by polling, and changes its view of the chain when the job
ends: only that view says whether a layer was committed. Flattening goes downwards always: on these
overlays `blockPull`, like copy-on-read, makes QEMU 7.2 abort, and nothing here calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import libvirt

from homeport.errors import TransientError
from homeport.providers.compute import domain_xml
from homeport.providers.compute.failures import DiskBusyError, NotRunningError, UnknownDiskError
from homeport.providers.compute.images import same_file

POLL = 0.1  # seconds between two looks at a job

Pause = Callable[[float], None]
Layers = list[tuple[str, str]]


class JobFailedError(TransientError):
    """A block job that ended by itself without having done its work."""

    code = "JobFailed"

    def __init__(self, machine: str, target: str, doing: str) -> None:
        super().__init__(
            f"Machine {machine}, disk {target}: the job to {doing} ended before it was done.",
            cause="A read or write failed, the disk is full, or somebody aborted the job.",
            remedy="Look for room and errors on the disk's storage. Nothing is lost: base and "
            "layers together are right. It is tried again by itself.",
        )
        self.machine = machine
        self.target = target


def commit_layer(
    domain: Any,
    target: str,
    *,
    base: Path,
    top: Path,
    progress: Callable[[int, int], bool],
    pause: Pause,
) -> bool:
    """
    See `Compute.commit`.

    A job that runs already is waited for: libvirt does not tell which layers it is for, the chain
    after it does.
    """
    machine = domain.name()
    if not domain.isActive():
        raise NotRunningError(machine, "commit a layer")
    if not _drain(domain, target, progress, pause):
        return _committed(domain, target, base, top)
    if _committed(domain, target, base, top):
        return True
    names = neighbours(machine, target, _layers(domain, target), base, top)
    domain.blockCommit(target, *names, 0, 0)
    wanted = _drain(domain, target, progress, pause)
    done = _committed(domain, target, base, top)
    if wanted and not done:
        raise JobFailedError(machine, target, f"commit {top}")
    return done


def pivot_to(domain: Any, target: str, *, base: Path, pause: Pause) -> None:
    """See `Compute.pivot`, for a machine that runs. A pivot cut short before is finished."""
    machine = domain.name()
    if same_file(_layers(domain, target)[0][0], base):
        return
    if _mirror(domain, target) is None:
        _drain(domain, target, _go_on, pause)
        index = _index(machine, target, _layers(domain, target), base)
        flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE
        domain.blockCommit(target, index, None, 0, flags)
    while (mirror := _mirror(domain, target)) is not None and not mirror[1]:
        pause(POLL)
    if mirror is None:
        raise JobFailedError(machine, target, f"commit into {base}")
    domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
    if not same_file(_layers(domain, target)[0][0], base):
        raise JobFailedError(machine, target, f"go on with {base}")


def _drain(domain: Any, target: str, progress: Callable[[int, int], bool], pause: Pause) -> bool:
    """
    Wait until the disk has no job; False if `progress` wanted it aborted.

    Raises:
        DiskBusyError: it is another kind of job, which is not ours to wait for or to abort.
    """
    while job := domain.blockJobInfo(target, 0):
        if job["type"] != libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT:
            raise DiskBusyError(f"work on disk {target}", "it has a job of another kind")
        if not progress(job["cur"], job["end"]):
            _abort(domain, target)
            return False
        pause(POLL)
    return True


def _abort(domain: Any, target: str) -> None:
    try:
        domain.blockJobAbort(target, 0)
    except libvirt.libvirtError:
        if domain.blockJobInfo(target, 0):
            raise  # else it ended in that moment; the chain says how


def _committed(domain: Any, target: str, base: Path, top: Path) -> bool:
    return is_committed([path for path, _ in _layers(domain, target)], base, top)


def is_committed(paths: Sequence[Path | str], base: Path, top: Path) -> bool:
    """Whether a disk's chain has `base` and no longer `top`."""
    return any(same_file(path, base) for path in paths) and not any(
        same_file(path, top) for path in paths
    )


def neighbours(machine: str, target: str, layers: Layers, base: Path, top: Path) -> tuple[str, str]:
    """libvirt's names of base and top, after checking that one lies right on the other."""
    paths = [path for path, _ in layers]
    for position, path in enumerate(paths):
        if not same_file(path, top):
            continue
        if position == 0:
            raise UnknownDiskError(machine, target, f"{top} is its active layer")
        if position + 1 < len(paths) and same_file(paths[position + 1], base):
            return _name(target, layers[position + 1]), _name(target, layers[position])
        raise UnknownDiskError(machine, target, f"{top} does not lie on {base}")
    raise UnknownDiskError(machine, target, f"{top} is not in its chain")


def _index(machine: str, target: str, layers: Layers, base: Path) -> str:
    for layer in layers:
        if same_file(layer[0], base):
            return _name(target, layer)
    raise UnknownDiskError(machine, target, f"{base} is not in its chain")


def _name(target: str, layer: tuple[str, str]) -> str:
    path, index = layer
    return f"{target}[{index}]" if index else path


def _layers(domain: Any, target: str) -> Layers:
    return domain_xml.layers(domain_xml.parse(domain.XMLDesc(0)), target)


def _mirror(domain: Any, target: str) -> tuple[str, bool] | None:
    found = domain_xml.mirror(domain_xml.parse(domain.XMLDesc(0)), target)
    if found is not None and found[0] != "active-commit":
        raise DiskBusyError(f"work on disk {target}", f"it has a job of another kind ({found[0]})")
    return found


def _go_on(_current: int, _end: int) -> bool:
    return True
