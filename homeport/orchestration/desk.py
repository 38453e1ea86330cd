"""
The agents' desk: what a server does with what agents say, and what it tells them.

Every method is one short transaction. The waiting of a long poll is not here: the HTTP side asks
`news` again whenever it is woken.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace

from homeport.errors import RefusedError
from homeport.model.ids import HostName, SiteName
from homeport.model.messages import (
    PROTOCOL,
    AgentReport,
    ReportAnswer,
    SyncAnswer,
    SyncRequest,
    check_protocol,
)
from homeport.orchestration.rows import Rows, Vaults


class UnknownTokenError(RefusedError):
    """No token, or one that no site has now."""

    code = "UnknownToken"

    def __init__(self) -> None:
        super().__init__(
            "The agent's token is not that of any site.",
            cause="It is missing, mistyped, or was replaced by a newer one.",
            remedy="Make a new token (homeport site token SITE) and put it into the agent's "
            "settings. Replication goes on meanwhile.",
        )


class ForeignSiteError(RefusedError):
    """A token of one site shown by an agent that says it is of another."""

    code = "TokenOfAnotherSite"

    def __init__(self, *, token_of: SiteName, says: SiteName) -> None:
        super().__init__(
            f"The token is that of site {token_of}; the agent says it is in site {says}.",
            cause="The agent's settings name another site than its token was made for.",
            remedy="Correct the site or the token in the agent's settings.",
        )
        self.token_of = token_of
        self.says = says


class AgentDesk:
    """What the agents' API does, without HTTP."""

    def __init__(self, vaults: Vaults) -> None:
        self._vaults = vaults

    def admit(self, token: str) -> SiteName:
        """
        The site whose token this is. All are compared, in constant time each.

        Raises:
            UnknownTokenError: none has it.
        """
        shown = hashlib.sha256(token.encode()).hexdigest()
        with self._vaults.read() as rows:
            hashes = rows.agent_rows.token_hashes()
        found = [site for site, known in hashes.items() if hmac.compare_digest(known, shown)]
        if not found:
            raise UnknownTokenError
        return found[0]

    def hear(self, site: SiteName, request: SyncRequest) -> None:
        """
        The host lives, and works at what it names.

        Raises:
            ProtocolError: it is more than one version away.
            ForeignSiteError: it is not in the token's site.
            RefusedError: its name is another site's host's.
        """
        with self._vaults.write() as rows:
            _hear(rows, site, request)
            rows.operation_rows.hear(request.host, request.operations)

    def news(self, request: SyncRequest) -> SyncAnswer | None:
        """What the host does not know yet, or None. What is given is marked as delivered."""
        with self._vaults.read() as rows:
            answer = _answer(rows, request)
            urgent = rows.operation_rows.untold(request.host, request.operations)
        if answer.assignments is None and not answer.operations and not urgent:
            return None
        self._mark(answer)
        return answer

    def nothing_new(self, request: SyncRequest) -> SyncAnswer:
        """The answer when a long poll's time is over."""
        with self._vaults.read() as rows:
            return _answer(rows, request)

    def stale(self, known: Mapping[HostName, int]) -> set[HostName]:
        """Those of the waiting hosts that have news, by the revision each has: the net."""
        with self._vaults.read() as rows:
            revisions = rows.agent_rows.revisions(known)
            waiting = rows.operation_rows.waiting_hosts(known)
        return {host for host in known if revisions.get(host, 0) != known[host]} | waiting

    def take(self, site: SiteName, report: AgentReport) -> ReportAnswer:
        """
        Write down everything in a report. Sent twice, it has the effect of once.

        Raises:
            ProtocolError, ForeignSiteError, RefusedError: as `hear`.
        """
        named = [operation.id for operation in report.operations]
        with self._vaults.write() as rows:
            _hear(rows, site, report)
            if report.inventory is not None:
                rows.agent_rows.put_inventory(report.host, report.inventory)
            if report.items is not None:
                rows.agent_rows.put_reports(report.host, report.items)
            recorded = tuple(
                operation.id
                for operation in report.operations
                if rows.operation_rows.record(report.host, operation)
            )
            for operation in report.operations:
                rows.agent_rows.put_ledger(report.host, operation)
            cancelled = rows.operation_rows.to_stop(report.host, named)
            rows.operation_rows.tell(cancelled)
        going_on = tuple(operation for operation in cancelled if operation not in recorded)
        return ReportAnswer(cancelled=going_on, recorded=recorded)

    def _mark(self, answer: SyncAnswer) -> None:
        if answer.operations or answer.cancelled:
            with self._vaults.write() as rows:
                rows.operation_rows.deliver([order.id for order in answer.operations])
                rows.operation_rows.tell(answer.cancelled)


def _hear(rows: Rows, site: SiteName, request: SyncRequest | AgentReport) -> None:
    check_protocol(request.protocol)
    if request.site != site:
        raise ForeignSiteError(token_of=site, says=request.site)
    rows.agent_rows.hear(
        request.host, site, agent_version=request.agent_version, protocol=request.protocol
    )


def _answer(rows: Rows, request: SyncRequest) -> SyncAnswer:
    revision = rows.agent_rows.revision(request.host)
    answer = SyncAnswer(
        vault=rows.vault_id(),
        revision=revision,
        protocol=PROTOCOL,
        operations=rows.operation_rows.orders(request.host, request.operations),
        cancelled=rows.operation_rows.to_stop(request.host, request.operations),
    )
    if revision == request.revision:
        return answer
    return replace(answer, assignments=rows.agent_rows.assignments(request.host))
