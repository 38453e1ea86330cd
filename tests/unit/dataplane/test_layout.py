from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.dataplane.layout import (
    DamagedObjectError,
    ForeignObjectError,
    RepeatedPositionError,
    position_of,
    sealed,
    unsealed,
)
from homeport.dataplane.objects import check_key
from homeport.errors import HomeportError, IntegrityError
from homeport.model.ids import check_name
from homeport.model.position import Position
from tests.unit.dataplane.points import at, flipped, items_of, stored

NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_+-]{0,20}[A-Za-z0-9_+-])?", fullmatch=True)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (lambda items: items.manifest_key(at(7)), "points/000001-0000000007/manifest"),
        (lambda items: items.delta_key(at(7), "root"), "points/000001-0000000007/root.delta"),
        (lambda items: items.seed_key(at(0), "root", 12), "seeds/000001-0000000000/root/000012"),
        (lambda items: items.landed_key(at(7, 2)), "landed/000002-0000000007"),
        (lambda items: items.wanted_key(at(7)), "wanted/000001-0000000007"),
        (
            lambda items: items.digest_key(at(7), "root", "held"),
            "digests/000001-0000000007/root/held",
        ),
    ],
    ids=["manifest", "delta", "seed part", "landed", "wanted", "digests"],
)
def test_keys_lie_where_the_format_says(key: object, expected: str) -> None:
    items = items_of("vm-1", vault="east")
    assert items.prefix == "v1/east/vm-1/"
    assert key(items) == expected  # type: ignore[operator]


@given(NAMES, NAMES, NAMES)
def test_every_allowed_name_makes_a_key_that_every_store_holds(
    vault: str, item: str, disk: str
) -> None:
    check_name("disk", disk)
    items = items_of(item, vault=vault)
    check_key(items.prefix + items.delta_key(at(1), disk))
    check_key(items.prefix + items.seed_key(at(1), disk, 10**7))


def test_a_plus_in_a_name_is_written_as_no_name_can_be() -> None:
    items = items_of("a+b", vault="v+")
    assert items.prefix == "v1/v=/a=b/"
    assert items.delta_key(at(1), "disk+1").endswith("/disk=1.delta")


@given(st.lists(NAMES, min_size=2, max_size=2, unique=True))
def test_two_disks_never_share_a_key(names: list[str]) -> None:
    items = items_of()
    assert items.delta_key(at(1), names[0]) != items.delta_key(at(1), names[1])


def test_two_items_see_only_their_own_objects() -> None:
    first = items_of("a")
    second = items_of("a-b", store=first.store)
    first.put("points/x/manifest", b"1")
    second.put("points/y/manifest", b"2")
    assert list(first.list_keys()) == ["points/x/manifest"]
    assert list(second.list_keys("points/")) == ["points/y/manifest"]
    assert not first.exists("points/y/manifest")


def test_the_same_put_twice_is_put_once_and_other_content_is_refused() -> None:
    items = items_of()
    items.put_once("landed/x", b"one")
    items.put_once("landed/x", b"one")
    with pytest.raises(RepeatedPositionError) as caught:
        items.put_once("landed/x", b"two")
    assert caught.value.key == "landed/x"
    assert stored(items, "landed/x") == b"one"


@given(st.integers(1, 999_999), st.integers(0, 10**10 - 1))
def test_the_position_is_found_in_a_key(epoch: int, sequence: int) -> None:
    position = Position(epoch, sequence)
    assert position_of(items_of().manifest_key(position)) == position


@pytest.mark.parametrize(
    "key",
    ["points", "points/x/manifest", "points/1-7/manifest", "points/000000-0000000001/manifest"],
    ids=["no position at all", "a word", "a position in short", "epoch nought"],
)
def test_a_key_without_a_position_is_foreign(key: str) -> None:
    with pytest.raises(ForeignObjectError) as caught:
        position_of(key)
    assert caught.value.key == key


@pytest.mark.parametrize("place", [0, 0.3, 0.7, 1], ids="bit turned at {}".format)
def test_a_sealed_document_with_a_bit_turned_is_damaged(place: float) -> None:
    body = sealed(dict[str, int], {"a": 1})
    assert unsealed(dict[str, int], body, key="k") == {"a": 1}
    with pytest.raises(DamagedObjectError):
        unsealed(dict[str, int], flipped(body, place), key="k")


@pytest.mark.parametrize(
    "error",
    [
        RepeatedPositionError(key="k"),
        ForeignObjectError(key="k", found="it is of item x"),
        DamagedObjectError(key="k", found="it is missing"),
    ],
    ids=lambda error: error.code,
)
def test_every_refusal_names_the_object_and_says_what_to_do(error: HomeportError) -> None:
    assert isinstance(error, IntegrityError)
    assert "'k'" in error.message
    assert error.cause
    assert error.remedy.endswith(".")
