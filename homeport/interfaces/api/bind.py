"""
Where the server may listen while it has neither TLS nor credentials for people.

Whoever reaches the API can fail machines over, so until then only this machine and the lab's own
links may reach it.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

from homeport.errors import RefusedError

LAB_LINKS = "169.254.213.0 to 169.254.249.255"
"""The ranges that labs take, one each; link-local, so no router carries them anywhere."""
ALLOWED: tuple[IPv4Network | IPv6Network, ...] = (
    IPv4Network("127.0.0.0/8"),
    IPv6Network("::1/128"),
    *(IPv4Network(f"169.254.{third}.0/24") for third in range(213, 250)),
)


class OpenBindError(RefusedError):
    """An address that others than this machine could reach."""

    code = "OpenBind"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"The server does not listen on {host!r}.",
            cause="Without TLS and credentials anybody who reaches the API could fail machines "
            "over.",
            remedy=f"Use 127.0.0.1, ::1, or an address of the lab's links ({LAB_LINKS}); put a "
            "proxy with TLS and a login before it to let others in.",
        )
        self.host = host


def check_bind(host: str) -> str:
    """
    Return `host` if only this machine and the lab can reach it.

    Names are not looked up, except that `localhost` means 127.0.0.1: a name may change its mind.

    Raises:
        OpenBindError: anything else.
    """
    literal = "127.0.0.1" if host == "localhost" else host
    try:
        address = ip_address(literal)
    except ValueError as error:
        raise OpenBindError(host) from error
    if not any(address in network for network in ALLOWED):
        raise OpenBindError(host)
    return literal
