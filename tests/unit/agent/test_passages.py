"""Names that lead through folders which are gone: which they are, made and taken away."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport.agent.passages import PASSAGE, passage
from homeport.model.host import MachineSources
from homeport.model.operations import Release
from tests.world import ITEM, World


@pytest.mark.parametrize(
    ("name", "through"),
    [
        ("/pool/web.raw", None),
        ("/pool/homeport/web.1/web-os/../../../web.raw", "/pool/homeport/web.1/web-os"),
        ("/pool/a/../b/../web.raw", "/pool/a"),
        ("web.raw", None),
    ],
)
def test_what_a_name_leads_through(name: str, through: str | None) -> None:
    assert passage(name) == (Path(through) if through else None)


class TestProtectedAgain:
    @pytest.fixture
    def world(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
        """QEMU knows the disk through the folder of an item that was, as after a live release."""
        world = World(tmp_path, formats={"vda": "raw"})
        compute = world.east.compute
        found = compute.sources

        def through(machine: str) -> MachineSources:
            seen = found(machine)
            live = {
                target: name.replace("/pool/", "/pool/homeport/web.1/web-os/../../../")
                if name.endswith(".raw")
                else name
                for target, name in seen.live.items()
            }
            return MachineSources(live=live, persistent=seen.persistent)

        monkeypatch.setattr(compute, "sources", through)
        return world

    def arm(self, world: World) -> None:
        world.epoch += 1
        world.arm()

    def test_the_folder_is_there_while_the_item_lives(self, world: World) -> None:
        folder = world.east.pool / "homeport" / "web.1" / "web-os"
        self.arm(world)
        assert folder.is_dir()
        assert not list(folder.iterdir())
        (entry,) = [one for one in world.east.ledger.made if one.kind == PASSAGE]
        assert entry.name == str(folder)
        facts = world.east.order(Release(item=ITEM, epoch=world.epoch, owner=True))
        assert not facts.left
        assert not (world.east.pool / "homeport").exists()

    def test_one_that_somebody_uses_stays(self, world: World) -> None:
        used = world.east.pool / "homeport" / "web.1" / "web-os" / "notes"
        self.arm(world)
        used.touch()
        world.east.order(Release(item=ITEM, epoch=world.epoch, owner=True))
        assert used.exists()
