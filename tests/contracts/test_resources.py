"""Groups, sets and reservations of sites on both databases: made, joined, in use, and gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport.catalog.catalog import Catalog
from homeport.errors import NotFoundError
from homeport.model.host import HostInventory, MachineFacts
from homeport.model.ids import HostName, ItemId, SiteName
from homeport.model.item import Side
from homeport.model.machine import PowerState
from homeport.model.protection import State
from homeport.model.resources import (
    GroupLock,
    Hold,
    LockLevel,
    Membership,
    Resource,
    ResourceKind,
    Seated,
    SiteResources,
)
from homeport.units import GiB
from tests.servers_postgres import Postgres
from tests.vaults import EAST, HOST_E, HOST_W, ITEM, WEST, an_item, furnish, open_catalog

GROUP, SET, RESERVATION = ResourceKind
DATABASES = ["sqlite", pytest.param("postgres", marks=pytest.mark.real)]


@pytest.fixture(params=DATABASES)
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'vault.sqlite'}"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.database()
    opened = open_catalog(url)
    with opened.write() as rows:
        furnish(rows)
    yield opened
    opened.close()


def put(catalog: Catalog, *resources: Resource, site: SiteName = WEST) -> None:
    with catalog.write() as rows:
        for resource in resources:
            rows.resources.put(site, resource)


def of(catalog: Catalog, site: SiteName = WEST) -> SiteResources:
    with catalog.read() as rows:
        return rows.resources.of_site(site)


def of_kind(kind: ResourceKind, name: str = "one", made_for: ItemId | None = None) -> Resource:
    return Resource(kind=kind, name=name, made_for=made_for)


CARRIED = {
    "a bare group": of_kind(GROUP),
    "a locked group": Resource(
        kind=GROUP, name="g", lock=GroupLock(name="audit", level=LockLevel.DELETE)
    ),
    "a set made for an item": of_kind(SET, made_for=ITEM),
    "a reservation over two hosts": Resource(
        kind=RESERVATION,
        name="r",
        holds={HOST_W: Hold(memory=4 * GiB, vcpus=2), HostName("w2"): Hold(memory=0, vcpus=1)},
    ),
}


@pytest.mark.parametrize("resource", CARRIED.values(), ids=CARRIED)
def test_what_is_put_is_found_as_it_was(catalog: Catalog, resource: Resource) -> None:
    put(catalog, resource)
    assert of(catalog).resources == (resource,)
    assert of(catalog).find(resource.kind, resource.name) == resource
    assert of(catalog, EAST) == SiteResources()


def test_put_again_replaces_what_it_carries_and_keeps_its_members(catalog: Catalog) -> None:
    put(catalog, CARRIED["a locked group"])
    with catalog.write() as rows:
        rows.resources.join(WEST, "vm1", GROUP, "g")
    put(catalog, of_kind(GROUP, "g"))
    assert of(catalog).find(GROUP, "g") == of_kind(GROUP, "g")
    assert of(catalog).members(GROUP, "g") == ("vm1",)


def test_kinds_do_not_share_names(catalog: Catalog) -> None:
    put(catalog, *(of_kind(kind) for kind in ResourceKind))
    assert len(of(catalog).resources) == 3
    with catalog.write() as rows:
        rows.resources.remove(WEST, SET, "one")
    assert {resource.kind for resource in of(catalog).resources} == {GROUP, RESERVATION}


def test_a_machine_belongs_to_one_of_each_kind(catalog: Catalog) -> None:
    put(catalog, of_kind(GROUP, "a"), of_kind(GROUP, "b"), of_kind(SET, "a"))
    with catalog.write() as rows:
        for kind, name in ((GROUP, "a"), (SET, "a"), (GROUP, "b"), (GROUP, "b")):
            rows.resources.join(WEST, "vm1", kind, name)
    held = of(catalog)
    assert (held.of("vm1", GROUP), held.of("vm1", SET)) == ("b", "a")
    assert held.of("vm1", RESERVATION) is None
    with catalog.write() as rows:
        rows.resources.leave(WEST, "vm1", GROUP, RESERVATION)
    assert of(catalog).memberships == (Membership(machine="vm1", kind=SET, name="a"),)


def test_what_is_removed_takes_its_memberships_with_it(catalog: Catalog) -> None:
    put(catalog, of_kind(SET))
    with catalog.write() as rows:
        rows.resources.join(WEST, "vm1", SET, "one")
        rows.resources.remove(WEST, SET, "one")
    assert of(catalog) == SiteResources()
    with pytest.raises(NotFoundError) as missing, catalog.write() as rows:
        rows.resources.remove(WEST, SET, "one")
    assert missing.value.code == "NotFound"


def machine(name: str, state: PowerState = PowerState.RUNNING) -> MachineFacts:
    return MachineFacts(name=name, uuid=name, state=state, memory=GiB, vcpus=2, autostart=False)


def tell(catalog: Catalog, host: HostName, *machines: MachineFacts) -> None:
    inventory = HostInventory(
        memory=8 * GiB,
        memory_free=GiB,
        cpus=4,
        kvm=True,
        hypervisor="QEMU",
        machines=machines,
    )
    with catalog.write() as rows:
        rows.agent_rows.put_inventory(host, inventory)


def seated(host: HostName, name: str = "vm1", *, runs: bool, known: bool = True) -> Seated:
    size = {"memory": GiB, "vcpus": 2} if known else {"memory": 0, "vcpus": 0}
    return Seated(host=host, machine=name, runs=runs, **size)


def test_who_stands_where_is_told_by_inventories_and_items(catalog: Catalog) -> None:
    tell(catalog, HOST_E, machine("vm1"), machine("other"), machine("off", PowerState.OFF))
    with catalog.read() as rows:
        east, west = rows.resources.around(EAST), rows.resources.around(WEST)
    assert east.seated == (seated(HOST_E, runs=True), seated(HOST_E, "other", runs=True))
    assert west.seated == (seated(HOST_W, runs=False),)
    assert east.hosts[0].machines == ("vm1", "other", "off")
    assert [host.name for host in west.hosts] == [HOST_W]


@pytest.mark.parametrize(
    ("facts", "known"),
    [({}, False), ({"shape": {"memory": GiB, "vcpus": 2}}, True)],
    ids=["never told", "kept since it was protected"],
)
def test_a_seat_has_a_size_though_no_host_tells_it(
    catalog: Catalog, facts: dict[str, object], known: bool
) -> None:
    with catalog.write() as rows:
        rows.put_facts(ITEM, facts)
    with catalog.read() as rows:
        assert rows.resources.around(WEST).seated == (seated(HOST_W, runs=False, known=known),)


def test_a_disabled_item_stands_nowhere(catalog: Catalog) -> None:
    with catalog.write() as rows:
        rows.remove_item(ITEM)
        rows.add_item(an_item(), state=State.DISABLED, facts={})
    with catalog.read() as rows:
        assert rows.resources.around(WEST).seated == ()


@pytest.mark.parametrize(
    ("active", "other_member", "left"),
    [
        (Side.PRIMARY, False, set()),
        (Side.RECOVERY, False, {"made"}),
        (Side.PRIMARY, True, {"made"}),
    ],
    ids=["it goes with its item", "the machine runs on in it", "another machine is in it"],
)
def test_what_was_made_for_an_item_goes_with_it(
    catalog: Catalog, active: Side, other_member: bool, left: set[str]
) -> None:
    put(catalog, of_kind(GROUP, "made", ITEM), of_kind(SET, "users"))
    with catalog.write() as rows:
        rows.put_item(an_item(active=active))
        rows.resources.join(WEST, "vm1", GROUP, "made")
        if other_member:
            rows.resources.join(WEST, "vm2", GROUP, "made")
        rows.remove_item(ITEM)
    assert {resource.name for resource in of(catalog).resources} == left | {"users"}


def test_two_that_place_at_once_take_turns(catalog: Catalog) -> None:
    claimed, told = threading.Event(), []

    def second() -> None:
        claimed.wait()
        with catalog.write() as rows:
            rows.resources.claim(WEST)
            told.append(rows.resources.of_site(WEST).members(SET, "one"))

    put(catalog, of_kind(SET))
    thread = threading.Thread(target=second)
    thread.start()
    with catalog.write() as rows:
        rows.resources.claim(WEST)
        claimed.set()
        rows.resources.join(WEST, "vm1", SET, "one")
    thread.join()
    assert told == [("vm1",)]
