"""Refuses a request to our routes whose page or host has a name that no browser sends.

ComfyUI reads these names before it looks for the route, and answers 500 where it cannot.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from .routes import GUARDED

OURS = ("/longtake/", "/api/longtake/")


@web.middleware
async def refuse_unreadable_names(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 403 with one sentence where `Origin` or `Host` of our routes cannot be read."""
    if request.path.startswith(OURS):
        names = {"Origin": "{}", "Host": "//{}"}
        for name, form in names.items():
            if not is_address(form.format(request.headers.get(name, ""))):
                text = f"Requests with an unreadable {name} header are refused."
                return web.json_response({"error": text}, status=403, headers=GUARDED)
    return await handler(request)


def is_address(address: str) -> bool:
    """Whether a web address can be taken apart, up to its port."""
    try:
        urlsplit(address).port  # noqa: B018  (raises if it is no number)
    except ValueError:
        return False
    return True
