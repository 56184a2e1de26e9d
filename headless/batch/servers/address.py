"""The address of a server or a driver, as a user writes it."""

from __future__ import annotations

from yarl import URL

from ....errors import BadInput


def server_url(text: str) -> URL:
    """Parse a server's address, of which `host:port` is enough; raise BadInput.

    What follows a `?` goes with each request: some servers take their password, a token, there.
    """
    try:
        url = URL(text if "://" in text else f"http://{text}")
        valid = url.scheme in ("http", "https") and url.host
    except ValueError:
        valid = False
    if not valid:
        raise BadInput(f"{text!r} is not an address such as http://127.0.0.1:8188.")
    return url.with_fragment(None)


def driver_url(text: str) -> URL:
    """Parse a driver's address, of which `host:port` is enough; raise BadInput."""
    return server_url(text).with_query(None)
