"""The office of a running server: books on its vault, questions through its engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy.exc import DBAPIError

from homeport import __version__
from homeport.model.ids import HostName, ItemId, OperationId
from homeport.orchestration.books import Books, Health
from homeport.orchestration.engine import Engine
from homeport.orchestration.ports import JobState, Outcome
from homeport.orchestration.rows import Vaults


class ServerOffice:
    """The `Office` that routers are given."""

    def __init__(self, vaults: Vaults, engine: Engine, *, new_id: Callable[[], str]) -> None:
        self._vaults = vaults
        self._engine = engine
        self._new_id = new_id

    def books(self) -> AbstractContextManager[Books]:
        """One transaction: committed at the end, rolled back by any exception."""
        return self._vaults.write()

    def look(self) -> AbstractContextManager[Books]:
        """A transaction that only reads."""
        return self._vaults.read()

    def ask(
        self,
        host: HostName,
        kind: str,
        args: object,
        *,
        item: ItemId | None = None,
        patience: float = 30.0,
    ) -> Outcome:
        """Have an agent do something once, and wait for it."""
        operation = OperationId(f"ask:{self._new_id()}")
        return self._engine.ask(operation, host, kind, args, item=item, patience=patience)

    def health(self) -> Health:
        """Version, vault and state of this server."""
        try:
            with self._vaults.read() as rows:
                vault = str(rows.vault_id())
                at_work = len(rows.jobs(state=JobState.RUNNING))
        except DBAPIError as error:
            return Health(version=__version__, vault="", state=f"no vault: {error.orig}")
        stranded = self._engine.stranded()
        state = f"{len(stranded)} jobs wait for another version" if stranded else "ok"
        facts = {"jobs_running": at_work, "jobs_stranded": list(stranded)}
        return Health(version=__version__, vault=vault, state=state, facts=facts)
