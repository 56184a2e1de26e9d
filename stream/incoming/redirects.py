"""Where a redirect may lead: not into a private network that the user has not named."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import BadInput

Place = tuple[Any, ...]  # of getaddrinfo: family, kind, protocol, name, address


@dataclass(frozen=True, slots=True)
class Door:
    """Opens connections to the host that the user named, and to public ones that it leads to."""

    named_host: str
    shown: str

    def connect(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """Connect to the first address that answers; BadInput if a redirect may not lead there.

        The addresses that are checked are those that are used, so that a name server cannot answer
        differently the second time. OSError if nothing answers.
        """
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        if host.lower() != self.named_host.lower():
            for place in places:
                self._check(host, str(place[4][0]))
        return _first_that_answers(places, timeout_s)

    def _check(self, host: str, address: str) -> None:
        if not ipaddress.ip_address(address.partition("%")[0]).is_global:
            raise BadInput(
                f"The live source {self.shown} redirects to {host}, which is in a private network; "
                "if that is right, give that address itself."
            )


def _first_that_answers(places: Sequence[Place], timeout_s: float) -> socket.socket:
    failure = OSError("no address")
    for family, kind, protocol, _, place in places:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(timeout_s)
            connection.connect(place)
        except OSError as error:
            failure = error
            connection.close()
        else:
            return connection
    raise failure
