"""
The error tree: sorted by what the caller does next, worded for the person on call.

Every error carries a `code` (stable, for programs), a message (what is), a `cause` (why) and a
`remedy` (what to do). Layers above never parse a message: they read `code` and the facts that each
class keeps as attributes.
"""

from __future__ import annotations


class HomeportError(Exception):
    """
    Base of all errors raised on purpose.

    `code` identifies the kind for programs and documentation; it defaults to the class's own.
    """

    code: str = "Internal"
    default_cause: str = ""
    default_remedy: str = ""

    def __init__(
        self,
        message: str,
        *,
        cause: str | None = None,
        remedy: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.cause = self.default_cause if cause is None else cause
        self.remedy = self.default_remedy if remedy is None else remedy
        if code is not None:
            self.code = code

    def as_dict(self) -> dict[str, str]:
        """The error as jobs, the API and the command line carry it."""
        return {
            "code": self.code,
            "message": self.message,
            "cause": self.cause,
            "remedy": self.remedy,
            "kind": kind_of(self),
        }


class TransientError(HomeportError):
    """Nothing is wrong with the request or the data: the same again later may succeed."""

    code = "Transient"
    default_remedy = "Nothing to do: it is tried again by itself. If it stays, look at the cause."


class RefusedError(HomeportError):
    """The request cannot be done as it stands. Nothing was changed."""

    code = "Refused"


class IntegrityError(HomeportError):
    """Data is not what it must be. Stop, keep everything, tell a person."""

    code = "Integrity"
    default_remedy = "Keep everything as it is; a resync from the running side repairs the replica."


class CancelledError(HomeportError):
    """Somebody asked for this work to stop, and it did, at a safe place."""

    code = "Cancelled"
    default_remedy = "Start the job again when you want it to go on."


class NotFoundError(RefusedError):
    """The request names something that does not exist."""

    code = "NotFound"


KINDS: dict[str, type[HomeportError]] = {
    "transient": TransientError,
    "refused": RefusedError,
    "integrity": IntegrityError,
    "cancelled": CancelledError,
    "internal": HomeportError,
}


def kind_of(error: BaseException) -> str:
    """The branch of the tree an error belongs to; `internal` for anything not raised on purpose."""
    for name, branch in KINDS.items():
        if name != "internal" and isinstance(error, branch):
            return name
    return "internal"


def describe(error: BaseException) -> dict[str, str]:
    """Any error as a dict of code, message, cause, remedy and kind."""
    if isinstance(error, HomeportError):
        return error.as_dict()
    return HomeportError(
        f"{type(error).__name__}: {error}",
        cause="An error that was not foreseen.",
        remedy="Look at the log of the process named in the job, and report it with that log.",
    ).as_dict()


def from_dict(facts: dict[str, str]) -> HomeportError:
    """The error another process described, in the branch it belongs to."""
    branch = KINDS.get(facts.get("kind", "internal"), HomeportError)
    return branch(
        facts.get("message", "no message"),
        cause=facts.get("cause", ""),
        remedy=facts.get("remedy", ""),
        code=facts.get("code", branch.code),
    )
