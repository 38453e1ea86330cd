"""
The way to libvirtd: one connection, opened when needed and again after it was lost.

libvirt wants its event loop registered before the first connection and running ever after; it
answers keep-alives, so that a daemon that hangs is noticed, and tells that the socket has closed.
A connection may be used by several threads at once; a call in one does not wait for the others.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import libvirt

from homeport.providers.compute.failures import is_lost, translate

# A daemon silent for interval x count seconds is taken for dead. libvirt's own defaults.
_KEEPALIVE_INTERVAL = 5
_KEEPALIVE_COUNT = 5

_loop_lock = threading.Lock()
_loop: threading.Thread | None = None  # libvirt has one event loop a process; set once


class Connection:
    """
    One connection to a libvirt URI.

    `session` is how everything is asked: it opens what is closed and raises Homeport's errors.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._lock = threading.Lock()  # guards _link
        self._link: Any = None

    @contextmanager
    def session(self, doing: str, machine: str = "") -> Iterator[Any]:
        """
        A live `virConnect`, while `doing` something to `machine`: both are for the error's text.

        Nothing is repeated here: after a lost connection only the caller knows what is safe.

        Raises:
            HypervisorUnreachableError, and what `failures.translate` makes of libvirt's errors.
        """
        link = None
        try:
            link = self._open()
            yield link
        except libvirt.libvirtError as error:
            if is_lost(error):
                self._drop(link)
            raise translate(error, doing, machine) from error

    @contextmanager
    def machine(self, name: str, doing: str) -> Iterator[Any]:
        """Like `session`, with the `virDomain` of that name; UnknownMachineError if none."""
        with self.session(doing, name) as link:
            yield link.lookupByName(name)

    def close(self) -> None:
        """Let go of the connection; the next session opens another."""
        self._drop(self._link)

    def _drop(self, link: Any) -> None:
        """Forget that connection, unless another thread has replaced it already."""
        with self._lock:
            if link is None or link is not self._link:
                return
            self._link = None
        _close_quietly(link)

    def _open(self) -> Any:
        with self._lock:
            if self._link is not None and not self._link.isAlive():
                _close_quietly(self._link)
                self._link = None
            if self._link is None:
                _run_event_loop()
                link = libvirt.open(self._uri)
                link.setKeepAlive(_KEEPALIVE_INTERVAL, _KEEPALIVE_COUNT)
                self._link = link
            return self._link


def _close_quietly(link: Any) -> None:
    try:
        link.close()
    except libvirt.libvirtError:
        return  # it was dead: there is nothing left to close


def _run_event_loop() -> None:
    """Start libvirt's event loop in a thread of its own; only the first call does anything."""
    global _loop  # noqa: PLW0603 - see its definition
    with _loop_lock:
        if _loop is not None:
            return
        libvirt.registerErrorHandler(_silent, None)  # else every error is printed to stderr
        libvirt.virEventRegisterDefaultImpl()
        _loop = threading.Thread(target=_loop_forever, name="libvirt-events", daemon=True)
        _loop.start()


def _loop_forever() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _silent(_context: object, _error: object) -> None:
    """Errors reach the caller as exceptions."""
