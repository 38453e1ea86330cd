"""
Failover at both hosts: the last capture, the fence, the boot of a point, undo and commit.

Ownership changes only by a higher epoch, which is in the ledger before anything is started or
stopped for it; an order of an older epoch is refused.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from homeport.agent.aside import set_aside, unsent_bytes, unsent_reports
from homeport.agent.bases import name_bases
from homeport.agent.booting import (
    NoSuchPointError,
    await_guest,
    lay_overlays,
    manifest_of,
    place,
    start,
)
from homeport.agent.committing import finish_commit
from homeport.agent.confirming import confirm, revoke
from homeport.agent.definitions import KEPT_FILE, define_again, keep_definition
from homeport.agent.held import HeldItem
from homeport.agent.immutable import keep, lift
from homeport.agent.machine import (
    check_lock,
    check_name_free,
    delete_own,
    forbid,
    running_note,
    variables_path,
)
from homeport.agent.operations.order import Bench
from homeport.agent.rotation import correct_definition, recover_rotation, rotate
from homeport.agent.source import describe_here, settle, ship
from homeport.agent.target import land_all
from homeport.agent.unmanaged import drop_copy
from homeport.agent.work import Work
from homeport.errors import IntegrityError, RefusedError, TransientError
from homeport.model.item import Role
from homeport.model.ledger import DiskChain
from homeport.model.machine import PowerState
from homeport.model.messages import LedgerEntry
from homeport.model.operations import (
    Accept,
    At,
    Demote,
    Fence,
    FenceFacts,
    FinalCapture,
    LandAll,
    Nothing,
    Promote,
    PromoteFacts,
    ReplicaFacts,
    Unfence,
)


def final_capture(bench: Bench, order: FinalCapture) -> At:
    """Shut the machine down and ship a point after its last write: nothing is lost."""
    with bench.shelf.claim(order.item, bench.control) as work:
        held, means = work.held, work.means
        held.check_epoch(order.epoch)
        need_role(held, Role.SOURCE)
        recover_rotation(held, means)
        if not held.ledger.ended:
            means.compute.stop(held.ledger.machine, timeout=order.timeout)
            correct_definition(held, means)
            held.save(definition=describe_here(held, means)[0])
            rotate(held, means, final=True)
        for captured in held.ledger.captured:
            if not captured.shipped:
                ship(work, captured)
        return At(position=held.ledger.newest_captured)


def fence(bench: Bench, order: Fence) -> FenceFacts:
    """Power the machine off and forbid its start; what it holds stays untouched."""
    with bench.shelf.claim(order.item, bench.control) as work:
        work.held.check_epoch(order.epoch)
        check_lock(work.held, work.means, work.held.ledger.machine, lock=order.lock)
        return fence_item(work, order.epoch, lock=order.lock)


def fence_item(work: Work, epoch: int, *, lock: str) -> FenceFacts:
    """
    The fence itself; also done when an assignment says that this side lost ownership.

    A lock that the ledger has is not taken away. Raises ForeignLockError, when the ledger says
    already that this side owns nothing, if the machine carries a lock that is not ours.
    """
    held, means = work.held, work.means
    held.check_epoch(epoch)
    machine, lock = held.ledger.machine, lock or held.ledger.lock
    was = means.compute.state(machine)
    held.save(role=Role.FENCED, epoch=epoch, fencing=True)
    revoke(means, held.item)
    check_lock(held, means, machine, lock=lock)
    if was is not PowerState.ABSENT:
        forbid(held, means, machine, lock=lock)
        keep_definition(held, means)
        held.save(guarded=True)
    held.save(lock=lock, fencing=False)
    keep(held, means)
    return FenceFacts(
        was=was,
        captured=held.ledger.newest_captured,
        unsent=sum(
            unsent_bytes(held, chain, held.ledger.acknowledged) for chain in held.ledger.disks
        ),
    )


def unfence(bench: Bench, order: Unfence) -> Nothing:
    """Be the source again, as an undone failover has it, and start the machine."""
    with bench.shelf.claim(order.item, bench.control) as work:
        held, means = work.held, work.means
        held.check_epoch(order.epoch)
        need_role(held, Role.SOURCE, Role.FENCED)
        check_lock(held, means, held.ledger.machine)
        lift(held)
        if held.ledger.guarded and means.compute.state(held.ledger.machine) is PowerState.ABSENT:
            define_again(held, means)  # undefined from outside since the guard last looked
        settle(held, means)
        held.save(role=Role.SOURCE, epoch=order.epoch, ended=False, fencing=False)
        confirm(means, order.item)
        means.compute.set_note(held.ledger.machine, running_note(held, "source"))
        held.save(lock="")
        if order.start:
            means.compute.start(held.ledger.machine)
        return Nothing()


def land_what_is_there(bench: Bench, order: LandAll) -> At:
    """
    Land everything the cache store holds; the newest point listed.

    When the store does not answer, or what it holds cannot be used, what has landed is all: the
    points there are stay usable, and the answer says why there are no more.
    """
    with bench.shelf.claim(order.item, bench.control) as work:
        work.held.check_epoch(order.epoch)
        if work.held.ledger.role is not Role.TARGET:
            return At(position=work.held.ledger.booted)
        finish_commit(work.held, work.means)
        try:
            return At(position=land_all(work, until=order.until))
        except (TransientError, IntegrityError) as error:
            return At(position=work.held.ledger.stands_at, note=error.message)


def promote(bench: Bench, order: Promote) -> PromoteFacts:
    """Boot a point as the machine; with another point than before, change it."""
    with bench.shelf.claim(order.item, bench.control) as work:
        held, means = work.held, work.means
        held.check_epoch(order.epoch)
        need_role(held, Role.TARGET, Role.RUNNING)
        if held.ledger.committed:
            raise AlreadyCommittedError(held.ledger.name)
        manifest = manifest_of(held, order.position)
        check_lock(held, means, order.machine)
        check_name_free(held, means, order.machine)
        finish_commit(held, means)
        if held.ledger.epoch < order.epoch or held.ledger.booted != order.position:
            _leave_boot(work)
            _take_over(held, order)
        name_bases(held, replica=False)
        lay_overlays(held, _tops(held), order.position)
        held.save(
            machine=order.machine,
            networks=order.networks,
            made=_with_machine(held, order, means.clock.now()),
        )
        placement = place(
            held,
            manifest.machine,
            _tops(held),
            name=order.machine,
            networks=order.networks,
            note=running_note(held, "running"),
            variables=variables_path(held, means, manifest.machine, order.machine),
        )
        means.compute.create(manifest.machine, placement)
        drop_copy(held, means)
        held.save(lock="", guarded=True, confirmed=True)
        confirm(means, order.item)
        started = start(held, means, order.machine, depth_at=order.position)
    return await_guest(bench.means, order.machine, started, wait=order.guest_timeout)


def demote(bench: Bench, order: Demote) -> ReplicaFacts:
    """
    Undo a promote: the new machine goes, what it wrote is set aside, landing goes on.

    The user's own machine, which a failback had booted, is off and kept here as it was before.
    """
    with bench.shelf.claim(order.item, bench.control) as work:
        held = work.held
        held.check_epoch(order.epoch)
        need_role(held, Role.TARGET, Role.RUNNING)
        if held.ledger.committed:
            raise AlreadyCommittedError(held.ledger.name)
        actions: tuple[str, ...] = ()
        if held.ledger.role is Role.RUNNING:
            stays = held.ledger.original and (held.folder / KEPT_FILE).exists()
            told = f"machine {held.ledger.machine} {'switched off' if stays else 'deleted'}"
            actions = (told, *_leave_boot(work, stays=stays))
        held.save(role=Role.TARGET, epoch=order.epoch)
        renamed = name_bases(held, replica=True)
        return ReplicaFacts(unsent=unsent_reports(held), actions=(*actions, *renamed))


def accept(bench: Bench, order: Accept) -> Nothing:
    """Commit: no other point and no undo after this; the points stay until reprotect's first."""
    with bench.shelf.claim(order.item, bench.control) as work:
        work.held.check_epoch(order.epoch)
        need_role(work.held, Role.RUNNING)
        points = tuple(replace(point, label="before failover") for point in work.held.ledger.points)
        work.held.save(committed=True, points=points)
        return Nothing()


class AlreadyCommittedError(RefusedError):
    """A failover that was committed cannot be changed or undone."""

    code = "AlreadyCommitted"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The failover of {name} is committed.",
            cause="Committing ended change of point and undo.",
            remedy="To go back, reprotect and fail over in the other direction.",
        )


class WrongRoleError(RefusedError):
    """An operation that this side's role does not allow."""

    code = "WrongRole"

    def __init__(self, name: str, role: Role, wanted: tuple[Role, ...]) -> None:
        super().__init__(
            f"This host's copy of {name} is {role.value}, not {' or '.join(wanted)}.",
            cause="Another operation changed it, or the server's view is old.",
            remedy="Look at the item's state, then repeat what you meant to do.",
        )
        self.role = role


def need_role(held: HeldItem, *roles: Role) -> None:
    """Raise WrongRoleError unless the item has one of these roles here."""
    if held.ledger.role not in roles:
        raise WrongRoleError(held.ledger.name, held.ledger.role, roles)


def _with_machine(held: HeldItem, order: Promote, now: datetime) -> tuple[LedgerEntry, ...]:
    """What was made, with the machine; the user's own was there before."""
    if held.ledger.original:
        return held.ledger.made
    return held.made("machine", order.machine, f"booted from point {order.position}", now)


def _take_over(held: HeldItem, order: Promote) -> None:
    """Own the machine from here on: recorded before anything is started."""
    chains = []
    for chain in held.ledger.disks:
        layers = tuple(layer for layer in chain.layers if layer.position <= order.position)
        beyond = tuple(layer for layer in chain.layers if layer.position > order.position)
        chains.append(
            replace(
                chain,
                layers=layers,
                beyond=beyond,
                proven=True,
                active=f"{chain.name}/since-{order.position.key}-e{order.epoch:06d}.qcow2",
            )
        )
        if order.position not in (chain.base_at, *(layer.position for layer in chain.layers)):
            raise NoSuchPointError(order.position, held.ledger.name)
    held.save_chains(
        chains,
        role=Role.RUNNING,
        epoch=order.epoch,
        booted=order.position,
        resyncing=False,
        fencing=False,
    )


def _leave_boot(work: Work, *, stays: bool = False) -> tuple[str, ...]:
    """
    Take the machine booted here away, its writes set aside, all points in one line again.

    One that `stays` is switched off and denied its start.
    """
    held, means = work.held, work.means
    if held.ledger.role is not Role.RUNNING:
        return ()
    if stays:
        held.save(fencing=True)
        revoke(means, held.item)
        forbid(held, means, held.ledger.machine, lock=held.ledger.lock)
        held.save(fencing=False)
    else:
        delete_own(held, means, held.ledger.machine)
    before = len(unsent_reports(held))
    set_aside(held, means, held.ledger.booted)
    held.save_chains([_in_line(chain) for chain in held.ledger.disks], booted=None)
    return tuple(f"set aside: {report.path}" for report in unsent_reports(held)[before:])


def _in_line(chain: DiskChain) -> DiskChain:
    return replace(chain, layers=(*chain.layers, *chain.beyond), beyond=())


def _tops(held: HeldItem) -> dict[str, str]:
    return {chain.name: chain.active or chain.top for chain in held.ledger.disks}
