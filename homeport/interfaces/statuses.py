"""
Errors as HTTP statuses, by what the caller does next; the same for the API and the portal.

404 what is named does not exist; 422 the request is malformed; 409 it cannot be done as things
stand; 503 the same again later may succeed; 500 data is not what it must be, or not foreseen.
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from homeport.errors import (
    CancelledError,
    HomeportError,
    NotFoundError,
    RefusedError,
    TransientError,
)

MALFORMED = frozenset(
    {
        "InvalidName",
        "InvalidPosition",
        "InvalidPolicy",
        "InvalidRequest",
        "InvalidWay",
        "PlannedTakesLatest",
        "SameSite",
    }
)
"""Refusals of the request itself: the same is refused whatever the vault holds."""
DATABASE_ERRORS = (DBAPIError, PoolTimeoutError)
"""What a database that is away, or busy beyond its limit, is noticed by."""


class DatabaseAwayError(TransientError):
    """The vault's database does not answer."""

    code = "DatabaseAway"
    default_cause = "It was stopped, cannot be reached, or is busy beyond its limit."
    default_remedy = "Look at the database; the request may be sent again. Replication goes on."

    def __init__(self) -> None:
        super().__init__("The vault cannot be read or written now.")


def status_of(error: HomeportError) -> int:
    """The HTTP status of an error."""
    if error.code in MALFORMED:
        return 422
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, RefusedError | CancelledError):
        return 409
    return 503 if isinstance(error, TransientError) else 500
