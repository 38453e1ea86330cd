"""
Guests of a lab's hosts, in one call: disks placed in the pool, defined, and found again.

For the demo and for tests that want a machine to protect; they see what a user's host would show.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import libvirt

from homeport.lab.commands import wait_until
from homeport.lab.domain import GuestDomain, disks_of, guest_domain_xml, mac_for
from homeport.lab.guestagent import guest_answers
from homeport.lab.guestimage import GuestConfig, GuestSpec, place_guest
from homeport.lab.hosts import Lab
from homeport.lab.layout import POOL_INSIDE

# Under TCG a guest takes some 6 s on an idle machine, by UEFI 40 s on a busy one.
BOOT_LIMIT = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class GuestLogs:
    """A guest's logs on one host, by their paths outside of the lab."""

    acks: Path
    serial: Path


def guest_logs(lab: Lab, host: str, guest: str) -> GuestLogs:
    """Where a guest's logs are on this host, whether it runs there or not yet."""
    folder = lab.host_folder(host).guests
    return GuestLogs(acks=folder / f"{guest}.ack", serial=folder / f"{guest}.serial")


def add_guest(
    lab: Lab,
    host: str,
    config: GuestConfig,
    *,
    spec: GuestSpec | None = None,
    accelerator: str = "qemu",
) -> GuestDomain:
    """
    Place a guest's disks in the host's pool and define it; it is not started.

    Raises what `place_guest` and `libvirt` raise.
    """
    image = place_guest(lab.settings.cache, lab.host_folder(host).images, config, spec)
    guest = GuestDomain(
        name=config.hostname,
        disks=disks_of(image, POOL_INSIDE),
        mac=mac_for(config.hostname),
        accelerator=accelerator,
        firmware=image.firmware,
    )
    connection = libvirt.open(lab.libvirt_uri(host))
    try:
        connection.defineXML(guest_domain_xml(guest))
        connection.storagePoolLookupByName("default").refresh()
    finally:
        connection.close()
    return guest


def wait_for_guest(domain: libvirt.virDomain, *, limit: float = BOOT_LIMIT) -> float:
    """Wait until the guest's agent answers; return the seconds that took. Raises TooSlowError."""
    awaited = f"guest {domain.name()} to answer"
    return wait_until(lambda: guest_answers(domain), awaited=awaited, limit=limit, pause=0.2)
