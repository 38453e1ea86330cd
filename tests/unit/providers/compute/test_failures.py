"""libvirt's errors sorted by what the caller does next."""

from __future__ import annotations

import libvirt
import pytest

from homeport.errors import HomeportError, IntegrityError, RefusedError, TransientError
from homeport.model.host import UnknownMachineError
from homeport.providers.compute import failures
from homeport.providers.compute.failures import (
    DiskBusyError,
    HypervisorRefusedError,
    HypervisorUnreachableError,
    StartVetoedError,
    ViewBehindError,
    translate,
)


def libvirt_error(code: int, domain: int, text: str) -> libvirt.libvirtError:
    error = libvirt.libvirtError(text)
    error.err = (code, domain, text, 2, None, None, None, 0, 0)
    return error


QEMU = libvirt.VIR_FROM_QEMU


@pytest.mark.parametrize(
    ("code", "domain", "text", "expected"),
    [
        pytest.param(
            libvirt.VIR_ERR_SYSTEM_ERROR,
            libvirt.VIR_FROM_RPC,
            "Failed to connect socket to '/run/libvirt/libvirt-sock': Connection refused",
            HypervisorUnreachableError,
            id="nobody listens",
        ),
        pytest.param(
            libvirt.VIR_ERR_SYSTEM_ERROR,
            libvirt.VIR_FROM_RPC,
            "Cannot recv data: Connection reset by peer",
            HypervisorUnreachableError,
            id="died in a call",
        ),
        pytest.param(
            libvirt.VIR_ERR_INTERNAL_ERROR,
            libvirt.VIR_FROM_RPC,
            "internal error: client socket is closed",
            HypervisorUnreachableError,
            id="died before the call",
        ),
        pytest.param(
            libvirt.VIR_ERR_NO_DOMAIN, QEMU, "Domain not found", UnknownMachineError, id="absent"
        ),
        pytest.param(
            libvirt.VIR_ERR_OPERATION_TIMEOUT,
            QEMU,
            "Timed out during operation: cannot acquire state change lock (held by ...)",
            DiskBusyError,
            id="a backup job",
        ),
        pytest.param(
            libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
            QEMU,
            "disk 'vda' already in active block job",
            DiskBusyError,
            id="a block job",
        ),
        pytest.param(
            libvirt.VIR_ERR_INTERNAL_ERROR,
            QEMU,
            "unable to execute QEMU command 'block_resize': Device is in use",
            DiskBusyError,
            id="in use",
        ),
        pytest.param(
            libvirt.VIR_ERR_INTERNAL_ERROR,
            QEMU,
            "unable to execute QEMU command: Duplicate nodes with node-name='libvirt-5-format'",
            DiskBusyError,
            id="what a dead rotation left",
        ),
        pytest.param(
            libvirt.VIR_ERR_INTERNAL_ERROR,
            QEMU,
            "Node 'libvirt-1-format' is busy: node is used as backing hd of 'libvirt-3-format'",
            ViewBehindError,
            id="a view behind",
        ),
        pytest.param(
            libvirt.VIR_ERR_HOOK_SCRIPT_FAILED, QEMU, "exit status 1", StartVetoedError, id="hook"
        ),
        pytest.param(
            libvirt.VIR_ERR_INTERNAL_ERROR,
            QEMU,
            "cannot set up guest memory 'pc.ram': Cannot allocate memory",
            HypervisorRefusedError,
            id="anything else",
        ),
    ],
)
def test_sorted(code: int, domain: int, text: str, expected: type[HomeportError]) -> None:
    found = translate(libvirt_error(code, domain, text), "do it", "web")
    assert type(found) is expected


def test_the_branches_are_those_the_caller_acts_by() -> None:
    assert issubclass(DiskBusyError, TransientError)
    assert issubclass(HypervisorUnreachableError, TransientError)
    assert issubclass(HypervisorRefusedError, RefusedError)
    assert issubclass(ViewBehindError, IntegrityError)


def test_libvirts_own_words_are_kept() -> None:
    error = libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, QEMU, "no room at the inn")
    assert "no room at the inn" in translate(error, "start it", "web").message


@pytest.mark.parametrize(
    "error",
    [
        failures.SavedStateError("web"),
        failures.NotRunningError("web", "fly"),
        failures.UnknownDiskError("web", "vda", "it is gone"),
        failures.ViewBehindError("web", "vda", "/o2"),
        failures.StaleDefinitionError("web", "x"),
        failures.StartVetoedError("web", "no"),
        failures.DiskBusyError("do it", "busy"),
        failures.HypervisorUnreachableError("do it", "gone"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_each_says_what_why_and_what_to_do(error: HomeportError) -> None:
    told = error.as_dict()
    assert all(told[part] for part in ("code", "message", "cause", "remedy"))
    assert told["code"] == type(error).__name__.removesuffix("Error")
