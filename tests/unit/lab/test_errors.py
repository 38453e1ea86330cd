"""Every error of the lab says what is, why, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport.errors import HomeportError, describe
from homeport.lab import errors
from homeport.lab.guestagent import GuestSilentError
from homeport.lab.kernel import NoKernelError
from homeport.lab.records import BadRecordsError

CASES = [
    (errors.NeedsRootError(action="cut a host off"), "NeedsRoot", "refused", "cut a host off"),
    (errors.LabExistsError("tour"), "LabExists", "refused", "a lab tour"),
    (errors.MissingPackagesError(packages=["a", "b"]), "MissingPackages", "refused", "a, b"),
    (
        errors.CommandFailedError(argv=["ip", "x"], status=2, output=""),
        "CommandFailed",
        "internal",
        "`ip x`",
    ),
    (errors.TooSlowError(awaited="it", limit=1.5), "TooSlow", "transient", "1.5 s"),
    (errors.PathTooLongError(path=Path("/x")), "PathTooLong", "refused", "/x"),
    (errors.BadNameError(name="A"), "BadName", "refused", "'A'"),
    (errors.NoSuchLabError(lab="l", folder=Path("/f")), "NoSuchLab", "refused", "no lab l in /f"),
    (
        errors.NoSuchHostError(lab="l", host="h", known=["e", "w"]),
        "NoSuchHost",
        "refused",
        "no host h",
    ),
    (errors.HostDownError(lab="l", host="h"), "HostDown", "refused", "not running"),
    (errors.NoSuchProcessError(host="h", process="qemu"), "NoSuchProcess", "refused", "No qemu"),
    (errors.NoFreeNetworkError(tried=["n"]), "NoFreeNetwork", "refused", "among n"),
    (GuestSilentError(domain="web", reason="frozen"), "GuestSilent", "transient", "frozen"),
    (NoKernelError(folder=Path("/c"), reason="none"), "NoGuestKernel", "refused", "/c"),
    (BadRecordsError(answer="x", reason="no JSON"), "BadRecords", "integrity", "no JSON"),
]


@pytest.mark.parametrize(
    ("error", "code", "kind", "words"), CASES, ids=[code for _, code, _, _ in CASES]
)
def test_an_error_is_complete(error: HomeportError, code: str, kind: str, words: str) -> None:
    told = describe(error)
    assert (told["code"], told["kind"]) == (code, kind)
    assert words in told["message"]
    assert told["remedy"], "what to do"
    assert told["message"].endswith("."), "a sentence"


def test_every_error_of_the_module_has_a_case() -> None:
    own = {
        each
        for each in vars(errors).values()
        if isinstance(each, type)
        and issubclass(each, HomeportError)
        and each.__module__ == errors.__name__
    }
    assert own <= {type(error) for error, *_ in CASES}
