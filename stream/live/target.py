"""Where a live address may be sent: the kinds of addresses, checked before anything is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ...errors import BadInput

CONTAINERS: Mapping[str, str] = {"rtmp": "flv", "rtmps": "flv", "srt": "mpegts", "udp": "mpegts"}
WITH_PORT = ("srt", "udp")  # RTMP has a port of its own
WITH_PATH = ("rtmp", "rtmps")


@dataclass(frozen=True, slots=True)
class Target:
    """An address to send to, and the format's container; it may hold a key and is never shown."""

    url: str = field(repr=False)
    scheme: str
    host: str
    container: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read an address; BadInput if nothing can be sent there, without showing a key."""
        url = text.strip()
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:  # a bracket without its end, a port that is no number
            raise BadInput(
                f"The target's address is no URL; give one with {_kinds()}, as in "
                "rtmp://SERVER/APP/KEY."
            ) from None
        scheme = parts.scheme
        if scheme not in CONTAINERS:
            raise BadInput(
                f"The target's address begins with {scheme or 'nothing'}://; give one with "
                f"{_kinds()}."
            )
        if not host:
            raise BadInput(
                f"The target's address names no host; give one such as {scheme}://SERVER."
            )
        if scheme in WITH_PORT and not port:
            raise BadInput(
                f"The target's address names no port; give one such as {scheme}://SERVER:5000."
            )
        if scheme in WITH_PATH and not parts.path.strip("/"):
            raise BadInput(
                "The target's address names no stream after its host; give one such as "
                f"{scheme}://SERVER/APP/KEY."
            )
        small = scheme + url[len(scheme) :]  # FFmpeg knows no other letters
        return cls(small, scheme, host, CONTAINERS[scheme])

    @property
    def options(self) -> dict[str, str]:
        """What the format's muxer is told."""
        return {"flvflags": "no_duration_filesize"} if self.container == "flv" else {}


def _kinds() -> str:
    return ", ".join(CONTAINERS)
