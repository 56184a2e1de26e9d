"""Who may talk to the player page: where it listens, and the names by which it is called.

A web page of another site can make its own name resolve to this machine (DNS rebinding). For the
browser, our server then is a part of that site. Only the `Host` header still tells the names apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from ...errors import BadInput
from ...stream.preview.origin import OTHER_SITE, is_page_of

LOOPBACK = "127.0.0.1"
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Access:
    """The address at which the page listens, and further names that lead to it."""

    listen: str = LOOPBACK
    allow_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [("--allow-host", name) for name in self.allow_hosts]
        for option, name in [("--listen", self.listen), *names]:
            if _address(name) is None and not NAME.fullmatch(name.lower()):
                raise BadInput(
                    f"{option} {name!r} is not the name or the address of a machine; give it "
                    "without http:// and without a port."
                )

    def refusal(self, headers: Mapping[str, str]) -> str | None:
        """Why a request with these headers is refused; None if it is our own page's.

        A client that is no browser sends no Origin; it still names the host.
        """
        host, origin = headers.get("Host", "").lower(), headers.get("Origin")
        if not self._is_own(host):
            return (
                "This page was called by a name that it does not know; use the printed address, "
                "or start the run with --allow-host NAME."
            )
        if origin is not None and not is_page_of(origin, host):
            return OTHER_SITE
        return None

    def _is_own(self, host: str) -> bool:
        name = _hostname(host)
        if name is None:
            return False
        address, own = _address(name), {self.listen.lower(), *map(str.lower, self.allow_hosts)}
        if address is None:
            return name == "localhost" or name in own
        # No name stands behind a literal, so that it cannot have been rebound.
        everywhere = _address(self.listen)
        return (
            address.is_loopback
            or (everywhere is not None and everywhere.is_unspecified)
            or address in {_address(known) for known in own}
        )


def _hostname(host: str) -> str | None:
    """The name in a Host header, without the port; None if there is none."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018  (raises if it is no number)
    except ValueError:
        return None
    plain = parts.netloc == host and "@" not in host and not parts.path
    return (parts.hostname or "").removesuffix(".") or None if plain else None


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None


THIS_MACHINE = Access()
