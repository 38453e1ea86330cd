"""The agent's way to the server: it dials out, HTTP with its site's token, nothing listens here."""

from __future__ import annotations

from typing import TypeVar

import httpx

from homeport.errors import HomeportError, RefusedError, TransientError, from_dict
from homeport.model.codec import from_json, to_json
from homeport.model.messages import AgentReport, ReportAnswer, SyncAnswer, SyncRequest

ANSWER_GRACE = 15.0
"""Seconds beyond the long poll's own wait after which the server counts as silent."""

A = TypeVar("A")


class ServerSilentError(TransientError):
    """The server does not answer."""

    code = "ServerUnreachable"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"The server at {url} does not answer: {reason}",
            cause="It is stopped, or the network between is cut.",
            remedy="Nothing to do here: replication goes on, and the link is tried again.",
        )


class Link:
    """One connection pool to one server. Every call may be repeated."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._http = httpx.Client(base_url=self._url, headers=headers, trust_env=False)

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def sync(self, request: SyncRequest) -> SyncAnswer:
        """Long poll for news."""
        body = to_json(SyncRequest, request)
        return self._post("/agent/v1/sync", body, SyncAnswer, wait=request.wait)

    def report(self, report: AgentReport) -> ReportAnswer:
        """Tell how things are."""
        return self._post("/agent/v1/report", to_json(AgentReport, report), ReportAnswer, wait=0)

    def _post(self, path: str, body: bytes, answer: type[A], *, wait: float) -> A:
        try:
            got = self._http.post(path, content=body, timeout=wait + ANSWER_GRACE)
        except httpx.HTTPError as error:
            raise ServerSilentError(self._url, str(error) or type(error).__name__) from error
        if got.status_code >= 500:
            raise ServerSilentError(self._url, f"HTTP {got.status_code}")
        if got.status_code >= 400:
            raise _refusal(got)
        return from_json(answer, got.content)


def _refusal(got: httpx.Response) -> HomeportError:
    try:
        return from_dict(got.json()["error"])
    except (ValueError, KeyError, TypeError):
        return RefusedError(
            f"The server refused the agent: HTTP {got.status_code}.",
            code="ServerRefused",
            cause="Something between answers in the server's place, or the versions differ.",
            remedy="Check the server's address and the site's token.",
        )
