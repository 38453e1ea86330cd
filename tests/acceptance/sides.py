"""
Both sides' hosts as seen from outside: pools, ledgers, stores, processes, and their faults.

The half of `tests.acceptance.pair` that asks the server for no more than where the guest runs and
what its ledger says.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from homeport.client import Client
from homeport.errors import HomeportError
from homeport.lab.commands import attempt, wait_until
from homeport.lab.guestimage import GuestSpec
from homeport.lab.layout import POOL_INSIDE
from homeport.lab.processes import sharing_namespace_of
from homeport.lab.stage import EAST, WEST, Stage
from homeport.model.position import Position
from homeport.units import MiB
from tests.acceptance.images import BLOCK, HeldFiles, differing_blocks, digest_of

SPEC = GuestSpec(os_size=128 * MiB, data_size=64 * MiB)
OTHER = {EAST: WEST, WEST: EAST}
TEMPORARY = "ms-asr-"


class Sides:
    """`Pair` sets the fields."""

    stage: Stage
    client: Client
    guest: str
    scratch: Path
    stores: Path

    @property
    def here(self) -> str:
        """The site in which the guest runs."""
        return self.client.item(self.guest).running.site

    @property
    def there(self) -> str:
        return OTHER[self.here]

    def until(self, happened: Callable[[], bool], awaited: str, limit: float = 60) -> None:
        wait_until(happened, awaited=awaited, limit=limit, pause=0.05)

    # -- files --

    def images(self, site: str) -> Path:
        return self.stage.lab.host_folder(site).images

    def files(self, site: str) -> HeldFiles:
        return HeldFiles.in_pool(self.images(site), self.guest)

    def raw(self, site: str, position: Position | None = None) -> dict[str, Path]:
        """Each disk's content at a point, as raw files of this call's own."""
        files = self.files(site)
        folder = self.scratch / f"raw-{time.monotonic_ns()}"
        folder.mkdir()
        for disk in files.disks:
            self._flat(site, *files.top(disk, position), folder / f"{disk}.raw")
        return {disk: folder / f"{disk}.raw" for disk in files.disks}

    def _flat(self, site: str, image: Path, image_format: str, raw: Path) -> None:
        """
        Read a chain to its end, on the site's own host.

        While a live commit goes on images there name those below them by the host's own paths.
        """
        inside = POOL_INSIDE / image.relative_to(self.images(site).resolve())
        convert = ["qemu-img", "convert", "-U", "-f", image_format, "-O", "raw"]
        done = self.stage.lab.run(site, [*convert, inside, raw])
        assert done.returncode == 0, done.stderr.decode()

    @property
    def sizes(self) -> dict[str, int]:
        """The virtual size of the guest's disks by name."""
        return {f"{self.guest}-os": SPEC.os_size, f"{self.guest}-data": SPEC.data_size}

    def outside(self, site: str, path: str) -> Path:
        """A path in the pool, as the site's host has it, from outside of the lab."""
        return self.images(site) / Path(path).relative_to(POOL_INSIDE)

    def sent_exactly(self, old: Mapping[str, Path], first: Position, *, compared: str = "") -> int:
        """
        Bytes that differ between the old disks and the point; the point holds hardly any more.

        `old` has the old side's disks as they were before, through their chains. Of a disk that was
        `compared` it holds these blocks and no other. What became zero is no data in a point.
        """
        new, total = self.raw(self.there, first), 0
        past = {one.position: one.changed for one in self.files(self.there).ledger.past}[first]
        for disk, before in old.items():
            differ = differing_blocks(before, new[disk])
            data = sum(differ.values()) * BLOCK
            most = data if disk == compared else len(differ) * BLOCK * 1.05
            assert data <= past[disk] <= most, (disk, len(differ), data, past)
            total += len(differ) * BLOCK
        return total

    def same_at_both(self) -> Position:
        """
        A point that both sides hold, found to be the same bytes on both.

        The source's agent is stopped meanwhile: else the point's layer would go into the base.
        """
        (agent,) = self._agents(self.here)
        for _ in range(200):
            os.kill(agent, signal.SIGSTOP)
            try:
                point = self._on_both()
                if point is not None:
                    assert self.digests(self.here, point) == self.digests(self.there, point)
                    return point
            finally:
                os.kill(agent, signal.SIGCONT)
            time.sleep(0.05)
        raise AssertionError("no point was ever landed there and a layer of its own here")

    def _on_both(self) -> Position | None:
        """The newest point that is a layer of every disk of the source, and lies on the target."""
        ledger = self.files(self.here).ledger
        if ledger.committing or ledger.rotating:
            return None  # the base equals no point, and QEMU lets nobody read in between
        chains = ledger.disks
        layers = [{layer.position for layer in chain.layers} for chain in chains]
        there = {point.position for point in self.files(self.there).ledger.points}
        return max(set.intersection(there, *layers), default=None)

    def digests(self, site: str, position: Position | None = None) -> dict[str, str]:
        raws = self.raw(site, position)
        try:
            return {disk: digest_of(raw) for disk, raw in raws.items()}
        finally:
            for raw in raws.values():
                raw.unlink()

    def unexplained(self, site: str) -> list[str]:
        """Files in a site's pool that no item's ledger speaks of."""
        images = self.images(site)
        # The files first: what is made after that look is no concern of it.
        there = {path.resolve() for path in images.rglob("*") if path.is_file()}
        known: set[Path] = set()
        for ledger in (images / "homeport").glob("*/ledger.json"):
            known |= HeldFiles.in_pool(images, ledger.parent.name.partition(".")[0]).explained()
        left = (path for path in there - known if path.exists())
        return sorted(str(path.relative_to(images.resolve())) for path in left)

    def not_there(self) -> list[str]:
        """What the ledger says is there, in the pools, and is not."""
        lines = [line for line in self.client.ledger() if line.gone_at is None]
        return [
            line.name
            for line in lines
            if line.kind in {"disk", "file", "unsent", "folder"}
            and not self.outside(line.site, line.name).exists()
        ]

    def temporary(self) -> list[str]:
        """Temporary replicas, on both sides' disks and in the ledger."""
        found = [
            str(path) for site in (EAST, WEST) for path in self.images(site).rglob(f"{TEMPORARY}*")
        ]
        lines = self.client.ledger()
        return found + [one.name for one in lines if TEMPORARY in one.name and not one.gone_at]

    def nothing_orphaned(self) -> None:
        """Ledger and disks say the same on both sides, once both are at rest."""

        def agree() -> bool:
            self.seen = [self.unexplained(EAST), self.unexplained(WEST), self.not_there()]
            return self.seen == [[], [], []] and not self.temporary()

        try:
            self.until(agree, "ledger and disks to agree", limit=20)
        except HomeportError as error:
            raise AssertionError(self.seen, self.temporary()) from error

    # -- faults --

    def cut_store(self, store: str, *, seen_from: str) -> None:
        """A site's cache store does not answer a site's host any more."""
        self._mounts("cut", store, seen_from)

    @contextmanager
    def store_cut(self, store: str, *, seen_from: str) -> Iterator[None]:
        """The same, for a while."""
        self.cut_store(store, seen_from=seen_from)
        try:
            yield
        finally:
            self._mounts("heal", store, seen_from)

    def _mounts(self, what: str, store: str, seen_from: str) -> None:
        folder = self.stage.store(store)
        folder.mkdir(exist_ok=True)
        words = [sys.executable, "-m", "homeport.lab.mounts", what, str(folder)]
        done = self.stage.lab.run(seen_from, words)
        assert done.returncode == 0, done

    @contextmanager
    def no_room(self) -> Iterator[Callable[[], None]]:
        """The file system of the cache stores is full; call to fill what was given back since."""
        ballast = self.stores / "ballast"

        def fill() -> None:
            for block in ("64k", "4k"):  # the second takes what was too little for one of the first
                more = ["dd", "if=/dev/zero", f"of={ballast}", "oflag=append", "conv=notrunc"]
                attempt([*more, f"bs={block}", "status=none"])

        fill()
        try:
            yield fill
        finally:
            ballast.unlink()

    def _agents(self, site: str) -> Sequence[int]:
        _, first = self.stage.lab._running(site)
        return [
            seen.identity.pid
            for seen in sharing_namespace_of(first)
            if seen.argv[-2:] == ("homeport", "agent") or seen.argv[-1:] == ("agent",)
        ]
