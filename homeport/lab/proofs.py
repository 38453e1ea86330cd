"""
What the demo claims and how it is shown to be so: by the guest's own records, not by our word.

A proof is a claim, whether it held, and the evidence. The pure part; `journey` gathers the facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from homeport.lab.records import Acks, GuestRecords, check_records

DISKS = ("os", "data")


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """One claim and what became of it."""

    claim: str
    held: bool
    evidence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossing:
    """
    What each disk held when the guest booted on the other side, and what the old side acknowledged.

    The first number acknowledged after a boot is the one behind the last the disk held.
    """

    held: Mapping[str, int]
    acknowledged: Mapping[str, int]

    @property
    def lost(self) -> Mapping[str, int]:
        """Acknowledged records by disk that the new side's disks do not hold."""
        return {disk: max(0, self.acknowledged[disk] - self.held[disk]) for disk in DISKS}

    @property
    def lost_words(self) -> str:
        """The losses for people."""
        return ", ".join(f"{count} on {disk}" for disk, count in self.lost.items())


def crossing(old: Acks, new: Acks) -> Crossing:
    """What crossed, from the acknowledgements logged at either side."""
    held = {disk: min(new.numbers(disk), default=1) - 1 for disk in DISKS}
    return Crossing(held=held, acknowledged={disk: old.last(disk) for disk in DISKS})


def sound(records: GuestRecords, acks: Acks) -> Proof:
    """File systems are sound and records gap-free, by the guest's own account."""
    verdict = check_records(records, acks)
    findings = [f"{disk.disk}: {found}" for disk in verdict.disks for found in disk.findings]
    counts = ", ".join(f"{disk.count} on {disk.disk}" for disk in records.disks)
    return Proof(
        claim="its file systems are sound and its records gap-free",
        held=verdict.sound and len(records.disks) == len(DISKS),
        evidence="; ".join(findings) or f"records: {counts}; every sum continues the one before",
    )


def up_to_the_point(crossed: Crossing, known: Mapping[str, int]) -> Proof:
    """Everything acknowledged before the point's time is in the point."""
    missing = [disk for disk in DISKS if crossed.held[disk] < known[disk]]
    seen = ", ".join(f"{disk}: {known[disk]} then, {crossed.held[disk]} held" for disk in DISKS)
    return Proof(
        claim="every record acknowledged before the point's time is there",
        held=not missing and known["os"] > 0,
        evidence=seen,
    )


def receipt_is_true(crossed: Crossing, missing_seconds: float | None, rate: int) -> Proof:
    """What was lost beyond the point fits the seconds that the receipt names."""
    seconds = missing_seconds or 0.0
    most = round((seconds + 1) * rate) + 2
    return Proof(
        claim="the loss receipt is true: what is lost was written after the point",
        held=missing_seconds is not None and max(crossed.lost.values()) <= most,
        evidence=f"lost {crossed.lost_words}; the receipt says {seconds:.1f} s (at most {most})",
    )


def nothing_lost(crossed: Crossing) -> Proof:
    """A planned failover carries every acknowledged record over."""
    return Proof(
        claim="nothing is lost by the planned failover",
        held=not any(crossed.lost.values()),
        evidence=", ".join(
            f"{disk}: {crossed.acknowledged[disk]} acknowledged, {crossed.held[disk]} held"
            for disk in DISKS
        ),
    )


def unsent_kept(crossed: Crossing, found: Sequence[int]) -> Proof:
    """The data disk's lost records are in the image that was set aside."""
    lost = range(crossed.held["data"] + 1, crossed.acknowledged["data"] + 1)
    there = set(found)
    return Proof(
        claim="the lost records are in the unsent image of the data disk",
        held=all(number in there for number in lost),
        evidence=f"{len(lost)} lost, {sum(number in there for number in lost)} of them found in it",
    )


def only_what_differs(*, moved: int, differs: int, size: int, way: str) -> Proof:
    """The way home moved what differs, and read no disk whole."""
    return Proof(
        claim="only what differs went back",
        held=way == "exact" and moved <= differs * 1.05 + 4096,
        evidence=f"{way}: {moved} bytes sent, {differs} differ, the disks have {size}",
    )


def equal(claim: str, before: object, after: object) -> Proof:
    """Two things that must be the same."""
    same = before == after
    return Proof(
        claim=claim, held=same, evidence=str(after) if same else f"{before} became {after}"
    )


def denied(answer: str) -> Proof:
    """The machine on the side that lost it does not start, whoever asks libvirt for it."""
    return Proof(
        claim="the fenced machine does not start, not even under virsh",
        held="Homeport denies" in answer,
        evidence=answer[max(0, answer.find("Homeport denies")) :].strip()[:200] or "it started",
    )
