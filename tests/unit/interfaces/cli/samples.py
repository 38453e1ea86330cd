"""Reports as a server gives them on a bad day, for what is drawn of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from homeport.lab.hosts import HostReport as LabHost
from homeport.lab.hosts import LabReport
from homeport.model.estimate import Rates, asr_estimate, estimate
from homeport.model.host import HostInventory, MachineFacts, Network, Pool
from homeport.model.ids import DiskName
from homeport.model.machine import (
    DiskDefinition,
    DiskFormat,
    Firmware,
    MachineDefinition,
    NicDefinition,
    PowerState,
)
from homeport.model.messages import Progress, UnsentReport
from homeport.model.planning import DiskPlan, ResyncPlan, Way
from homeport.model.policy import CommitTimer, ReplicationPolicy
from homeport.model.position import Position
from homeport.model.rehearsal import Rehearsal
from homeport.model.reports import (
    CacheReport,
    Downtime,
    EstimateReport,
    HoldReport,
    HostReport,
    ItemView,
    JobReport,
    LedgerLine,
    LossReceipt,
    MappingReport,
    PendingDecision,
    PointView,
    ResourceReport,
    ResyncRecord,
    SeatReport,
    SiteReport,
    StorageAccountReport,
    TaskReport,
    VmReport,
)
from homeport.model.review import DiskReview, Review, Row
from homeport.orchestration.reprotect import TASKS
from homeport.rescue import FoundDisk, FoundItem, FoundPoint, Verdict
from homeport.units import GiB, MiB

NOW = datetime(2026, 3, 14, 9, 30, 0, tzinfo=UTC)
JOB = "5f0c2a9be1d84d0f9a3b6c7d8e9f0a1b"
FOLDER = Path("/var/lib/libvirt/images/homeport/shop.7d1a8e6b")


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


PROBLEM = {
    "code": "DamagedObject",
    "message": "The object 'points/000003-0000000017/shop-vda.delta' cannot be used: it is cut.",
    "cause": "It was altered, cut or deleted in the cache store, or on its way.",
    "remedy": "Nothing of it was used. It is asked of the source again by itself.",
    "kind": "integrity",
}
UNSENT = UnsentReport(
    disk="shop-vda",
    path=f"{FOLDER}/shop-vda/shop-vda-unsent-3-17.qcow2",
    position=Position(3, 17),
    size=12 * MiB,
    set_aside_at=ago(hours=2),
    expires_at=NOW + timedelta(days=6, hours=22),
)
RECEIPT = LossReceipt(
    point=Position(3, 17),
    point_at=ago(hours=2, seconds=40),
    failed_over_at=ago(hours=2),
    planned=False,
    captured=Position(3, 18),
    missing_bytes=None,
    missing_seconds=40.2,
    left_out=0,
    known="not known until the old side is back",
    assumption="the operator confirms that the source is down; it did not answer",
)
COMPLETED = replace(
    RECEIPT,
    missing_bytes=12 * MiB,
    known="12 MiB that the old side had and this one has not",
    completed_at=ago(minutes=10),
    unsent=(UNSENT,),
)
PLANNED = replace(
    RECEIPT,
    planned=True,
    missing_bytes=0,
    missing_seconds=0.0,
    known="nothing: the machine was shut down and its last writes were carried over",
    assumption="the source was shut down by this job",
    downtime=Downtime(
        began_at=ago(hours=2, seconds=14),
        started=7.4,
        answered=13.9,
        measured="by the server's clock, from its order to stop the machine to the answer that it "
        "runs; the guest's own part of that by the clock of w1",
    ),
)
POINTS = tuple(
    PointView(
        position=Position(3, number),
        taken_at=ago(seconds=60 * (17 - number) + 12),
        landed_at=ago(seconds=60 * (17 - number) + 9),
        consistency="app-consistent" if number == 15 else "crash-consistent",
        changed=number * 3 * MiB,
        depth=number - 12,
        label="before failover" if number == 14 else "",
        latest=number == 17,
        latest_app=number == 15,
    )
    for number in (14, 15, 16, 17)
)
EAST = SeatReport(
    site="east",
    host="e1",
    machine="shop",
    pool="disks",
    alive=True,
    role="source",
    phase="replicating",
)
WEST = SeatReport(
    site="west",
    host="w1",
    machine="shop",
    pool="fast",
    alive=True,
    role="target",
    phase="replicating",
)
SEEDING = Progress(done=3 * GiB, total=12 * GiB, rate=110 * MiB, note="first copy")


def item(**changes: Any) -> ItemView:
    """A protected item, with changes."""
    view = ItemView(
        id="7d1a8e6b0c1d4e2f8a9b0c1d2e3f4a5b",
        name="shop",
        state="Protected",
        unprotected=False,
        unprotected_reason="",
        direction="east -> west",
        active="primary",
        running=EAST,
        standby=WEST,
        epoch=3,
        policy="default",
        rpo_target=300.0,
        current_rpo=12.4,
        rpo_met=True,
        newest_point=POINTS[-1],
        points=4,
        progress=None,
        backlog=0,
        bytes_moved=41 * GiB,
        disks=("shop-vda", "shop-vdb"),
        unsent=(),
        problem=None,
        protected_at=ago(days=3),
        job=None,
        allowed=("failover", "disable", "test-failover"),
        receipt=None,
        last_resync=None,
        test=None,
        rehearsal=Rehearsal(site="west", failback=False, drilled_at=ago(days=1)),
    )
    return replace(view, **changes)


PENDING = item(
    name="ledger-db",
    state="Failover, commit pending",
    unprotected=True,
    unprotected_reason="nothing is replicated after a failover: commit, then reprotect",
    direction="west -> east",
    active="recovery",
    running=replace(WEST, machine="ledger-db", role="running", phase="running"),
    standby=replace(EAST, machine="ledger-db", alive=False, phase=""),
    current_rpo=None,
    rpo_met=False,
    receipt=RECEIPT,
    unsent=(UNSENT,),
    allowed=("failover", "undo", "commit"),
    decision=PendingDecision(what="undo", at=NOW + timedelta(minutes=50)),
)
HOME_SOON = item(
    name="crm",
    direction="west -> east",
    active="recovery",
    running=replace(WEST, machine="crm", role="source"),
    standby=replace(EAST, machine="crm", role="target"),
    rehearsal=Rehearsal(site="east", failback=True, missing="none has been made"),
)
LATE = item(
    name="mail",
    current_rpo=912.0,
    rpo_met=False,
    problem=PROBLEM,
    backlog=300 * MiB,
    progress=SEEDING,
    job=JOB,
    last_resync={"way": "exact", "reason": "both sides hold point 2-9"},
    test={"machine": "mail-test", "point": "3-15", "state": "running"},
)
ITEMS = (item(), PENDING, LATE, item(name="old", state="Disabled", unprotected=True))


def task(index: int, state: str, **changes: Any) -> TaskReport:
    """A task of the reprotect job."""
    begun = ago(seconds=100 - index * 10) if state not in ("Not started", "Skipped") else None
    ended = begun + timedelta(seconds=9.5) if begun and state != "In progress" else None
    made = TaskReport(index=index, name=TASKS[index], state=state, started_at=begun, ended_at=ended)
    return replace(made, **changes)


RUNNING_JOB = JobReport(
    id=JOB,
    kind="Reprotect",
    item=item().id,
    item_name="shop",
    state="In progress",
    attempt=2,
    created_at=ago(seconds=101),
    started_at=ago(seconds=100),
    notes=("estimated 2 min in all (1 min 28 s to 2 min 32 s)",),
    cancellable=True,
    safety="can be cancelled: the item is committed as before",
    tasks=(
        task(0, "Succeeded"),
        task(1, "Skipped", waits_for="the failover was committed before: a person does that"),
        *(task(index, "Succeeded") for index in range(2, 7)),
        task(
            7,
            "In progress",
            progress=Progress(done=620 * MiB, total=GiB, rate=61 * MiB),
            waits_for="e1 in east does not answer",
        ),
        *(task(index, "Not started") for index in range(8, len(TASKS))),
    ),
)
FAILED_JOB = replace(
    RUNNING_JOB,
    state="Failed",
    ended_at=ago(seconds=1),
    error=PROBLEM,
    attempt=1,
    notes=(),
    cancellable=False,
    safety=f"begin it again: homeport jobs restart {JOB[:8]}",
    tasks=(
        *RUNNING_JOB.tasks[:7],
        task(7, "Failed", error=PROBLEM, waits_for=""),
        *RUNNING_JOB.tasks[8:],
    ),
)
DONE_JOB = replace(
    RUNNING_JOB,
    id="0" * 32,
    kind="Planned failover",
    state="Succeeded",
    attempt=1,
    ended_at=ago(seconds=40),
    tasks=(),
)
JOBS = (RUNNING_JOB, replace(FAILED_JOB, id="a" * 32, item_name="ledger-db"), DONE_JOB)

PLAN = ResyncPlan(
    common=Position(3, 17),
    disks=(
        DiskPlan(
            disk=DiskName("shop-vda"),
            way=Way.EXACT,
            reason="both sides hold point 3-17; what differs is known from change maps",
            reads=412 * MiB,
            sends=412 * MiB,
        ),
        DiskPlan(
            disk=DiskName("shop-vdb"),
            way=Way.NOTHING,
            reason="both sides hold point 3-17 and nothing was written since",
            reads=0,
            sends=0,
        ),
    ),
)
OURS = estimate(PLAN, Rates(read=500e6, digest=800e6, link=100e6))
ASR = asr_estimate(checksum=timedelta(minutes=72), changed_gb=45, disk_mb_per_s=60)
REVIEW = Review(
    item="shop",
    direction="west -> east",
    way=PLAN.way,
    reason=PLAN.reason,
    reads=PLAN.reads,
    sends=PLAN.sends,
    rows=(
        Row(setting="direction", value="west -> east"),
        Row(
            setting="resource group",
            value="prod",
            fixed="The original machine shop is reprotected to, and stays where it is.",
        ),
        Row(setting="virtual network", value="lan -> lan, dmz -> not attached"),
        Row(setting="replica managed disks", value="disks"),
        Row(setting="cache store", value="file:///srv/cache-west", new=True),
        Row(setting="availability set", value="web-asr", new=True),
        Row(setting="capacity reservation", value="none"),
    ),
    disks=(
        DiskReview(
            disk="shop-vda",
            way=Way.EXACT,
            reason=PLAN.disks[0].reason,
            reads=412 * MiB,
            sends=412 * MiB,
            actions=(
                "set aside: 12 MiB of unsent writes as shop-vda-unsent-*",
                "renamed: shop-vda becomes shop-vda-ASRReplica; no byte of it is copied",
                "kept: its content stays as it is until the first new point is listed",
            ),
        ),
        DiskReview(
            disk="shop-vdb",
            way=Way.NOTHING,
            reason=PLAN.disks[1].reason,
            reads=0,
            sends=0,
            actions=("renamed: shop-vdb becomes shop-vdb-ASRReplica; no byte of it is copied",),
        ),
    ),
    machine=("switched off: shop", "kept and locked until failback: shop"),
    plan=PLAN,
    ours=OURS,
    asr=ASR,
    notes=(
        "After it, test a failover at the primary before failing back: none has succeeded yet.",
        "ASR's checksum term is this item's own enable job.",
    ),
)
REFUSED_REVIEW = replace(
    REVIEW,
    problems=(
        {
            "code": "NotCommitted",
            "message": "The item is in state 'Failover, commit pending'; reprotect is not possible "
            "now.",
            "cause": "The failover has not been committed, and committing ends undo: a person does "
            "that.",
            "remedy": "Commit the failover first (homeport commit), then reprotect.",
            "kind": "refused",
        },
        {
            "code": "PoolTooSmall",
            "message": "Pool disks on east has 10 MiB free; up to 412 MiB would be written.",
            "cause": "The resync and the writes set aside need room beside the old disks.",
            "remedy": "Free some space or extend the pool.",
            "kind": "refused",
        },
    ),
)
SILENT_REVIEW = replace(
    REVIEW,
    rows=(),
    disks=(),
    machine=(),
    problems=(
        {
            "code": "SiteUnreachable",
            "message": "The agent on e1 in east does not answer.",
            "cause": "The host is off, cut off, or its agent does not run.",
            "remedy": "Bring e1 back (homeport site show east), then ask again.",
            "kind": "refused",
        },
    ),
)
RESYNCS = tuple(
    ResyncRecord(
        direction="west -> east",
        way=way,
        planned=412 * MiB,
        moved=moved,
        estimated=9.0,
        low=7.0,
        high=11.0,
        actual=actual,
        ended_at=ago(days=days),
    )
    for way, moved, actual, days in (("exact", 390 * MiB, 8.4, 40), ("full", None, 300.0, 3))
)
ESTIMATE = EstimateReport(
    way="exact",
    reason=PLAN.reason,
    reads=PLAN.reads,
    sends=PLAN.sends,
    ours=OURS,
    asr=ASR,
    basis="what both sides hold now; measured of this item: link rate, churn; not measured yet, "
    "assumed: digest rate; ASR's checksum term is this item's own enable job",
    resyncs=RESYNCS,
)

INVENTORY = HostInventory(
    memory=64 * GiB,
    memory_free=21 * GiB,
    cpus=16,
    kvm=False,
    hypervisor="QEMU 7.2.22, libvirt 9.0.0",
    pools=(Pool(name="disks", path="/p", capacity=2048 * GiB, available=310 * GiB, writable=True),),
    networks=(Network(name="lan", active=True), Network(name="dmz", active=False)),
    machines=(
        MachineFacts(
            name="shop", uuid="u", state=PowerState.RUNNING, memory=GiB, vcpus=1, autostart=False
        ),
    ),
)
GROUP = ResourceReport(
    site="east",
    kind="resource-group",
    name="prod",
    members=("mail", "shop"),
    lock="read-only",
    lock_name="audit",
)
SET = ResourceReport(
    site="east",
    kind="availability-set",
    name="web",
    members=("mail", "shop"),
    stand=("mail on e2", "shop on e1"),
)
RESERVATION = ResourceReport(
    site="east",
    kind="capacity-reservation",
    name="gold",
    members=("shop",),
    holds=(
        HoldReport(host="e1", memory=8 * GiB, vcpus=4, memory_left=4 * GiB, vcpus_left=2),
        HoldReport(host="e2", memory=2 * GiB, vcpus=1, memory_left=2 * GiB, vcpus_left=1),
    ),
)
SITE = SiteReport(
    name="east",
    cache=CacheReport(name="east", url="s3://homeport-east/cache", options=("access_key_id",)),
    hosts=(
        HostReport(
            name="e1",
            alive=True,
            last_seen=ago(seconds=2),
            agent_version="0.1.0",
            inventory=INVENTORY,
        ),
        HostReport(name="e2", alive=False, last_seen=ago(hours=5)),
    ),
    network_mappings=(
        MappingReport(source_site="east", network="lan", target_site="west", to="lan-west"),
    ),
    resource_groups=(GROUP,),
    availability_sets=(SET,),
    capacity_reservations=(RESERVATION,),
    storage_accounts=(
        StorageAccountReport(
            name="disks",
            host="e1",
            path="/p",
            capacity=2048 * GiB,
            available=310 * GiB,
            writable=False,
        ),
    ),
    networks=("dmz", "lan"),
)
BARE_SITE = SiteReport(name="north")
DEFINITION = MachineDefinition(
    name="shop",
    uuid="24f91d71-8296-49a4-bd7e-a41a0ddb7d3a",
    memory=4 * GiB,
    vcpus=2,
    firmware=Firmware.UEFI,
    disks=(
        DiskDefinition(
            name=DiskName("shop-vda"),
            target="vda",
            format=DiskFormat.RAW,
            size=40 * GiB,
            suffix=".raw",
            pool="disks",
        ),
        DiskDefinition(
            name=DiskName("shop-vdb"),
            target="vdb",
            format=DiskFormat.QCOW2,
            size=200 * GiB,
            suffix=".qcow2",
        ),
    ),
    nics=(
        NicDefinition(mac="52:54:00:11:22:33", network="lan"),
        NicDefinition(mac="52:54:00:11:22:44", network=None, model="e1000e"),
    ),
    domain_xml="<domain/>",
)
VMS = (
    VmReport(
        site="east",
        host="e1",
        name="shop",
        state=PowerState.RUNNING,
        memory=4 * GiB,
        vcpus=2,
        disks=("shop-vda", "shop-vdb"),
        item="shop",
        definition=DEFINITION,
    ),
    VmReport(
        site="west",
        host="w1",
        name="scratch",
        state=PowerState.OFF,
        memory=512 * MiB,
        vcpus=1,
        disks=("scratch",),
    ),
)
POLICIES = (
    ReplicationPolicy(name="default"),
    ReplicationPolicy(
        name="gold",
        rpo_target=timedelta(seconds=30),
        interval=timedelta(seconds=10),
        app_consistent_interval=timedelta(hours=1),
        retention=timedelta(days=3),
        commit_timer=CommitTimer.COMMIT,
        commit_after=timedelta(hours=4),
    ),
)
LEDGER = (
    LedgerLine(
        item="shop",
        site="west",
        host="w1",
        kind="file",
        name=f"{FOLDER}/shop-vda",
        reason="replica of shop-vda",
        made_at=ago(days=3),
    ),
    LedgerLine(
        item="shop",
        site="east",
        host="e1",
        kind="note",
        name="shop",
        reason="protected",
        made_at=ago(days=3),
        gone_at=ago(hours=1),
    ),
    LedgerLine(
        item="old",
        site="east",
        host="e2",
        kind="file",
        name="/p/homeport/old.0123",
        reason="replica",
        made_at=ago(days=9),
        pending_removal=True,
    ),
)
LAB = LabReport(
    name="lab",
    folder=Path("/var/lib/homeport/lab/lab"),
    network=IPv4Network("169.254.213.0/24"),
    gateway=IPv4Address("169.254.213.1"),
    bridge="hpbr0a1b2c",
    hosts=(
        LabHost(
            name="east",
            running=True,
            cut=True,
            address=IPv4Address("169.254.213.10"),
            uri="qemu+unix:///system?socket=/var/lib/homeport/lab/lab/east/libvirt-sock",
            services={"libvirtd": 7, "agent": 8},
        ),
        LabHost(
            name="west",
            running=False,
            cut=False,
            address=IPv4Address("169.254.213.11"),
            uri="qemu+unix:///system?socket=/var/lib/homeport/lab/lab/west/libvirt-sock",
        ),
    ),
)
FOUND = FoundItem(
    folder=FOLDER,
    name="shop",
    item=item().id,
    problem="the ledger is missing: manifests and the layers' own headers are used",
    points=tuple(
        FoundPoint(
            position=point.position,
            taken_at=point.taken_at,
            consistency=point.consistency,
            label=point.label,
            machine=DEFINITION,
            manifest=None,
            disks=(
                FoundDisk(
                    disk=DEFINITION.disks[0],
                    files=(FOLDER / "shop-vda" / f"{point.position.key}.qcow2", FOLDER / "base"),
                    positions=(point.position, None),
                ),
            ),
        )
        for point in reversed(POINTS)
    ),
)
VERDICTS = {
    point.position: Verdict(
        problems=(f"disk shop-vda: {FOLDER}/shop-vda/{point.position.key}.qcow2 is missing",)
        if point.latest
        else (),
        notes=("shop-vdb-ASRReplica.qcow2 is a copy: its bytes cannot be proved",),
        proved=0 if point.latest else 5,
        files=6,
    )
    for point in POINTS
}
