"""The web page that sends a request, as the browser names it."""

from __future__ import annotations

from urllib.parse import urlsplit


def host_of(origin: str) -> str | None:
    """Host and port of an origin as in a Host header; None for the origin `null`."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
