"""
libvirt's errors, sorted by what the caller does next.

libvirt has few codes and many texts; where a code is used for unlike things the text decides.
Nobody above reads either: they get one of the classes here with a remedy.
"""

from __future__ import annotations

import libvirt

from homeport.errors import HomeportError, IntegrityError, RefusedError, TransientError
from homeport.model.host import MachineProblem, UnknownMachineError

_UNREACHABLE = frozenset(
    {libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_INVALID_CONN}
)
_BUSY = frozenset(
    {
        libvirt.VIR_ERR_OPERATION_TIMEOUT,  # "cannot acquire state change lock", after 30 s
        libvirt.VIR_ERR_RESOURCE_BUSY,
        libvirt.VIR_ERR_BLOCK_COPY_ACTIVE,
    }
)
# The texts of libvirt 9.0 and QEMU 7.2 for what passes by itself; the last is what is left of a
# rotation that died before its transaction, and the next attempt takes another node name.
_BUSY_TEXTS = (
    "already in active block job",
    "active block job",
    "Device is in use",
    "state change lock",
    "Duplicate nodes with node-name",
)
_BEHIND_TEXT = "node is used as backing hd"


class HypervisorUnreachableError(TransientError):
    """libvirtd does not answer, or died in the middle of a call."""

    code = "HypervisorUnreachable"

    def __init__(self, doing: str, reason: str) -> None:
        super().__init__(
            f"libvirt could not be reached to {doing}: {reason}",
            cause="libvirtd is not running, is being restarted, or did not answer in time.",
            remedy="Look at 'systemctl status libvirtd' on the host. It is tried again by itself.",
        )


class DiskBusyError(TransientError):
    """Another job or tool holds the machine or its disk."""

    code = "DiskBusy"

    def __init__(self, doing: str, reason: str) -> None:
        super().__init__(
            f"Something else holds the machine, so libvirt would not {doing}: {reason}",
            cause="A block job, a backup or a migration is under way; libvirt allows one at once.",
            remedy="Wait for it, or end it: 'virsh blockjob' and 'virsh domjobinfo' show it.",
        )


class HypervisorRefusedError(RefusedError):
    """What libvirt refused for a reason of its own, in its own words."""

    code = "HypervisorRefused"

    def __init__(self, doing: str, reason: str) -> None:
        super().__init__(
            f"libvirt refused to {doing}: {reason}",
            cause=reason,
            remedy="Mend what libvirt names; the log in /var/log/libvirt/qemu may say more.",
        )
        self.reason = reason


class StartVetoedError(RefusedError):
    """A hook denied the start: ours, with the note's reason, or one of the host's own."""

    code = "StartVetoed"

    def __init__(self, machine: str, reason: str) -> None:
        super().__init__(
            f"Machine {machine} may not start: {reason}",
            cause="A libvirt hook on this host denies it.",
            remedy="Start the machine on the side that owns it, or fail over through Homeport.",
        )
        self.machine = machine


class SavedStateError(RefusedError):
    """A machine whose saved memory would be resumed on disks it does not know."""

    code = "SavedState"

    def __init__(self, machine: str) -> None:
        super().__init__(
            f"Machine {machine} has a saved state, which knows its disks as they were then.",
            cause="It was stopped with 'virsh managedsave', or by the host's shutdown.",
            remedy=f"Resume it with 'virsh start {machine}' and shut it down, or give the saved "
            f"state up with 'virsh managedsave-remove {machine}'.",
        )
        self.machine = machine

    @property
    def problem(self) -> MachineProblem:
        """The same among a machine's other problems."""
        return MachineProblem(code=self.code, message=self.message, remedy=self.remedy)


class NotRunningError(RefusedError):
    """Something only a running machine can do."""

    code = "NotRunning"

    def __init__(self, machine: str, doing: str) -> None:
        super().__init__(
            f"Machine {machine} is off; only a running one can {doing}.",
            cause="It was shut down since this was asked for.",
            remedy="Merge its layers as files instead.",
        )
        self.machine = machine


class UnknownDiskError(RefusedError):
    """A target the machine does not have, or a file its disk does not have where it should be."""

    code = "UnknownDisk"

    def __init__(self, machine: str, target: str, what: str) -> None:
        super().__init__(
            f"Machine {machine}, disk {target}: {what}.",
            cause="The machine's disks were changed from outside, or an intent is out of date.",
            remedy="Compare the ledger with 'virsh domblklist' and the chain of the disk.",
        )
        self.machine = machine
        self.target = target


class ViewBehindError(IntegrityError):
    """libvirt takes a lower file for the top of a disk than QEMU writes to."""

    code = "ViewBehind"

    def __init__(self, machine: str, target: str = "", top: str = "") -> None:
        where = f" It writes to {top} as {target}." if top else ""
        super().__init__(
            f"libvirt's view of machine {machine} is behind what QEMU really writes to.{where}",
            cause="libvirtd died in the middle of a rotation; no later one can succeed.",
            remedy="Protection waits. Shut the machine down from inside and start it again: its "
            "definition names the right files.",
        )
        self.machine = machine
        self.target = target


class StaleDefinitionError(IntegrityError):
    """After a change, the disks are not what was asked for and could not be corrected."""

    code = "StaleDefinition"

    def __init__(self, machine: str, found: str) -> None:
        super().__init__(
            f"The disks of machine {machine} are not what they were just set to: {found}.",
            cause="libvirt answered that all went well, and its view says otherwise.",
        )
        self.machine = machine


def translate(error: libvirt.libvirtError, doing: str, machine: str) -> HomeportError:
    """The error of ours for one of libvirt's, met while `doing` something."""
    code, text = error.get_error_code(), error.get_error_message() or str(error)
    if is_lost(error):
        return HypervisorUnreachableError(doing, text)
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        return UnknownMachineError(machine)
    if _BEHIND_TEXT in text:
        return ViewBehindError(machine)
    if is_busy(error):
        return DiskBusyError(doing, text)
    if code == libvirt.VIR_ERR_HOOK_SCRIPT_FAILED:
        return StartVetoedError(machine, text)
    return HypervisorRefusedError(doing, text)


def is_lost(error: libvirt.libvirtError) -> bool:
    """Whether the connection, not the request, failed: what was asked may have happened or not."""
    code, domain = error.get_error_code(), error.get_error_domain()
    remote = domain in (libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE)
    socket = code in (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_INTERNAL_ERROR)
    return code in _UNREACHABLE or (remote and socket)


def is_busy(error: libvirt.libvirtError) -> bool:
    """Whether another job or tool is in the way."""
    text = error.get_error_message() or ""
    return error.get_error_code() in _BUSY or any(known in text for known in _BUSY_TEXTS)
