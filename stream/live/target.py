"""Where a live address may be sent: the kinds of addresses, checked before anything is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...errors import BadInput
from ..ndi.library import SCHEME as NDI
from ..ndi.library import check_installed, is_ndi, name_of
from ..url import Url

CONTAINERS: Mapping[str, str] = {"rtmp": "flv", "rtmps": "flv", "srt": "mpegts", "udp": "mpegts"}
WITH_PORT = ("srt", "udp")  # RTMP has a port of its own
WITH_PATH = ("rtmp", "rtmps")


@dataclass(frozen=True, slots=True)
class Target:
    """An address to send to, and the format's container; it may hold a key and is never shown.

    `host` is a name of the network. NDI has no container, and `host` is the name of the source.
    """

    url: str = field(repr=False)
    scheme: str
    host: str
    container: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read an address; BadInput if nothing can be sent there, without showing a key."""
        if is_ndi(text):
            check_installed()
            return cls(text.strip(), NDI, name_of(text), "")
        try:
            url = Url.parse(text)
        except ValueError:  # a bracket without its end, a port that is no number
            raise BadInput(
                f"The target's address is no URL; give one with {_kinds()}, as in "
                "rtmp://SERVER/APP/KEY."
            ) from None
        scheme = url.scheme
        if scheme not in CONTAINERS:
            raise BadInput(
                f"The target's address begins with {scheme or 'nothing'}://; give one with "
                f"{_kinds()}."
            )
        if not url.host:
            raise BadInput(
                f"The target's address names no host; give one such as {scheme}://SERVER."
            )
        if scheme in WITH_PORT and not url.port:
            raise BadInput(
                f"The target's address names no port; give one such as {scheme}://SERVER:5000."
            )
        if scheme in WITH_PATH and not url.path.strip("/"):
            raise BadInput(
                "The target's address names no stream after its host; give one such as "
                f"{scheme}://SERVER/APP/KEY."
            )
        return cls(url.text, scheme, url.host, CONTAINERS[scheme])

    @property
    def options(self) -> dict[str, str]:
        """What the format's muxer is told."""
        return {"flvflags": "no_duration_filesize"} if self.container == "flv" else {}


def _kinds() -> str:
    return ", ".join((*CONTAINERS, NDI))
