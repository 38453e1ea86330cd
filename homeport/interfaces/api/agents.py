"""
The agents' API: one long poll for what is new to an agent, one call for what it has to tell.

Bodies are read by the codec and not by FastAPI, so that agents one version away are understood,
and only after the token was looked at. Long polls wait on the event loop; the vault is asked on
threads kept apart from those of people's requests, since these may wait for an agent's answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request, Response

from homeport.interfaces.api.bell import Bell
from homeport.interfaces.api.problems import InvalidRequestError
from homeport.model.codec import UnreadableDocumentError, from_json, to_json
from homeport.model.ids import SiteName, check_name
from homeport.model.messages import AgentReport, ReportAnswer, SyncAnswer, SyncRequest
from homeport.orchestration.desk import AgentDesk, UnknownTokenError

T = TypeVar("T")
Args = TypeVarTuple("Args")

LONGEST_WAIT = 60.0
"""Seconds a long poll may last: proxies and state tables forget connections that are silent."""
LARGEST_BODY = 64 * 1024 * 1024
"""Bytes: a thousand items with their points and ledgers fit twenty times."""
THREADS = 16
BEARER = "bearer "


class AgentsApi:
    """The two calls, joined to a desk and a bell."""

    def __init__(self, desk: AgentDesk, bell: Bell) -> None:
        self._desk = desk
        self._bell = bell
        self._threads = anyio.CapacityLimiter(THREADS)

    def router(self) -> APIRouter:
        """The calls as FastAPI serves them."""
        router = APIRouter(prefix="/agent/v1", tags=["agents"])
        router.add_api_route("/sync", self.sync, methods=["POST"], summary="Wait for news")
        router.add_api_route("/report", self.report, methods=["POST"], summary="Tell how it is")
        return router

    async def sync(self, request: Request) -> Response:
        """Answer at once what is new to the agent, else when there is something, else in time."""
        site = await self._admit(request)
        asked = await _body(request, SyncRequest)
        await self._in_thread(self._desk.hear, site, asked)
        return _json(SyncAnswer, await self._wait_for_news(asked))

    async def report(self, request: Request) -> Response:
        """Take what the agent tells."""
        site = await self._admit(request)
        told = await _body(request, AgentReport)
        return _json(ReportAnswer, await self._in_thread(self._desk.take, site, told))

    async def watch(self, seconds: float) -> None:
        """The net: ring for what other servers have changed. Runs until it is cancelled."""
        while True:
            await anyio.sleep(seconds)
            waiting = self._bell.waiting()
            if waiting:
                self._bell.ring(await self._in_thread(self._desk.stale, waiting))

    async def _wait_for_news(self, asked: SyncRequest) -> SyncAnswer:
        until = anyio.current_time() + min(asked.wait, LONGEST_WAIT)
        with self._bell.ear(asked.host, asked.revision) as ear:
            while True:
                news = await self._in_thread(self._desk.news, asked)
                if news is not None:
                    return news
                left = until - anyio.current_time()
                if left <= 0 or not await ear.heard(left):
                    return await self._in_thread(self._desk.nothing_new, asked)

    async def _admit(self, request: Request) -> SiteName:
        header = request.headers.get("authorization", "")
        if not header.lower().startswith(BEARER):
            raise UnknownTokenError
        token = header[len(BEARER) :].strip()
        return await self._in_thread(self._desk.admit, token)

    async def _in_thread(self, act: Callable[[Unpack[Args]], T], *args: *Args) -> T:
        return await anyio.to_thread.run_sync(act, *args, limiter=self._threads)


async def _body(request: Request, kind: type[T]) -> T:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise InvalidRequestError(
                f"The message is longer than {LARGEST_BODY} bytes.",
                remedy="Report fewer items at once.",
            )
    try:
        message = from_json(kind, bytes(body))
    except UnreadableDocumentError as error:
        raise InvalidRequestError(
            error.message,
            cause="Agent and server do not agree on what is said.",
            remedy="Upgrade the older of the two.",
        ) from error
    check_name("host", message.host)  # type: ignore[attr-defined]
    return message


def _json(kind: type[T], value: T) -> Response:
    return Response(to_json(kind, value), media_type="application/json")
