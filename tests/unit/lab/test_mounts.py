"""What the table of mounts says about folders that are cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport.lab import mounts

TABLE = """\
/dev/vda / ext4 rw 0 0
homeport-cut /var/lib/store fuse rw,nosuid,nodev,user_id=0,group_id=0 0 0
homeport-cut /with\\040blank fuse rw 0 0
other /var/lib/other fuse rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/var/lib/store", True),
        ("/with blank", True),
        ("/var/lib/other", False),
        ("/var/lib", False),
        ("/var/lib/store/below", False),
        ("/", False),
    ],
)
def test_only_the_folder_itself_is_cut(folder: str, expected: bool) -> None:
    assert mounts.is_cut(Path(folder), TABLE) is expected


def test_an_impossible_mount_says_which(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        mounts.detach(tmp_path / "absent")


def test_a_folder_that_is_not_cut_needs_no_healing(tmp_path: Path) -> None:
    assert mounts.main(["heal", str(tmp_path)]) == 0
