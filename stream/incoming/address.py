"""The address of a live source: which kinds are opened, and how sentences name them."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import BadInput
from ..ndi.library import SCHEME as NDI
from ..ndi.library import is_ndi, name_of
from ..url import Url

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
        """Read a URL; BadInput if it is none, or of a kind that is not opened.

        The host of an NDI source is its name, which is no URL: it may have blanks and brackets.
        """
        text = text.strip()
        if is_ndi(text):
            name = name_of(text)
            return cls(f"{NDI}://{name}", NDI, name, f"{NDI}://{name}")
        if not text:
            raise BadInput("The live source has no address; give a URL such as rtsp://camera/1.")
        if len(text) > MAX_CHARACTERS or any(not " " < letter < "\x7f" for letter in text):
            raise BadInput(
                f"The address of the live source has more than {MAX_CHARACTERS} characters, or "
                "blanks and letters that a URL must write as %XX; copy it again."
            )
        try:
            url = Url.parse(text)
        except ValueError as error:
            raise BadInput(f"The address of the live source is no URL ({error}).") from error
        if url.scheme not in SCHEMES:
            raise _refusal(url.scheme)
        if not url.host and url.scheme != "udp":
            raise BadInput(f"The address of the live source names no host after {url.scheme}://.")
        place = f"[{url.host}]" if ":" in url.host else url.host
        port = "" if url.port is None else f":{url.port}"
        return cls(url.text, url.scheme, url.host, f"{url.scheme}://{place}{port}{url.path}")

    @property
    def is_web(self) -> bool:
        """Whether the source is read over HTTP."""
        return self.scheme in WEB


def _refusal(scheme: str) -> BadInput:
    kinds = f"{', '.join(SCHEMES)} or {NDI}"
    if scheme in ("", "file") or len(scheme) == 1:  # a drive of Windows
        return BadInput(
            f"A live source is not a file of this machine; give a URL that begins with {kinds}, or "
            "load the file as a video."
        )
    return BadInput(f"A live source cannot be a {scheme} address; use {kinds}.")
