"""
What can go wrong with a lab, each with what to do about it.

Raised by the modules of `homeport.lab` only. Facts are attributes; the message is built from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from homeport.errors import HomeportError, NotFoundError, RefusedError, TransientError


class NeedsRootError(RefusedError):
    """Namespaces, bridges and libvirtd need root, and this process is not root."""

    code = "NeedsRoot"
    default_cause = "Namespaces, bridges and system libvirt daemons may be made by root only."
    default_remedy = "Run the same command with sudo, or in a virtual machine of your own."

    def __init__(self, *, action: str) -> None:
        super().__init__(f"Only root may {action}.")
        self.action = action


class LabExistsError(RefusedError):
    """A lab that was to be made whole, and is there already."""

    code = "LabExists"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is a lab {name} already.",
            cause="Making it anew would remove its disks and machines.",
            remedy=f"Take it down first (homeport lab down {name}), or choose another name.",
        )
        self.name = name


class MissingPackagesError(RefusedError):
    """Programs the lab is made of are not installed."""

    code = "MissingPackages"
    default_cause = "The lab is made of Debian's own libvirt, QEMU and boot tools."

    def __init__(self, *, packages: Sequence[str]) -> None:
        line = "apt-get install --no-install-recommends " + " ".join(packages)
        super().__init__(
            f"{len(packages)} Debian package(s) are missing: {', '.join(packages)}.",
            remedy=f"Run: {line}",
        )
        self.packages = tuple(packages)


class CommandFailedError(HomeportError):
    """A program the lab needs ended with an error."""

    code = "CommandFailed"
    default_remedy = "Read the program's own words above; then repeat the command."

    def __init__(self, *, argv: Sequence[str], status: int, output: str) -> None:
        said = output.strip() or "it said nothing"
        super().__init__(f"`{' '.join(argv)}` ended with status {status}.", cause=said)
        self.argv, self.status, self.output = tuple(argv), status, output


class TooSlowError(TransientError):
    """Something that was waited for did not happen within its limit."""

    code = "TooSlow"
    default_cause = "The machine is busy, or what was waited for has failed; its log says which."

    def __init__(self, *, awaited: str, limit: float, log: Path | None = None) -> None:
        where = f" Its log: {log}." if log else ""
        super().__init__(f"Waited {limit:g} s for {awaited}, in vain.{where}")
        self.awaited, self.limit, self.log = awaited, limit, log


class PathTooLongError(RefusedError):
    """A unix socket below this folder could not be opened: its path would be too long."""

    code = "PathTooLong"
    default_cause = "Linux takes at most 107 bytes for the path of a unix socket."
    default_remedy = "Choose a shorter folder or a shorter name for the lab or its hosts."

    def __init__(self, *, path: Path) -> None:
        super().__init__(f"{path} has {len(bytes(path))} bytes: too long for a unix socket.")
        self.path = path


class BadNameError(RefusedError):
    """A name that cannot be a folder, a host name and part of a device's name at once."""

    code = "BadName"
    default_cause = "The name becomes a folder, a host name and part of a network device's name."
    default_remedy = "Use 1 to 32 small letters, digits and '-', beginning with a letter."

    def __init__(self, *, name: str) -> None:
        super().__init__(f"{name!r} cannot name a lab or a host.")
        self.name = name


class NoSuchLabError(NotFoundError):
    """This machine has no lab of that name."""

    code = "NoSuchLab"

    def __init__(self, *, lab: str, folder: Path) -> None:
        super().__init__(
            f"There is no lab {lab} in {folder}.", remedy="Bring it up first, or name another."
        )
        self.lab, self.folder = lab, folder


class NoSuchHostError(NotFoundError):
    """The lab has no host of that name."""

    code = "NoSuchHost"

    def __init__(self, *, lab: str, host: str, known: Sequence[str]) -> None:
        names = ", ".join(known) or "none"
        super().__init__(
            f"Lab {lab} has no host {host}.", remedy=f"Name one of its hosts: {names}."
        )
        self.lab, self.host, self.known = lab, host, tuple(known)


class HostDownError(RefusedError):
    """The host is not running, so nothing can be done inside it."""

    code = "HostDown"
    default_cause = "It was killed, or the machine was restarted since."

    def __init__(self, *, lab: str, host: str) -> None:
        super().__init__(f"Host {host} of lab {lab} is not running.", remedy="Start it first.")
        self.lab, self.host = lab, host


class NoSuchProcessError(NotFoundError):
    """No such process runs on that host at this moment."""

    code = "NoSuchProcess"
    default_remedy = "Look at what runs there; it may have ended by itself a moment ago."

    def __init__(self, *, host: str, process: str) -> None:
        super().__init__(f"No {process} runs on host {host}.")
        self.host, self.process = host, process


class NoFreeNetworkError(RefusedError):
    """Every link-local range a lab could use is taken on this machine."""

    code = "NoFreeNetwork"
    default_remedy = "Take down a lab that is no longer needed, or give a range of your own."

    def __init__(self, *, tried: Sequence[str]) -> None:
        super().__init__(f"No free address range for the lab among {', '.join(tried)}.")
        self.tried = tuple(tried)
