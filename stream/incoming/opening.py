"""How the source at an address is opened: NDI by its own library, all others by FFmpeg."""

from __future__ import annotations

from ..ndi.library import SCHEME as NDI
from .address import SourceAddress
from .connection import Connection
from .ndi_source import NdiOpening
from .receiver import Connect


def opening(address: SourceAddress, stall_s: float) -> Connect:
    """What opens the source, each time anew; `stall_s` is how long nothing may come."""
    if address.scheme == NDI:
        return NdiOpening(address.host, stall_s)
    return lambda _: Connection(address, stall_s)
