"""Fixtures that several suites share: peers that are costly to start."""

from tests.servers_libvirt import libvirt_host
from tests.servers_postgres import postgres

__all__ = ["libvirt_host", "postgres"]
