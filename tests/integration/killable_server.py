"""
A whole server as its own process, to be killed: `python -m tests.integration.killable_server`.

Settings come from the environment, as for any server. Committing is a program of three operations
whose hosts get the server's own lease and no longer one.
"""

from __future__ import annotations

from homeport import wiring
from homeport.model.operations import Accept
from homeport.model.protection import Event, State
from homeport.orchestration.ports import JobKind, JobRun, Json, Vault
from homeport.orchestration.registry import Entry
from homeport.settings import load_settings
from tests.vaults import HOST_E, HOST_W

NAMES = ("first", "second", "third")


def three_operations(run: JobRun) -> dict[str, Json]:
    """One after another, each side in turn; then the item has moved."""
    item = run.job.item
    assert item is not None
    ends = []
    for index, name in enumerate(NAMES):
        run.task(index)
        host = (HOST_W, HOST_E)[index % 2]
        ends.append(run.operation(name, host, "accept", Accept(item=item, epoch=1)).state.value)

    def act(vault: Vault) -> Json:
        return vault.move(item, Event.ACCEPTED, seen=State.COMMITTING)

    return {"ends": ends, "moved": run.step("committed", act)}


def main() -> None:
    """Serve until killed."""
    wiring.PROGRAMS = {
        JobKind.COMMIT: Entry(program=three_operations, tasks=NAMES, event=Event.COMMIT)
    }
    wiring.build_server(load_settings().server).run()


if __name__ == "__main__":
    main()
