"""Kinds of operations to their handlers, and how one is carried out from order to report."""

from __future__ import annotations

from collections.abc import Mapping

from homeport.agent.operations import (
    failing_over,
    machines,
    protecting,
    releasing,
    reprotecting,
    telling,
    testing,
    unsent,
)
from homeport.agent.operations.order import Bench, Handler
from homeport.errors import RefusedError, describe
from homeport.model.codec import from_plain, to_plain
from homeport.model.messages import OperationOrder, OperationReport, OperationState
from homeport.model.operations import OPERATIONS

HANDLERS: Mapping[str, Handler] = {
    "check-source": protecting.check_source,
    "prepare-target": protecting.prepare_target,
    "arm": protecting.arm,
    "final-capture": failing_over.final_capture,
    "fence": failing_over.fence,
    "unfence": failing_over.unfence,
    "land-all": failing_over.land_what_is_there,
    "promote": failing_over.promote,
    "demote": failing_over.demote,
    "accept": failing_over.accept,
    "facts": telling.facts,
    "prepare-replica": reprotecting.prepare_replica,
    "reverse": reprotecting.reverse,
    "test-boot": testing.test_boot,
    "test-cleanup": testing.test_cleanup,
    "release": releasing.release,
    "create-machine": machines.create_machine,
    "start-machine": machines.start_machine,
    "stop-machine": machines.stop_machine,
    "delete-machine": machines.delete_machine,
    "show-machine": machines.show_machine,
    "unsent-files": unsent.unsent_files,
    "export-unsent": unsent.export_unsent,
    "discard-unsent": unsent.discard_unsent,
}


class UnknownOperationError(RefusedError):
    """An operation of a kind this version does not know."""

    code = "UnknownOperation"

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"This agent does not know the operation {kind!r}.",
            cause="The server is newer than the agent.",
            remedy="Upgrade the agent on this host; replication goes on meanwhile.",
        )
        self.kind = kind


def _handler(kind: str) -> Handler:
    if kind not in HANDLERS:
        raise UnknownOperationError(kind)
    return HANDLERS[kind]


def carry_out(bench: Bench, order: OperationOrder) -> OperationReport:
    """Do what is ordered; whatever happens, the answer is a report."""
    try:
        handler = _handler(order.kind)
        taken, given = OPERATIONS[order.kind]
        result = handler(bench, from_plain(taken, order.args))
    except Exception as error:  # noqa: BLE001 - an operation's failure is the server's to see
        return OperationReport(id=order.id, state=OperationState.FAILED, error=describe(error))
    return OperationReport(id=order.id, state=OperationState.DONE, result=to_plain(given, result))
