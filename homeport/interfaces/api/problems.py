"""
Errors as HTTP answers: one body for all, and the status by what the caller does next.

404 what is named does not exist; 422 the request is malformed; 409 it cannot be done as things
stand; 503 the same again later may succeed; 500 data is not what it must be, or not foreseen.
"""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from homeport.errors import (
    CancelledError,
    HomeportError,
    NotFoundError,
    RefusedError,
    TransientError,
    describe,
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

log = structlog.get_logger(__name__)


class InvalidRequestError(RefusedError):
    """A body, path or query that is not what the operation takes."""

    code = "InvalidRequest"


def status_of(error: HomeportError) -> int:
    """The HTTP status of an error."""
    if error.code in MALFORMED:
        return 422
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, RefusedError | CancelledError):
        return 409
    return 503 if isinstance(error, TransientError) else 500


def answer_problems(app: FastAPI) -> None:
    """Have every error of the app answered as `{"error": {...}}`."""
    app.add_exception_handler(HomeportError, _on_homeport)
    app.add_exception_handler(RequestValidationError, _on_malformed)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_unforeseen)


def _answer(status: int, problem: dict[str, str]) -> JSONResponse:
    return JSONResponse({"error": problem}, status_code=status)


async def _on_homeport(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HomeportError)
    return _answer(status_of(error), error.as_dict())


async def _on_malformed(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = [
        f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
        for problem in error.errors()
    ]
    refused = InvalidRequestError(
        "The request is not what this operation takes. " + "; ".join(found),
        cause="A field is missing, unknown, or of another kind.",
        remedy="Look at the operation in the API's description (/docs).",
    )
    return _answer(422, refused.as_dict())


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    refused = RefusedError(
        f"{request.method} {request.url.path}: {error.detail}.",
        code="NotFound" if error.status_code == 404 else "InvalidRequest",
        cause="The API has no such operation.",
        remedy="Look at the API's description (/docs).",
    )
    return _answer(error.status_code, refused.as_dict())


async def _on_unforeseen(request: Request, error: Exception) -> JSONResponse:
    log.exception("a request failed", path=request.url.path, exc_info=error)
    return _answer(500, describe(error))
