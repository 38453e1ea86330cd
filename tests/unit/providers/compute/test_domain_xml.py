"""Reading a domain's XML and fitting it to a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homeport.model.host import DiskPlace, Note, Placement
from homeport.model.machine import Firmware
from homeport.providers.compute import domain_xml
from homeport.providers.compute.domain_xml import BadDefinitionError, NoPlaceError
from homeport.providers.compute.notes import read_note
from homeport.units import GiB, KiB, MiB
from tests.machines import NIC, UUID, disk_xml, machine_xml

OTHER = "0a2d0c6f-6a3c-4a0f-9f0a-3f5f2d6c0001"
DISK = disk_xml("vda", Path("/east/root.raw"), driver="cache='none' discard='unmap'")
CHAIN = """
<domain><devices><disk type='file'><driver type='qcow2'/><source file='/d/o2' index='4'/>
<backingStore type='file' index='3'><format type='qcow2'/><source file='/d/o1'/>
<backingStore type='block' index='2'><format type='raw'/><source dev='/dev/vg/root'/><backingStore/>
</backingStore></backingStore>
<mirror type='file' job='active-commit' ready='yes'><source file='/d/base'/></mirror>
<target dev='vda'/></disk></devices></domain>
"""


def fitted(xml: str, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "name": "web",
        "uuid": UUID,
        "disks": {"vda": DiskPlace(path="/west/root.qcow2", format="qcow2")},
    }
    targets = frozenset(changes.pop("replicated", ("vda",)))
    missing = changes.pop("missing", ())
    own = changes.pop("own_variables", "")
    placement = Placement(**(values | changes))
    text = domain_xml.place(
        xml,
        placement,
        replicated=targets,
        exists=lambda path: path not in missing,
        own_variables=own,
    )
    return domain_xml.parse(text)


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        ("<memory>2048</memory>", 2 * MiB),
        ("<memory unit='KiB'>2048</memory>", 2 * MiB),
        ("<memory unit='k'>1</memory>", KiB),
        ("<memory unit='bytes'>4096</memory>", 4096),
        ("<memory unit='b'>4096</memory>", 4096),
        ("<memory unit='MiB'>64</memory>", 64 * MiB),
        ("<memory unit='GiB'>3</memory>", 3 * GiB),
        ("<memory unit='KB'>3</memory>", 3000),
        ("<memory unit='GB'>3</memory>", 3 * 10**9),
    ],
)
def test_memory_in_every_unit(element: str, expected: int) -> None:
    assert domain_xml.memory(domain_xml.parse(f"<domain>{element}</domain>")) == expected


@pytest.mark.parametrize(
    ("os", "expected", "nvram"),
    [
        pytest.param("<type>hvm</type>", Firmware.BIOS, None, id="nothing said"),
        pytest.param("<loader type='rom'>x</loader>", Firmware.BIOS, None, id="a rom"),
        pytest.param("<loader type='pflash'>x</loader>", Firmware.UEFI, None, id="a flash"),
        pytest.param("<nvram template='/t'> /n.fd </nvram>", Firmware.BIOS, "/n.fd", id="a file"),
        pytest.param(
            "<nvram type='file'><source file='/n.fd'/></nvram>", Firmware.BIOS, "/n.fd", id="source"
        ),
    ],
)
def test_firmware_and_its_variables(os: str, expected: Firmware, nvram: str | None) -> None:
    root = domain_xml.parse(machine_xml(os=os))
    assert (domain_xml.firmware(root), domain_xml.nvram_path(root)) == (expected, nvram)


def test_firmware_chosen_by_name() -> None:
    root = domain_xml.parse("<domain><os firmware='efi'/></domain>")
    assert domain_xml.firmware(root) is Firmware.UEFI


@pytest.mark.parametrize("text", ["", "<domain", "<network/>", "no xml"])
def test_what_is_no_domain_is_refused(text: str) -> None:
    with pytest.raises(BadDefinitionError):
        domain_xml.parse(text)


def test_a_domain_without_memory_is_refused() -> None:
    with pytest.raises(BadDefinitionError):
        domain_xml.memory(domain_xml.parse("<domain/>"))


@pytest.mark.parametrize(
    ("interface", "expected"),
    [
        ("<interface type='network'><source network='lan'/></interface>", "lan"),
        ("<interface type='bridge'><source bridge='br0'/></interface>", "bridge:br0"),
        ("<interface type='direct'><source dev='eth0'/></interface>", "direct:eth0"),
        ("<interface type='user'/>", "user:"),
        ("<interface type='ethernet'/>", None),
    ],
)
def test_what_a_card_is_attached_to(interface: str, expected: str | None) -> None:
    root = domain_xml.parse(machine_xml(devices=interface))
    assert [nic.network for nic in domain_xml.nics(root)] == [expected]


def test_a_running_chain_from_its_top() -> None:
    root = domain_xml.parse(CHAIN)
    expected = [("/d/o2", "4"), ("/d/o1", "3"), ("/dev/vg/root", "2")]
    assert domain_xml.layers(root, "vda") == expected
    assert domain_xml.mirror(root, "vda") == ("active-commit", True)


def test_a_disk_without_a_job_has_no_mirror() -> None:
    assert domain_xml.mirror(domain_xml.parse(machine_xml(DISK)), "vda") is None


class TestPointDisk:
    @pytest.mark.parametrize(
        ("path", "kind", "attribute"),
        [("/d/x.raw", "file", "file"), ("/dev/vg/x", "block", "dev")],
    )
    def test_files_and_devices(self, path: str, kind: str, attribute: str) -> None:
        element = domain_xml.disk_element(domain_xml.parse(CHAIN), "vda")
        domain_xml.point_disk(element, DiskPlace(path=path, format="raw"))
        sources = element.findall("source")
        assert [source.attrib for source in sources] == [{attribute: path}]
        assert element.get("type") == kind
        assert element.find("backingStore") is None
        assert element.find("mirror") is None

    def test_other_settings_of_the_driver_stay(self) -> None:
        element = domain_xml.disk_element(domain_xml.parse(machine_xml(DISK)), "vda")
        domain_xml.point_disk(element, DiskPlace(path="/x", format="qcow2"))
        driver = element.find("driver")
        assert driver is not None
        assert driver.attrib == {
            "name": "qemu",
            "type": "qcow2",
            "cache": "none",
            "discard": "unmap",
        }

    def test_a_disk_without_a_driver_gets_one(self) -> None:
        xml = "<domain><devices><disk><target dev='vda'/></disk></devices></domain>"
        element = domain_xml.disk_element(domain_xml.parse(xml), "vda")
        domain_xml.point_disk(element, DiskPlace(path="/x", format="qcow2"))
        assert element.find("driver[@type='qcow2']") is not None


class TestPlace:
    def test_names_disks_and_note(self) -> None:
        note = Note(item="i", epoch=1, role="test", may_start=True)
        root = fitted(machine_xml(DISK), name="web-test", uuid=OTHER, note=note)
        assert domain_xml.text_of(root, "name") == "web-test"
        assert domain_xml.text_of(root, "uuid") == OTHER
        assert domain_xml.disks(root)[0].path == "/west/root.qcow2"
        assert domain_xml.disks(root)[0].format == "qcow2"
        assert read_note(root) == note

    def test_a_serial_number_that_is_the_uuid_follows_it(self) -> None:
        info = f"<sysinfo><system><entry name='uuid'>{UUID}</entry></system></sysinfo>"
        root = fitted(machine_xml(DISK, extra=info), uuid=OTHER)
        assert domain_xml.text_of(root, "sysinfo/system/entry") == OTHER

    def test_what_is_not_known_is_kept(self) -> None:
        device = "<watchdog model='itco' action='reset'><x:y xmlns:x='urn:z' a='1'/></watchdog>"
        root = fitted(machine_xml(DISK, devices=device))
        assert root.find("devices/watchdog/{urn:z}y[@a='1']") is not None

    @pytest.mark.parametrize(
        ("kind", "source", "networks", "expected"),
        [
            ("network", "<source network='lan'/>", {"lan": "wan"}, "wan"),
            ("network", "<source network='lan'/>", {"lan": "bridge:br1"}, "bridge:br1"),
            ("network", "<source network='lan'/>", {"lan": None}, None),
            ("bridge", "<source bridge='br0'/>", {"bridge:br0": "lan"}, "lan"),
            ("bridge", "<source bridge='br0'/>", {"bridge:br0": "bridge:br0"}, "bridge:br0"),
            ("direct", "<source dev='eth0' mode='bridge'/>", {"direct:eth0": None}, None),
            ("user", "", {"user:": None}, None),
            ("ethernet", "", {}, None),
        ],
    )
    def test_cards_go_where_the_map_says_and_keep_mac_and_model(
        self, kind: str, source: str, networks: dict[str, str | None], expected: str | None
    ) -> None:
        xml = machine_xml(DISK, devices=NIC.format(kind=kind, source=source))
        root = fitted(xml, networks=networks)
        (card,) = domain_xml.nics(root)
        assert (card.network, card.mac, card.model) == (expected, "52:54:00:11:22:33", "e1000e")

    def test_a_card_that_is_not_attached_has_its_link_down(self) -> None:
        card = NIC.format(kind="network", source="<source network='lan'/><link state='up'/>")
        root = fitted(machine_xml(DISK, devices=card), networks={"lan": None})
        links = root.findall("devices/interface/link")
        assert [link.get("state") for link in links] == ["down"]

    def test_what_belonged_to_the_old_network_goes(self) -> None:
        port = "<source network='lan' portgroup='g'/><virtualport type='openvswitch'/>"
        card = NIC.format(kind="network", source=port)
        root = fitted(machine_xml(DISK, devices=card), networks={"lan": "wan"})
        interface = root.find("devices/interface")
        assert interface.find("virtualport") is None
        assert interface.find("source").attrib == {"network": "wan"}

    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            pytest.param({"networks": {}}, "network lan", id="a network is not mapped"),
            pytest.param({"networks": {"lan": "hostdev:x"}}, "hostdev", id="to what cannot be"),
            pytest.param({"replicated": ("vda", "vdb")}, "disk vdb", id="a disk has no place"),
            pytest.param(
                {"disks": {"vdz": DiskPlace(path="/x", format="raw")}, "replicated": ()},
                "disk vdz",
                id="a place has no disk",
            ),
        ],
    )
    def test_what_has_no_place_is_named(self, changes: dict[str, Any], what: str) -> None:
        card = NIC.format(kind="network", source="<source network='lan'/>")
        good: dict[str, Any] = {"networks": {"lan": "lan"}}
        with pytest.raises(NoPlaceError, match=what):
            fitted(machine_xml(DISK, devices=card), **(good | changes))

    @pytest.mark.parametrize(
        "nvram",
        ["<nvram template='/t'>/old.fd</nvram>", "<nvram type='file'><source file='/o'/></nvram>"],
    )
    def test_the_variables_are_pointed_to_their_new_file(self, nvram: str) -> None:
        root = fitted(machine_xml(DISK, os=nvram), nvram_path="/new.fd")
        assert domain_xml.nvram_path(root) == "/new.fd"

    @pytest.mark.parametrize(
        ("os", "path", "named"),
        [
            pytest.param("", "/own.fd", None, id="left to libvirt, and its own"),
            pytest.param("", "/new.fd", "/new.fd", id="left to libvirt, and another"),
            pytest.param("<nvram>/old.fd</nvram>", "/own.fd", "/own.fd", id="named before"),
        ],
    )
    def test_a_choice_left_to_libvirt_stays_so(self, os: str, path: str, named: str | None) -> None:
        text = machine_xml(DISK, os=os, firmware="efi")
        root = fitted(text, nvram_path=path, own_variables="/own.fd")
        assert domain_xml.nvram_path(root) == named

    def test_variables_without_a_place_stay_where_they_are(self) -> None:
        root = fitted(machine_xml(DISK, os="<nvram>/old.fd</nvram>"))
        assert domain_xml.nvram_path(root) == "/old.fd"

    def test_a_medium_and_an_emulator_this_host_lacks_are_left_out(self) -> None:
        cdrom = disk_xml("sda", Path("/iso/a.iso"), device="cdrom")
        xml = machine_xml(DISK, cdrom, devices="<emulator>/opt/qemu</emulator>")
        kept = fitted(xml)
        assert domain_xml.disks(kept)[1].path == "/iso/a.iso"
        assert domain_xml.text_of(kept, "devices/emulator") == "/opt/qemu"
        root = fitted(xml, missing=("/iso/a.iso", "/opt/qemu"))
        assert domain_xml.disks(root)[1].path is None
        assert root.find("devices/emulator") is None


@pytest.mark.parametrize(
    ("xml", "path", "kind"),
    [
        ("<pool type='dir'><target><path>/p/</path></target></pool>", "/p", "dir"),
        ("<pool type='rbd'><source/></pool>", "", "rbd"),
    ],
)
def test_pools(xml: str, path: str, kind: str) -> None:
    assert (domain_xml.pool_path(xml), domain_xml.pool_kind(xml)) == (path, kind)
