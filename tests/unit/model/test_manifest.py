"""Manifests: what may follow what, and what a changed byte does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.errors import IntegrityError
from homeport.model.ids import Digest, ItemId, VaultId
from homeport.model.manifest import (
    MANIFEST_FORMAT,
    Consistency,
    DiskImage,
    HistoryMismatchError,
    ImageKind,
    Manifest,
    StoredObject,
    UnknownFormatError,
    decode_manifest,
    encode_manifest,
    joint_digest,
    next_state,
)
from homeport.model.position import Position, PositionMismatchError
from tests.unit.model.builders import DISK, NOW, at, machine

FIRST, SECOND = at(1), at(2)
ONE, TWO = Digest("11" * 32), Digest("22" * 32)


def image(kind: ImageKind, before: Digest | None, digest: Digest = ONE) -> DiskImage:
    stored = StoredObject(key="k", size=9, digest=digest)
    joint = joint_digest((digest,))
    return DiskImage(
        disk=DISK,
        kind=kind,
        size=64,
        changed=4,
        objects=(stored,),
        digest=joint,
        state=next_state(before, joint),
    )


def manifest(
    position: Position = SECOND, previous: Position | None = FIRST, *images: DiskImage
) -> Manifest:
    return Manifest(
        vault=VaultId("v"),
        item=ItemId("i"),
        position=position,
        previous=previous,
        taken_at=NOW,
        consistency=Consistency.CRASH,
        machine=machine(),
        disks=images or (image(ImageKind.DELTA, TWO),),
    )


SEED = manifest(at(0), None, image(ImageKind.SEED, None))
REPAIR = manifest(at(2), at(1), image(ImageKind.REPAIR, None))
FIRST_OF_AN_OWNER = manifest(at(1, epoch=2), at(1), image(ImageKind.DELTA, TWO))


@pytest.mark.parametrize(
    ("offered", "stands_at", "states"),
    [
        pytest.param(manifest(), at(1), {DISK: TWO}, id="a delta on what it was made from"),
        pytest.param(FIRST_OF_AN_OWNER, at(1), {DISK: TWO}, id="the first of a new owner"),
        pytest.param(SEED, None, {}, id="a seed on nothing"),
        pytest.param(REPAIR, at(1), {}, id="a repair of what proves nothing"),
        pytest.param(REPAIR, at(1), {DISK: TWO}, id="a repair starts a history of its own"),
    ],
)
def test_what_may_follow(
    offered: Manifest, stands_at: Position | None, states: dict[str, Digest]
) -> None:
    offered.check_follows(stands_at, states)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("offered", "stands_at"),
    [
        pytest.param(manifest(), at(0), id="a gap"),
        pytest.param(manifest(), at(2), id="a repeat"),
        pytest.param(manifest(), None, id="a delta on nothing"),
        pytest.param(SEED, at(1), id="a seed on something"),
        pytest.param(manifest(at(1), at(1)), at(1), id="it does not rise"),
        pytest.param(manifest(at(0), at(1)), at(1), id="it falls"),
        pytest.param(manifest(previous=at(1, epoch=2)), at(1), id="another owner's"),
    ],
)
def test_positions_never_jump(offered: Manifest, stands_at: Position | None) -> None:
    with pytest.raises(PositionMismatchError):
        offered.check_follows(stands_at, {DISK: TWO})


@pytest.mark.parametrize(
    ("offered", "states"),
    [
        pytest.param(manifest(), {DISK: ONE}, id="made from other content"),
        pytest.param(manifest(), {}, id="the replica proves nothing"),
        pytest.param(
            replace(SEED, position=at(2), previous=at(1), disks=(image(ImageKind.SEED, TWO),)),
            {DISK: TWO},
            id="a seed that claims a history",
        ),
        pytest.param(
            manifest(at(2), at(1), replace(image(ImageKind.DELTA, TWO), digest=TWO)),
            {DISK: TWO},
            id="its state is not of its digest",
        ),
    ],
)
def test_another_history_is_refused(offered: Manifest, states: dict[str, Digest]) -> None:
    with pytest.raises(HistoryMismatchError) as refused:
        offered.check_follows(at(1), states)  # type: ignore[arg-type]
    assert refused.value.disk == DISK


@pytest.mark.parametrize("one", [manifest(), SEED, REPAIR, replace(manifest(), final=True)])
def test_what_was_written_is_read(one: Manifest) -> None:
    assert decode_manifest(encode_manifest(one)) == one


@given(st.data())
def test_every_bit_counts(data: st.DataObject) -> None:
    body = bytearray(encode_manifest(manifest()))
    at_byte = data.draw(st.integers(0, len(body) - 1))
    body[at_byte] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(IntegrityError):
        decode_manifest(bytes(body))


@given(st.data())
def test_a_cut_one_is_none(data: st.DataObject) -> None:
    body = encode_manifest(manifest())
    with pytest.raises(IntegrityError):
        decode_manifest(body[: data.draw(st.integers(0, len(body) - 1))])


def test_a_newer_format_is_not_guessed_at() -> None:
    newer = encode_manifest(replace(manifest(), format=MANIFEST_FORMAT + 1))
    with pytest.raises(UnknownFormatError) as refused:
        decode_manifest(newer)
    assert refused.value.found == MANIFEST_FORMAT + 1


def test_the_state_proves_all_that_came_before() -> None:
    assert next_state(None, ONE) != next_state(TWO, ONE) != next_state(TWO, TWO)
    assert joint_digest((ONE, TWO)) != joint_digest((TWO, ONE))


def test_a_disk_is_found_by_name() -> None:
    assert manifest().image(DISK).disk == DISK
    assert manifest().states == {DISK: manifest().disks[0].state}
    with pytest.raises(KeyError):
        manifest().image("none")
