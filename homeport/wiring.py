"""
The one module that picks implementations and joins them: each part of Homeport is built here.

Time, chance and the process's own end come from here; everything below is given them.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import uuid4

import structlog
import uvicorn
from fastapi import FastAPI

from homeport.agent.agent import Agent
from homeport.agent.ledgers import Ledgers
from homeport.agent.link import Link
from homeport.agent.means import Means
from homeport.agent.shelf import Shelf
from homeport.catalog.catalog import Catalog
from homeport.catalog.database import only_server
from homeport.clock import SystemClock
from homeport.dataplane.ports import ObjectStore
from homeport.dataplane.wrappers import RetryingStore
from homeport.interfaces.api.agents import AgentsApi
from homeport.interfaces.api.app import Services, create_app
from homeport.interfaces.api.bell import Bell
from homeport.interfaces.api.bind import check_bind
from homeport.interfaces.api.routers import ROUTERS
from homeport.interfaces.portal.pages import add_portal
from homeport.lab.kvm import kvm_works
from homeport.model.ids import HostName, SiteName, check_name
from homeport.model.messages import StoreAddress
from homeport.orchestration.desk import AgentDesk
from homeport.orchestration.engine import DBOS_VERSION, Engine, EngineSettings, Plan
from homeport.orchestration.office import ServerOffice
from homeport.orchestration.registry import PROGRAMS
from homeport.orchestration.sweeping import RunSweep
from homeport.orchestration.takeover import Beats
from homeport.orchestration.timers import CommitTimers
from homeport.providers.compute.hook import CONFIRMED
from homeport.providers.compute.hypervisor import LibvirtCompute
from homeport.providers.disks.filesystems import FileSystems
from homeport.providers.disks.guestfs import Guestfs
from homeport.providers.disks.opening import open_base, open_reader
from homeport.providers.store.object_store import open_store
from homeport.settings import AgentSettings, InvalidSettingsError, ServerSettings

GRACE_SECONDS = 3
"""How long a stopping server waits for requests under way: a long poll may be given up."""
STORE_DELAYS = (timedelta(seconds=0.2), timedelta(seconds=1))
"""A call to a cache store is tried three times; a longer outage is the loop's to wait out."""
LEFT_BEHIND = 70
"""Exit code of a server that the others hold for dead (EX_SOFTWARE)."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that is joined and has its vault, and does not listen yet."""

    app: FastAPI
    settings: ServerSettings
    catalog: Catalog
    engine: Engine
    held: ExitStack

    def run(self) -> None:
        """Serve until a signal ends it."""
        config = uvicorn.Config(
            self.app,
            host=check_bind(self.settings.host),
            port=self.settings.port,
            log_level=self.settings.log_level,
            access_log=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        try:
            uvicorn.Server(config).run()
        finally:
            self.close()

    def close(self) -> None:
        """Let the vault go; a second time does nothing."""
        self.held.close()


def configure_logs(level: str) -> None:
    """Structured lines on stderr, from `level` on; standard output belongs to programs."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            # plain: a traceback that shows variables would show tokens
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def build_server(settings: ServerSettings) -> Server:
    """
    Open the vault and join everything a server needs.

    Raises:
        OpenBindError: it would listen where others than this machine can reach it.
        VaultInUseError: another server has this SQLite vault.
        NewerVaultError: a newer version has opened it before.
    """
    check_bind(settings.host)
    configure_logs(settings.log_level)
    with ExitStack() as stack:
        stack.enter_context(only_server(settings.vault_url))
        catalog = _open_catalog(settings)
        stack.callback(catalog.close)
        engine = _build_engine(settings, catalog)
        services = _services(settings, catalog, engine)
        app = create_app(services, ROUTERS)
        add_portal(app, services.office)
        return Server(
            app=app, settings=settings, catalog=catalog, engine=engine, held=stack.pop_all()
        )


def _open_catalog(settings: ServerSettings) -> Catalog:
    return Catalog.open(
        settings.vault_url,
        clock=SystemClock().now,
        new_id=_new_id,
        new_token=lambda: secrets.token_urlsafe(32),
        lease=timedelta(seconds=settings.lease),
        dbos_version=DBOS_VERSION,
    )


def _build_engine(settings: ServerSettings, catalog: Catalog) -> Engine:
    beats = Beats(
        every=settings.beat_every,
        leave_after=settings.leave_after,
        dead_after=settings.dead_after,
    )
    plans = {
        kind: Plan(program=entry.program, tasks=entry.tasks) for kind, entry in PROGRAMS.items()
    }
    return Engine(
        catalog,
        plans,
        settings=EngineSettings(
            lease=settings.lease,
            hub_interval=settings.hub_interval,
            look_interval=settings.look_interval,
            queue_interval=settings.queue_interval,
            jobs_at_once=settings.jobs_at_once,
            beats=beats,
            take_over=settings.take_over,
        ),
        server=f"{socket.gethostname()}-{uuid4().hex[:8]}",
        leave=lambda: os._exit(LEFT_BEHIND),
        monotonic=SystemClock().monotonic,
    )


def _services(settings: ServerSettings, catalog: Catalog, engine: Engine) -> Services:
    bell = Bell()
    catalog.listen(bell.ring)
    office = ServerOffice(catalog, engine, new_id=_new_id)
    timers = CommitTimers(office, every=settings.timer_interval)
    sweep = RunSweep(
        engine.forget_runs,
        keep=timedelta(seconds=settings.runs_kept),
        every=settings.sweep_interval,
        now=SystemClock().now,
    )

    def start() -> None:
        engine.start()
        timers.start()
        sweep.start()

    def stop() -> None:
        sweep.stop()
        timers.stop()
        engine.stop()

    return Services(
        office=office,
        agents=AgentsApi(AgentDesk(catalog), bell),
        bell=bell,
        start=start,
        stop=stop,
        net_seconds=settings.net_interval,
    )


def build_agent(settings: AgentSettings) -> Agent:
    """
    Join everything an agent needs; it works when `run` is called.

    Raises:
        InvalidSettingsError: it is not said which site it belongs to, or by which token.
    """
    if not settings.site or not settings.token:
        raise InvalidSettingsError(
            "An agent needs the name of its site and the site's token.",
            cause="HOMEPORT_AGENT__SITE or HOMEPORT_AGENT__TOKEN is empty.",
            remedy="Get a token with: homeport site token SITE",
        )
    configure_logs(settings.log_level)
    clock = SystemClock()
    stores: dict[tuple[str, ...], ObjectStore] = {}

    def opened(address: StoreAddress) -> ObjectStore:
        key = (address.url, *(f"{name}={value}" for name, value in sorted(address.options.items())))
        if key not in stores:
            inner = open_store(address.url, address.options)
            stores[key] = RetryingStore(inner, delays=STORE_DELAYS, sleep=_sleep)
        return stores[key]

    means = Means(
        site=SiteName(check_name("site", settings.site)),
        host=HostName(check_name("host", settings.host or socket.gethostname())),
        compute=LibvirtCompute(settings.libvirt_uri, pause=time.sleep),
        clock=clock,
        ledgers=Ledgers(settings.state_dir),
        open_store=opened,
        make_store=_make_store,
        open_reader=open_reader,
        open_base=open_base,
        compare_files=_file_systems(settings),
        immutable=settings.immutable_files,
        confirmed=CONFIRMED,
    )
    return Agent(
        shelf=Shelf(means),
        link=Link(settings.server, settings.token),
        state=settings.state_dir,
        wait=settings.wait,
    )


def _file_systems(settings: AgentSettings) -> FileSystems:
    """How this host reads the files of images; an appliance is kept in the agent's folder."""
    return FileSystems(
        guestfs=Guestfs(
            cache=settings.state_dir / "guestfs",
            kvm=partial(kvm_works, settings.state_dir),
            kernel=settings.guestfs_kernel,
        )
    )


def _make_store(address: StoreAddress) -> None:
    open_store(address.url, address.options, create=True)


def _sleep(span: timedelta) -> None:
    time.sleep(span.total_seconds())


def _new_id() -> str:
    return uuid4().hex
