"""The address of a live source: which kinds are opened, and how sentences name them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from ...errors import BadInput

WEB = ("http", "https")
SCHEMES = (*WEB, "rtsp", "rtsps", "srt", "udp")
MAX_CHARACTERS = 2048


@dataclass(frozen=True, slots=True)
class SourceAddress:
    """A URL of an allowed kind. `shown` leaves out passwords and keys."""

    url: str
    scheme: str
    host: str
    shown: str

    @classmethod
    def parse(cls, text: str) -> SourceAddress:
        """Read a URL; BadInput if it is none, or of a kind that is not opened."""
        url = text.strip()
        if not url:
            raise BadInput("The live source has no address; give a URL such as rtsp://camera/1.")
        if len(url) > MAX_CHARACTERS or any(not " " < letter < "\x7f" for letter in url):
            raise BadInput(
                f"The address of the live source has more than {MAX_CHARACTERS} characters, or "
                "blanks and letters that a URL must write as %XX; copy it again."
            )
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise BadInput(f"The address of the live source is no URL ({error}).") from error
        scheme = parts.scheme
        if scheme not in SCHEMES:
            raise _refusal(scheme)
        if not host and scheme != "udp":
            raise BadInput(f"The address of the live source names no host after {scheme}://.")
        place = f"[{host}]" if ":" in host else host
        shown = f"{scheme}://{place}{'' if port is None else f':{port}'}{parts.path}"
        small = scheme + url[len(scheme) :]  # FFmpeg knows no other letters
        return cls(small, scheme, host, shown)

    @property
    def is_web(self) -> bool:
        """Whether the source is read over HTTP."""
        return self.scheme in WEB


def _refusal(scheme: str) -> BadInput:
    kinds = f"{', '.join(SCHEMES[:-1])} or {SCHEMES[-1]}"
    if scheme in ("", "file") or len(scheme) == 1:  # a drive of Windows
        return BadInput(
            f"A live source is not a file of this machine; give a URL that begins with {kinds}, or "
            "load the file as a video."
        )
    return BadInput(f"A live source cannot be a {scheme} address; use {kinds}.")
