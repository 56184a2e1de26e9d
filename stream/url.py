"""A URL and its parts, with the scheme in small letters: FFmpeg knows no others."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Url:
    """A URL, which may hold a key and is therefore not shown. `port` is None where it has none."""

    text: str = field(repr=False)
    scheme: str
    host: str
    port: int | None
    path: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Url:
        """Read a URL without the blanks around it; ValueError if it is none."""
        text = text.strip()
        parts = urlsplit(text)
        small = parts.scheme + text[len(parts.scheme) :]
        return cls(small, parts.scheme, parts.hostname or "", parts.port, parts.path)
