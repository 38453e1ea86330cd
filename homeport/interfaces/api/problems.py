"""
Errors as HTTP answers: one body for all, and the status by what the caller does next.

Which status that is, is in `homeport.interfaces.statuses`.
"""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from homeport.errors import HomeportError, RefusedError, describe
from homeport.interfaces.statuses import status_of

log = structlog.get_logger(__name__)


class InvalidRequestError(RefusedError):
    """A body, path or query that is not what the operation takes."""

    code = "InvalidRequest"


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
