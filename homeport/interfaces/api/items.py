"""Replicated items: protect, fail over, and home again. Each change answers with its job."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, status

from homeport.errors import NotFoundError
from homeport.interfaces.api.office import AnOffice
from homeport.interfaces.job_reports import job_report
from homeport.interfaces.reports import (
    failover_notes,
    item_view,
    item_views,
    ledger_lines,
    points_of,
    receipt_of,
)
from homeport.interfaces.reviews import review_of, sides_of
from homeport.model.ids import ItemId
from homeport.model.reports import (
    EstimateReport,
    ItemView,
    JobReport,
    LedgerLine,
    LossReceipt,
    PointView,
)
from homeport.model.requests import (
    DisableRequest,
    FailoverRequest,
    NoOptions,
    ProtectRequest,
    ReprotectRequest,
    TestFailoverRequest,
)
from homeport.model.review import Review
from homeport.orchestration import accept
from homeport.orchestration.books import Books
from homeport.orchestration.rates import as_sides_digest, basis_of, resyncs_of
from homeport.orchestration.reversal import make_review

router = APIRouter(prefix="/v1", tags=["items"])
ACCEPTED = status.HTTP_202_ACCEPTED


@router.get("/items")
def list_items(office: AnOffice) -> tuple[ItemView, ...]:
    """All items."""
    with office.look() as books:
        shown, ended = item_views(books), accept.swept(books)
    if not ended:
        return shown
    with office.books() as books:
        accept.sweep(books)
        return item_views(books)


@router.post("/items", status_code=ACCEPTED)
def protect(asked: ProtectRequest, office: AnOffice) -> JobReport:
    """Protect a machine."""
    with office.books() as books:
        return job_report(accept.protect(books, asked))


@router.get("/items/{item}")
def show_item(item: str, office: AnOffice) -> ItemView:
    """One item, by name or id."""
    with office.look() as books:
        return item_view(books, accept.find(books, item))


@router.get("/items/{item}/points")
def list_points(item: str, office: AnOffice) -> tuple[PointView, ...]:
    """The points a failover can choose from, oldest first."""
    with office.look() as books:
        return points_of(books, accept.find(books, item))


@router.post("/items/{item}/failover", status_code=ACCEPTED)
def failover(item: str, office: AnOffice, asked: FailoverRequest | None = None) -> JobReport:
    """Fail over; between failover and commit: change the recovery point."""
    with office.books() as books:
        notes = failover_notes(accept.find(books, item))
        job = accept.failover(books, item, asked or FailoverRequest())
        return replace(job_report(job), notes=notes)


@router.post("/items/{item}/undo", status_code=ACCEPTED)
def undo(item: str, office: AnOffice, _asked: NoOptions | None = None) -> JobReport:
    """Go back to the machine that ran before the failover."""
    with office.books() as books:
        return job_report(accept.undo(books, item))


@router.post("/items/{item}/commit", status_code=ACCEPTED)
def commit(item: str, office: AnOffice, _asked: NoOptions | None = None) -> JobReport:
    """Accept the failover; this ends undo and the change of point."""
    with office.books() as books:
        return job_report(accept.commit(books, item))


@router.get("/items/{item}/review")
def show_review(
    item: str,
    office: AnOffice,
    keep_machine: bool | None = None,  # noqa: FBT001 - a query's parameter
    way: str | None = None,
    pool: str | None = None,
) -> Review:
    """What a reprotect would do; nothing is changed."""
    asked = ReprotectRequest(keep_machine=keep_machine, way=way, pool=pool)
    return review_of(office, item, asked)


@router.post("/items/{item}/review")
def review_request(item: str, office: AnOffice, asked: ReprotectRequest) -> Review:
    """What this reprotect would do; nothing is changed."""
    return review_of(office, item, asked)


@router.post("/items/{item}/reprotect", status_code=ACCEPTED)
def reprotect(item: str, office: AnOffice, asked: ReprotectRequest | None = None) -> JobReport:
    """Reverse the direction; an empty request reverses everything."""
    with office.books() as books:
        return job_report(accept.reprotect(books, item, asked or ReprotectRequest()))


@router.post("/items/{item}/test-failover", status_code=ACCEPTED)
def drill(item: str, office: AnOffice, asked: TestFailoverRequest | None = None) -> JobReport:
    """Boot a point beside the item; replication goes on."""
    with office.books() as books:
        return job_report(accept.test_failover(books, item, asked or TestFailoverRequest()))


@router.post("/items/{item}/test-cleanup", status_code=ACCEPTED)
def clean_up_drill(item: str, office: AnOffice, _asked: NoOptions | None = None) -> JobReport:
    """Remove everything of the test; only then it counts."""
    with office.books() as books:
        return job_report(accept.test_cleanup(books, item))


@router.post("/items/{item}/disable", status_code=ACCEPTED)
def disable(item: str, office: AnOffice, asked: DisableRequest | None = None) -> JobReport:
    """Take away everything Homeport made; the active machine stays."""
    with office.books() as books:
        return job_report(accept.disable(books, item, asked or DisableRequest()))


@router.get("/items/{item}/ledger")
def show_ledger(item: str, office: AnOffice) -> tuple[LedgerLine, ...]:
    """Everything made for the item, and what of it is gone; also after it was disabled."""
    with office.look() as books:
        return ledger_lines(books, _ledger_key(books, item))


@router.get("/ledger")
def whole_ledger(office: AnOffice) -> tuple[LedgerLine, ...]:
    """Everything made for any item."""
    with office.look() as books:
        return ledger_lines(books)


@router.get("/items/{item}/receipt")
def show_receipt(item: str, office: AnOffice) -> LossReceipt:
    """What the last failover is known to have lost."""
    with office.look() as books:
        row = accept.find(books, item)
    receipt = receipt_of(row)
    if receipt is None:
        raise NotFoundError(
            f"{row.item.name} has no loss receipt.",
            cause="It has not been failed over, or the failover was undone.",
            remedy="Nothing to do.",
        )
    return receipt


@router.get("/items/{item}/estimate")
def show_estimate(item: str, office: AnOffice) -> EstimateReport:
    """How long a reprotect would take, from what both sides hold now."""
    sides = sides_of(office, item, ReprotectRequest())
    made = make_review(sides.given, sides.running, sides.old)
    rates = as_sides_digest(sides.given.rates, sides.running, sides.old)
    return EstimateReport(
        way=made.way.value,
        reason=made.reason,
        reads=made.reads,
        sends=made.sends,
        ours=made.ours,
        asr=made.asr,
        basis=f"what both sides hold now; {basis_of(rates)}; ASR's checksum term is this item's "
        "own enable job",
        resyncs=resyncs_of(sides.given.row.facts),
    )


def _ledger_key(books: Books, key: str) -> ItemId:
    try:
        return accept.find(books, key).item.id
    except NotFoundError:
        if books.ledger(ItemId(key)):
            return ItemId(key)
        raise
