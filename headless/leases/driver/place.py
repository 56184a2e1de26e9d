"""Where the driver of a batch listens."""

from __future__ import annotations

from dataclasses import dataclass

from ....errors import BadInput

LEASE_S = 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the driver listens, and how long a lease lasts without a word of its worker.

    With `invites`, users may join workers of their own: they have the key.
    """

    host: str
    port: int
    lease_s: float = LEASE_S
    invites: bool = True


def parse_place(text: str, lease_s: float = LEASE_S) -> Place:
    """Return the place in `HOST:PORT` or `PORT` (this machine only); raise BadInput."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise BadInput(f"{text!r} is not HOST:PORT, for example 0.0.0.0:8290.")
    return Place(host.strip("[]") or "127.0.0.1", int(port), lease_s)
