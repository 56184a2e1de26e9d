"""The address of a server or a driver, as a user writes it."""

from __future__ import annotations

from yarl import URL

from ....errors import BadInput


def server_url(text: str) -> URL:
    """Parse an address, of which `host:port` is enough; raise BadInput."""
    try:
        url = URL(text if "://" in text else f"http://{text}")
        valid = url.scheme in ("http", "https") and url.host
    except ValueError:
        valid = False
    if not valid:
        raise BadInput(f"{text!r} is not an address such as http://127.0.0.1:8188.")
    return url.with_query(None).with_fragment(None)
