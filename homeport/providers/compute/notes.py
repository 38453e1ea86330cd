"""
Homeport's note in a domain's `<metadata>`: one element in a namespace of its own.

libvirt keeps it, gives it to hooks with the domain's XML, and never reads it. It is one element
with attributes, because libvirt then prints it as one line with the quoting the hook's `sed` knows.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from homeport.model.host import NOTE_NAMESPACE, Note

NAMESPACE = NOTE_NAMESPACE
PREFIX = "homeport"
_TAG = f"{{{NAMESPACE}}}note"


def note_element(note: Note) -> ET.Element:
    """The note as an element that carries its own namespace, wherever it is put."""
    element = ET.Element(f"{PREFIX}:note", {f"xmlns:{PREFIX}": NAMESPACE})
    element.set("item", note.item)
    element.set("epoch", str(note.epoch))
    element.set("role", note.role)
    element.set("may-start", "yes" if note.may_start else "no")
    if note.confirm:
        element.set("confirm", "yes")
    element.set("reason", " ".join(note.reason.split()))
    if note.lock is not None:
        element.set("lock", note.lock)
    return element


def note_text(note: Note) -> str:
    """The note as libvirt's metadata call takes it: without a namespace, which libvirt adds."""
    element = note_element(note)
    del element.attrib[f"xmlns:{PREFIX}"]
    element.tag = "note"
    return ET.tostring(element, encoding="unicode")


def read_note(domain: ET.Element) -> Note | None:
    """The note of a domain; None when there is none."""
    element = domain.find(f"metadata/{_TAG}")
    if element is None:
        return None
    return Note(
        item=element.get("item", ""),
        epoch=int(element.get("epoch", "0")),
        role=element.get("role", ""),
        may_start=element.get("may-start") != "no",
        reason=element.get("reason", ""),
        lock=element.get("lock"),
        confirm=element.get("confirm") == "yes",
    )


def write_note(domain: ET.Element, note: Note | None) -> None:
    """Replace the note of a domain; None removes it, and the metadata that held nothing else."""
    metadata = domain.find("metadata")
    if metadata is not None:
        for element in metadata.findall(_TAG):
            metadata.remove(element)
    if note is not None:
        if metadata is None:
            metadata = ET.SubElement(domain, "metadata")
        metadata.append(note_element(note))
    elif metadata is not None and len(metadata) == 0:
        domain.remove(metadata)
