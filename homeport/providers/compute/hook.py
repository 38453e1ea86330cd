"""
The libvirt hook that denies the start of a machine whose note forbids it, and its installation.

A note forbids the start for good, of a machine that another site owns; or, after the host's boot,
until the agent has put the item's mark into a folder that a boot empties.

It is a shell script, because a hook that cannot run denies every start on the host: a Python that
was upgraded away must not do that. It reads the domain's XML as libvirt hands it over and calls
nothing, least of all libvirt, which waits for it. Hooks veto starts only; `undefine` they cannot.
"""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree as ET

from homeport.model.host import Note
from homeport.providers.compute.notes import NAMESPACE, note_element

FOLDERS_SINCE = 6_005_000  # libvirt's version that first runs every script in hooks/qemu.d
NAME = "50-homeport"
PROBE = "homeport-hook-probe"
CONFIRMED = Path("/run/libvirt/homeport")
"""Where the marks are: in libvirt's own folder, which a host's boot empties."""

SCRIPT = f"""#!/bin/sh
# Made by Homeport. Denies the start of a machine whose note in <metadata> says it may not start,
# because another site owns it; and, after the host's boot, of one whose agent has not heard yet
# that this site does. Remove this file to allow every start again.
if [ "$2" != prepare ]; then
    cat > /dev/null
    exit 0
fi
note=$(sed -n 's|.*\\(<[A-Za-z0-9_.-]*:*note [^>]*"{NAMESPACE}"[^>]*>\\).*|\\1|p' | sed -n 1p)
case "$note" in
*' may-start="no"'*) ;;
*' confirm="yes"'*)
    item=$(printf '%s' "$note" | sed -n 's/.* item="\\([0-9A-Za-z-]*\\)".*/\\1/p')
    if [ -z "$item" ] || [ -e "{CONFIRMED}/$item" ]; then
        exit 0
    fi
    echo "Homeport denies the start of $1: since this host's boot its agent has not heard from" \\
        "the server that this site still owns the machine." >&2
    echo "See that homeport-agent runs and reaches the server; it starts the machine itself if" \\
        "that had autostart. If you know that it runs nowhere else: mkdir -p {CONFIRMED} &&" \\
        "touch {CONFIRMED}/$item" >&2
    exit 1
    ;;
*) exit 0 ;;
esac
reason=$(printf '%s' "$note" | sed -n 's/.* reason="\\([^"]*\\)".*/\\1/p' | sed \\
    -e 's/&lt;/</g' -e 's/&gt;/>/g' -e 's/&quot;/"/g' -e 's/&#[0-9A-Za-z]*;/ /g' \\
    -e 's/&amp;/\\&/g')
printf '%s\\n' "Homeport denies the start of $1: ${{reason:-it is fenced}}" >&2
echo "Start it at the site that owns it, or fail over in Homeport; see its item there." >&2
exit 1
"""


def install(hooks: Path, *, folders: bool) -> Path | None:
    """
    Put the script below `hooks`, libvirt's folder of hooks; the same again changes nothing.

    With `folders` it stands beside other scripts in `qemu.d`. Without, it is the one script
    `qemu`, and None is the answer if the host has its own, which is left as it is.
    """
    place = hooks / "qemu.d" / NAME if folders else hooks / "qemu"
    if place.is_file() and place.read_text() == SCRIPT and os.access(place, os.X_OK):
        return place
    if not folders and place.exists() and "Made by Homeport" not in place.read_text():
        return None
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = hooks / ".homeport-hook"  # a name libvirt does not look for
    with partial.open("w") as file:
        file.write(SCRIPT)
        os.fchmod(file.fileno(), 0o755)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(place)
    sync_folder(place.parent)
    return place


def probe_xml() -> str:
    """A machine of nothing that the hook must deny: the way to see whether hooks run."""
    note = Note(item="probe", epoch=0, role="test", may_start=False, reason="this was a probe")
    text = ET.tostring(note_element(note), encoding="unicode")
    return (
        f"<domain type='qemu'><name>{PROBE}</name><memory unit='MiB'>16</memory>"
        f"<metadata>{text}</metadata><os><type>hvm</type></os></domain>"
    )


def sync_folder(folder: Path) -> None:
    """Make a rename in it survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
