"""
libvirt's domain XML: what Homeport reads from it, and how a definition is fitted to a host.

Pure functions on parsed XML. Everything Homeport does not know is kept as it is, because users'
machines have devices nobody here has heard of. `hypervisor` and `memory` use the same functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from homeport.errors import RefusedError
from homeport.model.host import DiskPlace, Placement
from homeport.model.machine import Firmware, NicDefinition
from homeport.providers.compute.notes import write_note

ET.register_namespace("qemu", "http://libvirt.org/schemas/domain/qemu/1.0")

_UNITS = {"b": 1, "bytes": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_POWERS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SOURCES = {"network": "network", "bridge": "bridge", "direct": "dev"}


class NoPlaceError(RefusedError):
    """A placement that leaves out a disk or a network of the definition."""

    code = "NoPlace"

    def __init__(self, machine: str, what: str) -> None:
        super().__init__(
            f"Machine {machine} cannot be made here: it is not said where its {what} goes.",
            cause="The machine has a disk or network that its item's mapping does not have.",
            remedy="Map the network in the item's settings, or protect the disk, and try again.",
        )
        self.machine = machine
        self.what = what


class BadDefinitionError(RefusedError):
    """Text that is not a domain's XML."""

    code = "BadDefinition"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"A machine's definition cannot be read: {reason}.",
            cause="It was altered, or comes from a hypervisor this version does not know.",
            remedy="Look at the machine with 'virsh dumpxml' and define it again.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskFacts:
    """One `<disk>`: `path` is its top file or device, None when it is neither or empty."""

    target: str
    device: str
    kind: str
    format: str
    path: str | None
    volume: tuple[str, str] | None  # pool and volume
    cache: str
    copy_on_read: bool
    fixed: bool  # read-only, shareable, or a removable medium
    transient: bool
    encrypted: bool


def parse(text: str) -> ET.Element:
    """
    The root of a domain's XML.

    Raises:
        BadDefinitionError: it is not XML, or not a domain's.
    """
    try:
        root = ET.fromstring(text)  # noqa: S314 - libvirt's own output; expat bounds entities
    except ET.ParseError as error:
        raise BadDefinitionError(str(error)) from error
    if root.tag != "domain":
        raise BadDefinitionError(f"it is a <{root.tag}>, not a <domain>")
    return root


def print_xml(root: ET.Element) -> str:
    """The XML as text."""
    return ET.tostring(root, encoding="unicode")


def text_of(root: ET.Element, path: str) -> str:
    """The text of an element, empty when there is no such element."""
    return (root.findtext(path) or "").strip()


def disks(root: ET.Element) -> tuple[DiskFacts, ...]:
    """Every disk, in the order of the definition, cdroms and floppies too."""
    return tuple(_disk(element) for element in root.findall("devices/disk"))


def _disk(element: ET.Element) -> DiskFacts:
    source = _child(element, "source")
    driver = _child(element, "driver")
    device = element.get("device", "disk")
    volume = (source.get("pool", ""), source.get("volume", ""))
    return DiskFacts(
        target=_child(element, "target").get("dev", ""),
        device=device,
        kind=element.get("type", "file"),
        format=driver.get("type", "raw"),
        path=source.get("file") or source.get("dev"),
        volume=volume if element.get("type") == "volume" else None,
        cache=driver.get("cache", "default"),
        copy_on_read=driver.get("copy_on_read") == "on",
        fixed=device in ("cdrom", "floppy") or _has(element, "readonly", "shareable"),
        transient=_has(element, "transient"),
        encrypted=_has(element, "encryption") or _has(source, "encryption"),
    )


def layers(root: ET.Element, target: str) -> list[tuple[str, str]]:
    """
    A running disk's chain from its top: each layer's path and libvirt's index for it.

    The index names a layer in `blockCommit` (`vda[3]`), whatever links lead to its file.
    """
    found = []
    node: ET.Element | None = disk_element(root, target)
    while node is not None:
        source = _child(node, "source")
        index = source.get("index") or node.get("index") or ""
        if path := source.get("file") or source.get("dev"):
            found.append((path, index))
        node = node.find("backingStore")
    return found


def mirror(root: ET.Element, target: str) -> tuple[str, bool] | None:
    """The job a disk's mirror is of and whether it may pivot; None when there is none."""
    element = disk_element(root, target).find("mirror")
    if element is None:
        return None
    return element.get("job", "copy"), element.get("ready") == "yes"


def disk_element(root: ET.Element, target: str) -> ET.Element:
    """The `<disk>` of that target; KeyError if there is none."""
    for element in root.findall("devices/disk"):
        if _child(element, "target").get("dev") == target:
            return element
    raise KeyError(target)


def point_disk(element: ET.Element, place: DiskPlace) -> None:
    """Let a `<disk>` open another file or device; its chain is then found from the headers."""
    block = place.path.startswith("/dev/")
    element.set("type", "block" if block else "file")
    old = element.find("source")
    at = len(element) if old is None else list(element).index(old)
    new = ET.Element("source", {"dev" if block else "file": place.path})
    element.insert(at, new)
    for child in list(element):
        if child.tag in ("source", "backingStore", "mirror") and child is not new:
            element.remove(child)
    driver = element.find("driver")
    if driver is None:
        driver = ET.SubElement(element, "driver", {"name": "qemu"})
    driver.set("type", place.format)


def memory(root: ET.Element) -> int:
    """The machine's memory in bytes."""
    element = root.find("memory")
    if element is None:
        raise BadDefinitionError("it has no <memory>")
    unit = element.get("unit", "KiB")
    factor = _UNITS.get(unit) or _POWERS[unit[0].lower()]
    return int(element.text or 0) * factor


def vcpus(root: ET.Element) -> int:
    """How many processors it may have."""
    return int(text_of(root, "vcpu") or 1)


def firmware(root: ET.Element) -> Firmware:
    """What starts it: UEFI when it is asked for by name or comes from a flash image."""
    system = _child(root, "os")
    flash = _child(system, "loader").get("type") == "pflash"
    return Firmware.UEFI if firmware_by_name(root) or flash else Firmware.BIOS


def firmware_by_name(root: ET.Element) -> bool:
    """Whether UEFI is asked for by name: its files are libvirt's choice where none are named."""
    return _child(root, "os").get("firmware") == "efi"


def nvram_path(root: ET.Element) -> str | None:
    """The file of its UEFI variables that it names; None when it has none or libvirt chooses."""
    element = _child(root, "os/nvram")
    return (element.text or "").strip() or _child(element, "source").get("file")


def network_name(interface: ET.Element) -> str | None:
    """What a card is attached to, as `NicDefinition.network` and a placement's map call it."""
    kind = interface.get("type", "")
    if kind == "ethernet":
        return None
    name = _child(interface, "source").get(_SOURCES.get(kind, ""), "")
    return name if kind == "network" else f"{kind}:{name}"


def nics(root: ET.Element) -> tuple[NicDefinition, ...]:
    """Every network card, in order."""
    return tuple(
        NicDefinition(
            mac=_child(interface, "mac").get("address", "").lower(),
            network=network_name(interface),
            model=_child(interface, "model").get("type", "virtio"),
        )
        for interface in root.findall("devices/interface")
    )


def place(
    text: str,
    placement: Placement,
    *,
    replicated: frozenset[str],
    exists: Callable[[str], bool],
    own_variables: str = "",
) -> str:
    """
    The definition fitted to a host: names, disks, cards, variables and note; all else is kept.

    Each `replicated` target must have a place. `own_variables` is the file that libvirt itself
    takes for variables: a definition that leaves the choice to it goes on doing so. A medium in a
    cdrom or floppy that this host does not have is taken out, and an emulator it does not have is
    left for libvirt to choose.

    Raises:
        NoPlaceError: a disk or a network is not in the placement.
    """
    root = parse(text)
    _rename(root, placement)
    for target in sorted(replicated):
        if target not in placement.disks:
            raise NoPlaceError(placement.name, f"disk {target}")
    for target, spot in placement.disks.items():
        try:
            point_disk(disk_element(root, target), spot)
        except KeyError:
            raise NoPlaceError(
                placement.name, f"disk {target} (it has none of that name)"
            ) from None
    for interface in root.findall("devices/interface"):
        _attach(interface, placement)
    left_to_libvirt = firmware_by_name(root) and nvram_path(root) is None
    if not (left_to_libvirt and placement.nvram_path == own_variables):
        _point_nvram(root, placement.nvram_path)
    _leave_out_missing(root, exists)
    write_note(root, placement.note)
    return print_xml(root)


def _rename(root: ET.Element, placement: Placement) -> None:
    root.attrib.pop("id", None)
    for tag, value in (("name", placement.name), ("uuid", placement.uuid)):
        element = root.find(tag)
        if element is None:
            element = ET.SubElement(root, tag)
        element.text = value
    for entry in root.findall("sysinfo/system/entry"):
        if entry.get("name") == "uuid":  # libvirt refuses one that differs from the domain's
            entry.text = placement.uuid


def _attach(interface: ET.Element, placement: Placement) -> None:
    known = network_name(interface)
    if known is None:
        return
    if known not in placement.networks:
        raise NoPlaceError(placement.name, f"network {known}")
    wanted = placement.networks[known]
    if wanted == known:
        return
    for tag in ("source", "target", "virtualport", "portForwards", "backend"):
        for child in interface.findall(tag):
            interface.remove(child)
    if wanted is None:
        _detach(interface)
        return
    kind, colon, name = wanted.partition(":")
    if not colon:
        kind, name = "network", wanted
    if kind not in _SOURCES:
        raise NoPlaceError(placement.name, f"network {known} (it cannot become {wanted})")
    interface.set("type", kind)
    interface.append(ET.Element("source", {_SOURCES[kind]: name}))


def _detach(interface: ET.Element) -> None:
    """A card like before, with its MAC, on a device of the host that leads nowhere, link down."""
    interface.set("type", "ethernet")
    for child in interface.findall("link"):
        interface.remove(child)
    interface.append(ET.Element("link", {"state": "down"}))


def _point_nvram(root: ET.Element, path: str | None) -> None:
    element = root.find("os/nvram")
    system = root.find("os")
    if path is None or system is None:
        return
    if element is None:
        element = ET.SubElement(system, "nvram")
    element.attrib.pop("type", None)
    for child in list(element):
        element.remove(child)
    element.text = path


def _leave_out_missing(root: ET.Element, exists: Callable[[str], bool]) -> None:
    for element in root.findall("devices/disk"):
        facts = _disk(element)
        if facts.device in ("cdrom", "floppy") and facts.path and not exists(facts.path):
            for child in [*element.findall("source"), *element.findall("backingStore")]:
                element.remove(child)
    devices = root.find("devices")
    emulator = root.find("devices/emulator")
    if devices is not None and emulator is not None and not exists((emulator.text or "").strip()):
        devices.remove(emulator)


def stem(path: str) -> str:
    """A file's name without its ending: what a disk is called when nobody has named it."""
    return Path(path).stem


def _child(element: ET.Element, tag: str) -> ET.Element:
    found = element.find(tag)
    return ET.Element(tag) if found is None else found


def _has(element: ET.Element, *tags: str) -> bool:
    return any(element.find(tag) is not None for tag in tags)


def pool_path(text: str) -> str:
    """The folder of a storage pool, from its XML; empty for one that has none."""
    root = ET.fromstring(text)  # noqa: S314 - see parse
    return (root.findtext("target/path") or "").rstrip("/")


def pool_kind(text: str) -> str:
    """The type of a storage pool, from its XML: dir, fs, netfs, logical and so on."""
    return ET.fromstring(text).get("type", "dir")  # noqa: S314 - see parse
