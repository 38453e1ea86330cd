"""
The typed client of Homeport's API, used by the command line, scripts and tests.

Each call raises the error that the server has told, in the branch of the tree it belongs to; a
server that cannot be reached is a `TransientError`. Requests are repeated by nobody: a call that
was cut may or may not have been done, and asking again is refused by the server where it matters.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from homeport.errors import HomeportError, NotFoundError, TransientError, from_dict
from homeport.model.codec import from_plain, to_plain
from homeport.model.policy import ReplicationPolicy
from homeport.model.reports import (
    DeletedVm,
    EstimateReport,
    HealthReport,
    ItemView,
    JobReport,
    LedgerLine,
    LossReceipt,
    MappingReport,
    NewSiteReport,
    PointView,
    ResourceReport,
    SiteReport,
    TokenReport,
    VmReport,
)
from homeport.model.requests import (
    CacheRequest,
    CapacityRequest,
    DisableRequest,
    FailoverRequest,
    GroupRequest,
    MachineRequest,
    MappingRequest,
    ProtectRequest,
    ReprotectRequest,
    SetRequest,
    SiteRequest,
    TestFailoverRequest,
)
from homeport.model.resources import ResourceKind
from homeport.model.review import Review
from homeport.model.unsent import Discarded, ExportRequest, UnsentDifference, UnsentView

T = TypeVar("T")
KIND_OF: Mapping[type, ResourceKind] = {
    GroupRequest: ResourceKind.GROUP,
    SetRequest: ResourceKind.SET,
    CapacityRequest: ResourceKind.RESERVATION,
}
Moment = Callable[[float], None]
"""Waits that many seconds: how a caller lets time pass between two looks."""

DEFAULT_URL = "http://127.0.0.1:8740"
NOT_FOUND = 404
TIMEOUT = httpx.Timeout(30.0, read=360.0)
"""Seconds; a machine made from an image is waited for, so reading has longer."""


class UnreachableServerError(TransientError):
    """No answer from the server."""

    code = "ServerUnreachable"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"The server at {url} does not answer.",
            cause=reason,
            remedy="Start it (homeport server), or name another (--server, HOMEPORT_SERVER_URL).",
        )
        self.url = url


class JobNotDoneError(HomeportError):
    """A job that ended without having done what was asked. `job` is its last report."""

    code = "JobFailed"

    def __init__(self, job: JobReport) -> None:
        error = job.error or {}
        super().__init__(
            f"{job.kind} of {job.item_name}: {job.state}. {error.get('message', '')}".strip(),
            cause=error.get("cause", ""),
            remedy=error.get("remedy", ""),
            code=error.get("code", self.code),
        )
        self.job = job


class Client:
    """
    The API, one method a call. Not shared between threads; close it, or use `with`.

    `transport` is for tests; `http` takes a client that is there already.
    """

    def __init__(self, url: str = DEFAULT_URL, *, http: httpx.Client | None = None) -> None:
        self.url = url.rstrip("/")
        self._http = http or httpx.Client(
            base_url=self.url, timeout=TIMEOUT, verify=_trusted(self.url)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go."""
        self._http.close()

    def health(self) -> HealthReport:
        """Whether the server can do its work."""
        return self._get(HealthReport, "/v1/health")

    def sites(self) -> tuple[SiteReport, ...]:
        """All sites."""
        return self._get(tuple[SiteReport, ...], "/v1/sites")

    def site(self, site: str) -> SiteReport:
        """One site."""
        return self._get(SiteReport, f"/v1/sites/{site}")

    def add_site(self, name: str, cache: CacheRequest | None = None) -> NewSiteReport:
        """A new site, with its agents' token."""
        return self._send(NewSiteReport, "POST", "/v1/sites", SiteRequest(name=name, cache=cache))

    def renew_token(self, site: str) -> str:
        """A fresh token for a site's agents; earlier ones end."""
        return self._send(TokenReport, "POST", f"/v1/sites/{site}/token").token

    def set_cache(self, site: str, cache: CacheRequest) -> SiteReport:
        """Set the cache store in a site."""
        return self._send(SiteReport, "PUT", f"/v1/sites/{site}/cache", cache)

    def map_network(self, mapping: MappingRequest) -> MappingReport:
        """Have a network of one site stand for one of another."""
        return self._send(MappingReport, "PUT", "/v1/network-mappings", mapping)

    def resources(self, site: str, kind: ResourceKind) -> tuple[ResourceReport, ...]:
        """A site's resource groups, availability sets or capacity reservations."""
        return self._get(tuple[ResourceReport, ...], f"/v1/sites/{site}/{kind}s")

    def resource(self, site: str, kind: ResourceKind, name: str) -> ResourceReport:
        """One of them."""
        return self._get(ResourceReport, f"/v1/sites/{site}/{kind}s/{name}")

    def put_resource(
        self, site: str, name: str, asked: GroupRequest | SetRequest | CapacityRequest
    ) -> ResourceReport:
        """Make one, or change what is given of it; the request's type says of which kind."""
        path = f"/v1/sites/{site}/{KIND_OF[type(asked)]}s/{name}"
        return self._send(ResourceReport, "PUT", path, asked)

    def delete_resource(self, site: str, kind: ResourceKind, name: str) -> None:
        """Delete one that nobody uses."""
        self._call("DELETE", f"/v1/sites/{site}/{kind}s/{name}")

    def vms(self, site: str | None = None) -> tuple[VmReport, ...]:
        """The machines of all sites, or of one."""
        return self._get(tuple[VmReport, ...], "/v1/vms", site=site)

    def vm(self, site: str, name: str) -> VmReport:
        """One machine, with its definition."""
        return self._get(VmReport, f"/v1/vms/{site}/{name}")

    def create_vm(self, asked: MachineRequest) -> VmReport:
        """Make a machine, and wait until it is there."""
        return self._send(VmReport, "POST", "/v1/vms", asked)

    def start_vm(self, site: str, name: str) -> VmReport:
        """Start a machine."""
        return self._send(VmReport, "POST", f"/v1/vms/{site}/{name}/start")

    def stop_vm(self, site: str, name: str, *, timeout: float = 30.0) -> VmReport:
        """Shut a machine down, by force after `timeout` seconds."""
        path = f"/v1/vms/{site}/{name}/stop?timeout={timeout}"
        return self._send(VmReport, "POST", path)

    def delete_vm(self, site: str, name: str, *, disks: bool = False) -> DeletedVm:
        """Delete a machine, with its disks if told so."""
        path = f"/v1/vms/{site}/{name}/delete?disks={str(disks).lower()}"
        return self._send(DeletedVm, "POST", path)

    def policies(self) -> tuple[ReplicationPolicy, ...]:
        """All policies."""
        return self._get(tuple[ReplicationPolicy, ...], "/v1/policies")

    def policy(self, name: str) -> ReplicationPolicy:
        """One policy."""
        return self._get(ReplicationPolicy, f"/v1/policies/{name}")

    def add_policy(self, policy: ReplicationPolicy) -> ReplicationPolicy:
        """A new policy."""
        return self._send(ReplicationPolicy, "POST", "/v1/policies", policy)

    def change_policy(self, name: str, **changes: object) -> ReplicationPolicy:
        """Change a policy's fields; spans as `timedelta`."""
        body = to_plain(dict[str, Any], changes)
        return from_plain(ReplicationPolicy, self._call("PUT", f"/v1/policies/{name}", body))

    def items(self) -> tuple[ItemView, ...]:
        """All items."""
        return self._get(tuple[ItemView, ...], "/v1/items")

    def item(self, item: str) -> ItemView:
        """One item, by name or id."""
        return self._get(ItemView, f"/v1/items/{item}")

    def points(self, item: str) -> tuple[PointView, ...]:
        """The points a failover can choose from."""
        return self._get(tuple[PointView, ...], f"/v1/items/{item}/points")

    def protect(self, asked: ProtectRequest) -> JobReport:
        """Protect a machine."""
        return self._send(JobReport, "POST", "/v1/items", asked)

    def failover(self, item: str, asked: FailoverRequest | None = None) -> JobReport:
        """Fail over, or change the recovery point."""
        return self._start(item, "failover", asked or FailoverRequest())

    def undo(self, item: str) -> JobReport:
        """Undo a failover."""
        return self._start(item, "undo")

    def commit(self, item: str) -> JobReport:
        """Commit a failover."""
        return self._start(item, "commit")

    def review(self, item: str, asked: ReprotectRequest | None = None) -> Review:
        """What a reprotect would do."""
        path = f"/v1/items/{item}/review"
        return self._send(Review, "POST", path, asked or ReprotectRequest())

    def reprotect(self, item: str, asked: ReprotectRequest | None = None) -> JobReport:
        """Reverse the direction."""
        return self._start(item, "reprotect", asked or ReprotectRequest())

    def test_failover(self, item: str, asked: TestFailoverRequest | None = None) -> JobReport:
        """Boot a point beside the item."""
        return self._start(item, "test-failover", asked or TestFailoverRequest())

    def test_cleanup(self, item: str) -> JobReport:
        """Remove everything of the test."""
        return self._start(item, "test-cleanup")

    def disable(self, item: str, asked: DisableRequest | None = None) -> JobReport:
        """Take away everything Homeport made."""
        return self._start(item, "disable", asked or DisableRequest())

    def ledger(self, item: str | None = None) -> tuple[LedgerLine, ...]:
        """Everything made, for one item or for all."""
        path = "/v1/ledger" if item is None else f"/v1/items/{item}/ledger"
        return self._get(tuple[LedgerLine, ...], path)

    def receipt(self, item: str) -> LossReceipt:
        """What the last failover is known to have lost."""
        return self._get(LossReceipt, f"/v1/items/{item}/receipt")

    def unsent(self, item: str) -> tuple[UnsentView, ...]:
        """The images of writes set aside, and where they are."""
        return self._get(tuple[UnsentView, ...], f"/v1/items/{item}/unsent")

    def unsent_files(
        self,
        item: str,
        disk: str,
        *,
        image: str | None = None,
        limit: int | None = None,
        seconds: float | None = None,
    ) -> UnsentDifference:
        """Which files an image has otherwise than its point; its host reads them now."""
        query = {"limit": limit, "seconds": seconds}
        given = {key: str(value) for key, value in query.items() if value is not None}
        path = f"/v1/items/{item}/unsent/{disk}/files"
        return self._get(UnsentDifference, path, image=image, **given)

    def export_unsent(self, item: str, disk: str, asked: ExportRequest) -> JobReport:
        """Copy an image to a file that stands by itself, on its host."""
        return self._send(JobReport, "POST", f"/v1/items/{item}/unsent/{disk}/export", asked)

    def discard_unsent(self, item: str, disk: str, *, image: str | None = None) -> Discarded:
        """Remove an image before its time."""
        query = {} if image is None else {"image": image}
        answer = self._call("DELETE", f"/v1/items/{item}/unsent/{disk}", query=query)
        return from_plain(Discarded, answer)

    def estimate(self, item: str) -> EstimateReport:
        """How long a reprotect would take."""
        return self._get(EstimateReport, f"/v1/items/{item}/estimate")

    def jobs(self, *, item: str | None = None, state: str | None = None) -> tuple[JobReport, ...]:
        """Jobs, newest first."""
        return self._get(tuple[JobReport, ...], "/v1/jobs", item=item, state=state)

    def job(self, job: str) -> JobReport:
        """One job with its tasks."""
        return self._get(JobReport, f"/v1/jobs/{job}")

    def cancel(self, job: str) -> JobReport:
        """Ask a job to stop."""
        return self._send(JobReport, "POST", f"/v1/jobs/{job}/cancel")

    def restart(self, job: str) -> JobReport:
        """Ask again for what a failed or cancelled job did not do; a new job."""
        return self._send(JobReport, "POST", f"/v1/jobs/{job}/restart")

    def follow(self, job: str, *, pause: Moment, every: float = 0.5) -> Iterator[JobReport]:
        """Reports of a job until it has ended, the last one too; `pause` lets time pass."""
        while True:
            report = self.job(job)
            yield report
            if report.ended:
                return
            pause(every)

    def wait(self, job: str, *, pause: Moment, every: float = 0.5) -> JobReport:
        """
        The job's last report, once it has ended.

        Raises:
            JobNotDoneError: it failed or was cancelled.
        """
        *_, report = self.follow(job, pause=pause, every=every)
        if not report.succeeded:
            raise JobNotDoneError(report)
        return report

    def _start(self, item: str, verb: str, asked: object | None = None) -> JobReport:
        return self._send(JobReport, "POST", f"/v1/items/{item}/{verb}", asked)

    def _get(self, kind: type[T], path: str, **query: str | None) -> T:
        given = {key: value for key, value in query.items() if value is not None}
        return from_plain(kind, self._call("GET", path, query=given))

    def _send(self, kind: type[T], method: str, path: str, asked: object | None = None) -> T:
        body = None if asked is None else to_plain(type(asked), asked)
        return from_plain(kind, self._call(method, path, body))

    def _call(
        self, method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None
    ) -> Any:
        with self._reaching():
            answer = self._http.request(method, path, json=body, params=query or None)
        if answer.is_success:
            return answer.json() if answer.content else None
        raise _error_of(answer)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise UnreachableServerError(self.url, reason) from error


def _trusted(url: str) -> bool | ssl.SSLContext:
    """Whom to trust; for a plain address nobody: reading all certificates outlasts most calls."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if url.startswith("http://") else True


def _error_of(answer: httpx.Response) -> HomeportError:
    """What the server has told; an answer that is not Homeport's is told as it is."""
    try:
        facts = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return TransientError(
            f"{answer.request.url} answered {answer.status_code}: {answer.text[:200]}",
            cause="It is not Homeport that answers there, or a proxy stands between.",
            remedy="Look at the address (--server).",
        )
    error = from_dict(facts)
    if answer.status_code != NOT_FOUND:
        return error
    return NotFoundError(error.message, cause=error.cause, remedy=error.remedy, code=error.code)
