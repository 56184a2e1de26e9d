"""The web page that sends a request, as the browser names it."""

from __future__ import annotations

from urllib.parse import urlsplit

OTHER_SITE = (
    "Requests from other sites are refused. A proxy must pass on the Host header of the browser."
)
USUAL_PORTS = {"http": ":80", "https": ":443"}


def is_page_of(origin: str, host: str) -> bool:
    """Whether an Origin header names the server of a Host header; `null` names none.

    Browsers leave out the usual port of a scheme, but a proxy may write it into Host.
    """
    try:
        page = urlsplit(origin)
    except ValueError:
        return False
    port = USUAL_PORTS.get(page.scheme, "")
    names = [name.lower().removesuffix(port) for name in (page.netloc, host)]
    return page.netloc != "" and names[0] == names[1]
