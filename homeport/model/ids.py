"""
Names and ids: what they are made of, and the one check that every name passes at the edge.

A name ends up in file names, object keys and URLs, so it is checked once where it comes in and
trusted everywhere after that.
"""

from __future__ import annotations

import re
from typing import NewType

from homeport.errors import RefusedError

ItemId = NewType("ItemId", str)
JobId = NewType("JobId", str)
OperationId = NewType("OperationId", str)
VaultId = NewType("VaultId", str)
SiteName = NewType("SiteName", str)
HostName = NewType("HostName", str)
DiskName = NewType("DiskName", str)
Digest = NewType("Digest", str)
"""A BLAKE3 digest as 64 hexadecimal figures."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+-]{0,61}[A-Za-z0-9_+-])?")


class InvalidNameError(RefusedError):
    """A name that could mean something else to a file system, a URL or an object store."""

    code = "InvalidName"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(
            f"{name!r} is not a name for a {kind}.",
            cause="Names become file names, object keys and URLs.",
            remedy="Use 1 to 63 letters, digits, '-', '_', '+' or '.'; begin with a letter or a "
            "digit, do not end with '.', and leave out '/' and '..'.",
        )
        self.kind = kind
        self.name = name


def check_name(kind: str, name: str) -> str:
    """
    Return `name` if it is safe everywhere, where `kind` is the word for what it names.

    Raises:
        InvalidNameError: it is empty, too long, or has '/', '..' or other odd characters.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise InvalidNameError(kind, name)
    return name
