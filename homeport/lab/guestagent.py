"""Asking a lab's guest about its records, through libvirt and the QEMU guest agent in it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import libvirt
import libvirt_qemu

from homeport.errors import TransientError
from homeport.lab.commands import wait_until
from homeport.lab.records import GuestRecords, parse_records

# Well above what the guest takes under TCG for some 100,000 records.
ANSWER_LIMIT = 30.0

_CALL_SECONDS = 5


# libvirt prints each error beside raising it, and a guest that boots is asked in vain many times.
libvirt.registerErrorHandler(lambda _context, _error: None, None)


class GuestSilentError(TransientError):
    """The guest's agent does not answer."""

    code = "GuestSilent"
    default_cause = "The guest is still booting, frozen, or its agent has ended."
    default_remedy = "Try again in a few seconds; then look at the guest's serial log."

    def __init__(self, *, domain: str, reason: str) -> None:
        super().__init__(f"Guest {domain} does not answer: {reason}.")
        self.domain, self.reason = domain, reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """How a command run in a guest ended."""

    status: int
    output: str


def _call(domain: libvirt.virDomain, command: str, **arguments: object) -> Any:
    request = json.dumps({"execute": command, "arguments": arguments})
    try:
        answer = libvirt_qemu.qemuAgentCommand(domain, request, _CALL_SECONDS, 0)
    except libvirt.libvirtError as fault:
        raise GuestSilentError(domain=domain.name(), reason=str(fault)) from fault
    return json.loads(answer)["return"]


def run_in_guest(
    domain: libvirt.virDomain,
    argv: Sequence[str],
    *,
    limit: float = ANSWER_LIMIT,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Answer:
    """
    Run a command in the guest to its end.

    Raises:
        GuestSilentError: the agent did not answer, so nothing was begun.
        TooSlowError: the command was not seen to end within `limit` seconds; it goes on in the
            guest.
    """
    started = _call(
        domain, "guest-exec", path=argv[0], arg=list(argv[1:]), **{"capture-output": True}
    )
    last: dict[str, Any] = {}

    def ended() -> bool:
        try:
            last.update(_call(domain, "guest-exec-status", pid=started["pid"]))
        except GuestSilentError:
            return False  # for a moment, on a busy host
        return bool(last["exited"])

    awaited = f"`{' '.join(argv)}` in guest {domain.name()}"
    wait_until(ended, awaited=awaited, limit=limit, pause=0.1, clock=clock, sleep=sleep)
    output = base64.b64decode(last.get("out-data", "")).decode(errors="replace")
    return Answer(status=int(last.get("exitcode", -1)), output=output)


def ask_records(domain: libvirt.virDomain, *, limit: float = ANSWER_LIMIT) -> GuestRecords:
    """
    The guest's own account of what its disks hold, now.

    Raises:
        GuestSilentError, TooSlowError: it did not answer; it may later.
        BadRecordsError: it answered something else.
    """
    return parse_records(run_in_guest(domain, ["/sbin/records"], limit=limit).output)


def guest_answers(domain: libvirt.virDomain) -> bool:
    """Whether the guest's agent answers at this moment."""
    try:
        _call(domain, "guest-ping")
    except GuestSilentError:
        return False
    return True
