"""
The FastAPI application: routers joined, errors worded, and the server's parts started and stopped.

How errors leave is in `problems`; here are those that only a server with agents and a database has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio.to_thread
import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError

from homeport import __version__
from homeport.errors import describe
from homeport.interfaces.api.agents import AgentsApi
from homeport.interfaces.api.bell import Bell
from homeport.interfaces.api.problems import answer_problems
from homeport.interfaces.statuses import DATABASE_ERRORS, DatabaseAwayError
from homeport.orchestration.books import Office
from homeport.orchestration.desk import ForeignSiteError, UnknownTokenError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Services:
    """
    What the application serves; routers reach the office as `request.app.state.office`.

    `start` and `stop` are the engine's; they run once each, on a thread.
    """

    office: Office
    agents: AgentsApi
    bell: Bell
    start: Callable[[], None] = field(default=lambda: None)
    stop: Callable[[], None] = field(default=lambda: None)
    net_seconds: float = 1.0


def create_app(services: Services, routers: Iterable[APIRouter]) -> FastAPI:
    """The application with the agents' API and the routers given."""
    app = FastAPI(title="Homeport", version=__version__, lifespan=_lifespan)
    app.state.services = services
    app.state.office = services.office
    for router in (services.agents.router(), *routers):
        app.include_router(router)
    answer_problems(app)
    app.add_exception_handler(UnknownTokenError, _unknown_token)
    app.add_exception_handler(ForeignSiteError, _foreign_site)
    for away in DATABASE_ERRORS:
        app.add_exception_handler(away, _no_database)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    await anyio.to_thread.run_sync(services.start)
    net = asyncio.create_task(_keep_watching(services))
    try:
        yield
    finally:
        net.cancel()
        with suppress(asyncio.CancelledError):
            await net
        services.bell.ring_all()
        await anyio.to_thread.run_sync(services.stop)


async def _keep_watching(services: Services) -> None:
    """The net outlives a database that is away."""
    while True:
        try:
            await services.agents.watch(services.net_seconds)
        except DBAPIError as error:
            log.warning("the net cannot read the vault", error=str(error.orig))


async def _unknown_token(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse(
        {"error": describe(error)}, status_code=401, headers={"WWW-Authenticate": "Bearer"}
    )


async def _foreign_site(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": describe(error)}, status_code=403)


async def _no_database(_request: Request, error: Exception) -> JSONResponse:
    log.warning("the database does not answer", error=str(error))
    away = DatabaseAwayError()
    return JSONResponse({"error": away.as_dict()}, status_code=503)
