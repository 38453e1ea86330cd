"""Real file systems for disks of tests: made by mkfs, changed by debugfs, as a guest would have."""

from __future__ import annotations

import subprocess
from pathlib import Path

from homeport.units import KiB
from tests.world import World

BLOCK = 4 * KiB


def make_ext4(path: Path, size: int, files: dict[str, str], *, offset: int = 0) -> None:
    """An image with an ext4 file system that holds these files."""
    tree = make_tree(path.with_name(path.name + ".tree"), files)
    with path.open("ab") as file:
        file.truncate(size)
    options = f"offset={offset},lazy_itable_init=0"
    room = f"{(size - offset) // 1024}k"
    make = ["mkfs.ext4", "-q", "-F", "-b", "1024", "-E", options, "-d", str(tree)]
    subprocess.run([*make, str(path), room], check=True, capture_output=True)


def debugfs(path: Path, *commands: str, offset: int = 0) -> None:
    """Change a file system in place."""
    where = f"{path}?offset={offset}" if offset else str(path)
    for command in commands:
        subprocess.run(["debugfs", "-w", "-R", command, where], check=True, capture_output=True)


def put_in_journal(path: Path, before: bytes) -> None:
    """Take what was changed since `before` back into the journal, as if nobody had synced since."""
    after = path.read_bytes()
    path.write_bytes(before)
    numbers = [
        at // KiB
        for at in range(0, len(after), KiB)
        if after[at : at + KiB] != before[at : at + KiB]
    ]
    blocks, script = path.with_suffix(".blocks"), path.with_suffix(".debugfs")
    blocks.write_bytes(b"".join(after[n * KiB : (n + 1) * KiB] for n in numbers))
    write = f"journal_write -b {','.join(map(str, numbers))} {blocks}"
    script.write_text(f"journal_open\n{write}\njournal_close\n")
    subprocess.run(["debugfs", "-w", "-f", str(script), str(path)], check=True, capture_output=True)


def guest_writes(world: World, dev: str, image: Path) -> None:
    """The guest writes what the image has otherwise than its disk."""
    body = image.read_bytes()
    for at in range(0, len(body), BLOCK):
        block = body[at : at + BLOCK]
        if block != world.truth[dev][at : at + BLOCK]:
            world.write(dev, at, block)


def make_tree(folder: Path, files: dict[str, str]) -> Path:
    """A folder with these files, for makers of file systems that take one."""
    for name, body in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(body)
    return folder
