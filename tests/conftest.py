"""Fixtures that several suites share: peers that are costly to start; and how examples are made."""

from hypothesis import settings

from tests.servers_libvirt import libvirt_host
from tests.servers_postgres import postgres

__all__ = ["libvirt_host", "postgres"]

# What a change is judged by is the same each time; new examples are searched for by `make test-all`
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", derandomize=False, deadline=None)
settings.load_profile("same")
