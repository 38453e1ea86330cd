"""What a person may do to a guarded machine with virsh, and what a real libvirtd makes of it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt
import pytest

from homeport.agent import guard
from homeport.agent.confirming import confirm
from homeport.agent.oddities import WORDS
from homeport.agent.reporting import report_item
from homeport.dataplane import flags
from homeport.errors import RefusedError
from homeport.model import operations as ops
from homeport.model.machine import PowerState
from homeport.model.prerequisites import no_foreign_lock
from homeport.providers.compute import hook
from homeport.providers.compute.failures import StartVetoedError
from homeport.providers.compute.hypervisor import LibvirtCompute
from tests.machines import disk_xml, machine_xml, qcow2_file, raw_file
from tests.servers_libvirt import LibvirtHost
from tests.unit.model.test_prerequisites import GOOD
from tests.world import ITEM, VAULT, Host, ManualClock, World

pytestmark = pytest.mark.real

CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd").read_bytes()


@pytest.fixture
def link(libvirt_host: LibvirtHost) -> Iterator[Any]:
    opened = libvirt_host.open()
    yield opened
    with suppress(libvirt.libvirtError):
        opened.close()
    libvirt_host.clear()


@pytest.fixture
def compute(libvirt_host: LibvirtHost) -> Iterator[LibvirtCompute]:
    opened = libvirt_host.compute()
    yield opened
    opened.close()


@pytest.fixture
def host(libvirt_host: LibvirtHost, compute: LibvirtCompute, tmp_path: Path) -> Iterator[Host]:
    """An agent's host with nothing on it; its files may be removed afterwards."""
    host = Host("east", tmp_path, ManualClock(), immutable=True)
    host.compute = compute  # type: ignore[assignment]
    host.confirmed = libvirt_host.folder / "run/homeport"
    host.restart()
    yield host
    shutil.rmtree(host.confirmed, ignore_errors=True)
    for path in tmp_path.rglob("*"):
        flags.set_immutable(path, on=False)


@pytest.fixture
def web(host: Host, link: Any) -> Host:
    """`web`, with UEFI variables, off, protected."""
    nvram = host.pool / "web.fd"
    nvram.write_bytes(VARIABLES)
    loader = f"<loader readonly='yes' type='pflash'>{CODE}</loader><nvram>{nvram}</nvram>"
    disks = (
        disk_xml("vda", qcow2_file(host.pool / "web-vda.qcow2"), format="qcow2"),
        disk_xml("vdb", raw_file(host.pool / "web-vdb.raw")),
    )
    system = f"<type arch='x86_64' machine='q35'>hvm</type>{loader}"
    link.defineXML(machine_xml(*disks, os=system, extra="<features><acpi/></features>"))
    arm(host)
    return host


def arm(host: Host) -> None:
    facts = host.order(ops.CheckSource(machine="web"))
    assert not facts.problems, facts.problems
    host.order(
        ops.Arm(
            item=ITEM,
            name="web",
            vault=VAULT,
            epoch=1,
            machine="web",
            cache=host.cache,
            policy=World.__dataclass_fields__["policy"].default_factory(),  # type: ignore[misc]
        )
    )


def fenced(host: Host) -> Host:
    host.order(ops.Fence(item=ITEM, epoch=2, lock="SiteRecovery-v-homeport-east"))
    return host


def news(host: Host) -> list[str]:
    return [odd for odd in host.guard() if odd in WORDS]


def told(host: Host) -> str:
    return (report_item(host.shelf, ITEM).problem or {}).get("code", "")


def xml(link: Any) -> str:
    return str(link.lookupByName("web").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))


def with_variables(link: Any) -> None:
    link.lookupByName("web").undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)


def without_variables(link: Any) -> None:
    link.lookupByName("web").undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)


@pytest.mark.parametrize("undefine", [with_variables, without_variables])
@pytest.mark.parametrize("locked", [True, False], ids=["fenced", "source"])
def test_an_undefined_machine_is_as_it_was(
    web: Host, link: Any, compute: LibvirtCompute, undefine: Callable[[Any], None], locked: bool
) -> None:
    if locked:
        fenced(web)
    assert news(web) == []
    before, note = xml(link), compute.note("web")
    undefine(link)
    assert compute.state("web") is PowerState.ABSENT
    assert news(web) == ["MachineUndefined"]
    assert xml(link) == before
    assert compute.note("web") == note
    assert not link.lookupByName("web").autostart()
    assert (web.pool / "web.fd").read_bytes() == VARIABLES
    assert told(web) == "MachineUndefined"
    assert news(web) == []
    if locked:
        with pytest.raises(StartVetoedError, match="runs at the other site"):
            compute.start("web")


def test_variables_that_were_written_since_stay(web: Host, link: Any) -> None:
    fenced(web)
    without_variables(link)
    (web.pool / "web.fd").write_bytes(b"newer")
    assert news(web) == ["MachineUndefined"]
    assert (web.pool / "web.fd").read_bytes() == b"newer"


def test_a_machine_that_is_undefined_while_it_runs_stays_defined(
    host: Host, link: Any, compute: LibvirtCompute
) -> None:
    link.defineXML(machine_xml(disk_xml("vda", raw_file(host.pool / "web-vda.raw"))))
    compute.start("web")
    arm(host)
    domain = link.lookupByName("web")
    identity = domain.ID()
    domain.undefine()
    assert not domain.isPersistent()
    assert news(host) == ["MachineUndefined"]
    domain = link.lookupByName("web")
    assert (domain.ID(), domain.isPersistent(), domain.autostart()) == (identity, 1, 0)
    assert news(host) == []
    compute.stop("web", timeout=0)
    assert compute.state("web") is PowerState.OFF
    assert compute.sources("web").persistent["vda"].endswith(".qcow2")


def test_a_fenced_machine_that_is_renamed_stays_guarded(
    web: Host, link: Any, compute: LibvirtCompute
) -> None:
    fenced(web)
    link.lookupByName("web").rename("other", 0)
    link.lookupByName("other").setAutostart(1)
    assert "AutostartSet" in news(web)
    assert told(web) == "MachineRenamed"
    assert compute.state("web") is PowerState.ABSENT
    with pytest.raises(StartVetoedError):
        compute.start("other")
    link.lookupByName("other").rename("web", 0)
    assert news(web) == []
    assert told(web) == "AutostartSet"


def test_a_definition_from_before_the_lock_does_not_unlock(
    web: Host, link: Any, compute: LibvirtCompute
) -> None:
    before = xml(link)
    fenced(web)
    note = compute.note("web")
    link.defineXML(before.replace("homeport:note", "homeport:nothing"))
    assert compute.note("web") is None
    assert news(web) == ["LockRemoved"]
    assert compute.note("web") == note
    with pytest.raises(StartVetoedError):
        compute.start("web")


def test_a_machine_without_its_disks_gets_them_back(
    web: Host, link: Any, compute: LibvirtCompute
) -> None:
    fenced(web)
    before = compute.sources("web").persistent
    config = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    domain = link.lookupByName("web")
    domain.detachDeviceFlags(disk_xml("vdb", Path(before["vdb"]), format="qcow2"), config)
    assert set(compute.sources("web").persistent) == {"vda"}
    assert news(web) == ["DefinitionChanged"]
    assert compute.sources("web").persistent == before


def test_the_files_of_a_fenced_machine_can_be_read_by_qemu_and_not_changed(
    web: Host, compute: LibvirtCompute
) -> None:
    fenced(web)
    bases = [web.pool / "web-vda.qcow2", web.pool / "web-vdb.raw"]
    held = web.shelf.peek(ITEM)
    assert guard.immutable.is_kept(held, web.shelf.means)
    could = [flags.is_immutable(path) for path in bases]
    assert compute.describe("web").disks
    web.order(ops.Unfence(item=ITEM, epoch=3))
    assert compute.state("web") is PowerState.RUNNING
    assert len(set(could)) == 1
    assert not any(flags.is_immutable(path) for path in bases)


def test_after_a_boot_nothing_starts_until_the_server_has_spoken(
    web: Host, link: Any, compute: LibvirtCompute
) -> None:
    assert web.confirmed is not None
    shutil.rmtree(web.confirmed)  # as a boot does
    with pytest.raises(libvirt.libvirtError, match="has not heard from the server"):
        link.lookupByName("web").create()
    with pytest.raises(StartVetoedError, match=f"touch {hook.CONFIRMED}/{ITEM}"):
        compute.start("web")
    assert confirm(web.shelf.means, ITEM)
    compute.start("web")
    assert compute.state("web") is PowerState.RUNNING


def in_the_review(host: Host) -> str:
    """The remedy that a review has for the lock on `web`."""
    facts = host.order(ops.AskFacts(item=ITEM))
    item = replace(GOOD.item, primary=replace(GOOD.item.primary, machine="web"))
    (problem,) = no_foreign_lock(replace(GOOD, item=item, old=facts, lock="SiteRecovery-v"))
    assert problem["code"] == "ForeignLock"
    return problem["remedy"]


def at_the_fence(host: Host) -> str:
    """The remedy of the refusal of a fence."""
    with pytest.raises(RefusedError, match="audit") as refused:
        fenced(host)
    assert refused.value.code == "ForeignLock"
    return refused.value.remedy


def in_the_report(host: Host) -> str:
    """The remedy of what the guard tells."""
    host.guard()
    problem = report_item(host.shelf, ITEM).problem or {}
    assert problem["code"] == "ForeignLock"
    return problem["remedy"]


def running(host: Host) -> None:
    host.compute.start("web")


def off(host: Host) -> None:
    assert host.compute.state("web") is PowerState.OFF


@pytest.mark.parametrize(
    ("before", "remedy"),
    [
        (off, in_the_review),
        (running, in_the_review),
        (off, at_the_fence),
        (running, at_the_fence),
        (fenced, in_the_report),
    ],
)
def test_a_foreign_lock_is_seen_and_lifted_by_the_commands_that_its_remedy_names(
    web: Host,
    compute: LibvirtCompute,
    libvirt_host: LibvirtHost,
    before: Callable[[Host], object],
    remedy: Callable[[Host], str],
) -> None:
    def type_in(command: str) -> str:
        program, *words = shlex.split(command)
        assert program == "virsh"
        typed = ["virsh", "-c", libvirt_host.uri, *words]
        return subprocess.run(typed, check=True, capture_output=True, text=True).stdout

    before(web)
    note = compute.note("web")
    assert note is not None
    compute.set_note("web", replace(note, item="f" * 32, lock="audit"))
    text = remedy(web)
    looks = text.partition("(")[2].partition(")")[0]
    assert 'lock="audit"' in type_in(looks).replace("'", '"')
    type_in(text.rpartition(": ")[2])
    assert compute.note("web") is None
    fenced(web)
    note = compute.note("web")
    assert note is not None
    assert note.lock == "SiteRecovery-v-homeport-east"
