"""Commands in a guest: begun once, waited for, through an agent that is silent for a moment."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import libvirt
import pytest

from homeport.lab import guestagent
from homeport.lab.errors import TooSlowError
from homeport.lab.guestagent import GuestSilentError, run_in_guest

BEGUN = json.dumps({"return": {"pid": 7}})
AT_WORK = json.dumps({"return": {"exited": False}})
SAID = base64.b64encode(b"all is well").decode()
ENDED = json.dumps({"return": {"exited": True, "exitcode": 3, "out-data": SAID}})
SILENT = libvirt.libvirtError("Guest agent not available for now")


class Guest:
    """What a domain is asked by its name, and answers in turn; the last answer for ever."""

    def __init__(self, *answers: str | libvirt.libvirtError) -> None:
        self.answers, self.now = list(answers), 0.0
        self.asked: list[str] = []

    def name(self) -> str:
        return "web"

    def answer(self, domain: Guest, request: str, timeout: int, flags: int) -> str:
        self.asked.append(json.loads(request)["execute"])
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, libvirt.libvirtError):
            raise found
        return found

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Guest]:
    def make(*answers: str | libvirt.libvirtError) -> Guest:
        made = Guest(*answers)
        monkeypatch.setattr(guestagent.libvirt_qemu, "qemuAgentCommand", made.answer)
        return made

    return make


def test_a_command_is_begun_once_and_waited_for(guest: Callable[..., Guest]) -> None:
    web = guest(BEGUN, AT_WORK, SILENT, SILENT, AT_WORK, ENDED)
    found = run_in_guest(web, ["/sbin/records"], clock=lambda: web.now, sleep=web.sleep)
    assert (found.status, found.output) == (3, "all is well")
    assert web.asked == ["guest-exec", *["guest-exec-status"] * 5]


def test_one_that_could_not_be_begun_is_told_at_once(guest: Callable[..., Guest]) -> None:
    web = guest(SILENT)
    with pytest.raises(GuestSilentError):
        run_in_guest(web, ["/sbin/records"])
    assert web.asked == ["guest-exec"]


@pytest.mark.parametrize("answer", [AT_WORK, SILENT], ids=["at work", "silent"])
def test_one_without_an_end_is_not_waited_for_without_end(
    guest: Callable[..., Guest], answer: str | libvirt.libvirtError
) -> None:
    web = guest(BEGUN, answer)
    with pytest.raises(TooSlowError):
        run_in_guest(web, ["/sbin/records"], limit=5, clock=lambda: web.now, sleep=web.sleep)
    assert web.now == pytest.approx(5, abs=0.2)
