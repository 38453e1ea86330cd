"""What the vault refuses, worded for people."""

from __future__ import annotations

from homeport.errors import IntegrityError, NotFoundError, RefusedError


class UnknownRowError(NotFoundError):
    """A name or id that the vault does not have."""

    def __init__(self, kind: str, key: str, command: str) -> None:
        super().__init__(
            f"There is no {kind} {key}.",
            cause="It was removed, or the name is spelled otherwise.",
            remedy=f"Look at the list ({command}).",
        )
        self.kind = kind
        self.key = key


class NameTakenError(RefusedError):
    """A name that another row has."""

    code = "NameTaken"

    def __init__(self, kind: str, name: str, *, code: str = "NameTaken") -> None:
        super().__init__(
            f"There is a {kind} {name} already.",
            cause=f"Each {kind} has a name of its own.",
            remedy="Choose another name, or use the one that is there.",
            code=code,
        )
        self.kind = kind
        self.name = name


class JobRunningError(RefusedError):
    """An item at which another job is at work."""

    code = "JobRunning"

    def __init__(self, item: str, job: str, kind: str) -> None:
        super().__init__(
            f"{kind} (job {job}) is at work on {item}.",
            cause="One job at a time changes an item.",
            remedy=f"Wait until it has ended (homeport jobs show {job}), or cancel it.",
        )
        self.item = item
        self.job = job


class EpochLoweredError(IntegrityError):
    """An item row that would go back to an older owner."""

    code = "EpochLowered"

    def __init__(self, item: str, *, has: int, offered: int) -> None:
        super().__init__(
            f"Item {item} is at epoch {has}; epoch {offered} was to be written over it.",
            cause="An epoch rises with every change of owner and never falls: work of an older "
            "owner came late.",
        )
        self.item = item
        self.has = has
        self.offered = offered


class ForeignHostError(RefusedError):
    """A host name that another site's host has."""

    code = "HostOfAnotherSite"

    def __init__(self, host: str, site: str) -> None:
        super().__init__(
            f"Host {host} belongs to site {site}.",
            cause="Host names are unique over all sites.",
            remedy="Give the host another name in its agent's settings.",
        )
        self.host = host
        self.site = site
