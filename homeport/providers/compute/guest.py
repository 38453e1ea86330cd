"""What is asked of a running machine's guest and screen, through libvirt."""

from __future__ import annotations

import re
import struct
import zlib
from typing import Any

import libvirt

from homeport.providers.compute.failures import is_lost
from homeport.providers.compute.jobs import Pause

_STEP = 1  # seconds; libvirt counts the guest agent's time in whole ones


def ping(domain: Any, *, timeout: float, pause: Pause) -> bool:
    """
    Whether the guest agent answers within `timeout` seconds, counted in pauses and answers.

    It is asked for the guest's clock, which every agent knows and which changes nothing.
    """
    left = timeout
    while True:
        try:
            domain.agentSetResponseTimeout(_STEP, 0)
            domain.getTime()
        except libvirt.libvirtError as error:
            if is_lost(error):
                raise
            if left <= 0 or not domain.isActive():
                return False
            if error.get_error_code() == libvirt.VIR_ERR_AGENT_UNRESPONSIVE:
                left -= _STEP
        else:
            return True
        pause(min(_STEP, left))
        left -= _STEP


def thaw(domain: Any) -> bool:
    """Let the guest's file systems go on; False if nobody answers there."""
    try:
        domain.fsThaw()
    except libvirt.libvirtError as error:
        if is_lost(error):
            raise
        return False
    return True


def shut_down(domain: Any, *, timeout: float, pause: Pause) -> bool:
    """
    Ask, wait up to `timeout` seconds, then power off; True if it went by itself.

    QEMU is first ended by a signal it can tidy up at, then by one it cannot.
    """
    if not domain.isActive():
        return True
    paused = domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED  # a guest that stands hears nothing
    if timeout > 0 and not paused and _ask(domain):
        left = timeout
        while left > 0:
            pause(min(_STEP / 4, left))
            left -= _STEP / 4
            if not domain.isActive():
                return True
    power_off(domain)
    return False


def _ask(domain: Any) -> bool:
    try:
        domain.shutdown()
    except libvirt.libvirtError as error:
        if is_lost(error):
            raise
        return False
    return True


def power_off(domain: Any) -> None:
    """Off at once; what is off stays off."""
    for flags in (libvirt.VIR_DOMAIN_DESTROY_GRACEFUL, libvirt.VIR_DOMAIN_DESTROY_DEFAULT):
        if not domain.isActive():
            return
        try:
            domain.destroyFlags(flags)
        except libvirt.libvirtError:
            if flags == libvirt.VIR_DOMAIN_DESTROY_DEFAULT and domain.isActive():
                raise


def screenshot(link: Any, domain: Any) -> bytes | None:
    """The first screen as PNG; None for a machine that is off or has no screen."""
    stream = link.newStream()
    try:
        kind = domain.screenshot(stream, 0)
    except libvirt.libvirtError as error:
        if is_lost(error):
            raise
        return None
    image = bytearray()
    stream.recvAll(lambda _stream, part, _opaque: image.extend(part), None)
    stream.finish()
    return bytes(image) if kind == "image/png" else png_of(bytes(image))


def png_of(pixmap: bytes) -> bytes:
    """A PNG of a binary PPM, which is what older versions of libvirt and QEMU make."""
    found = re.match(rb"P6\s+(\d+)\s+(\d+)\s+255\s", pixmap)
    if found is None:
        raise ValueError("not a pixmap of 8 bits a colour")
    width, height = found.groups()
    row, body = 3 * int(width), pixmap[found.end() :]
    rows = b"".join(b"\0" + body[at : at + row] for at in range(0, len(body), row))
    head = struct.pack(">IIBBBBB", int(width), int(height), 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
