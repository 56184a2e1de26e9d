"""The preview's HTTP routes, for any aiohttp server: ComfyUI's, or headless/player/app.py.

docs/reference/security.md says what the routes can and cannot do. No handler uses torch or waits
for a disk. No route takes a path. GET changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from .origin import OTHER_SITE, is_page_of
from .requests import BadRequest, read_client_id, read_control, read_fault
from .steer_request import read_steer
from .take import Take
from .takes import Takes

MAX_BODY_BYTES = 64 * 1024
PICTURE, MAX_PICTURE_BYTES = "image/jpeg", 1024 * 1024
BODY_LIMIT_S = 15.0
TAKE = r"/longtake/takes/{take:[A-Za-z0-9_-]{1,64}}"
UNKNOWN = "This clip is no longer in the preview store; run the workflow again to see it."
NOT_DRIVING = {
    "other": "Another tab drives; take the wheel to drive from here.",
    "ended": "The run has ended; its drive can be kept.",
    "no camera": "Nothing moves this run's camera; connect a camera path to drive it.",
    "several shots": "This video shows several shots; drive each in a preview of its own.",
}
GUARDED = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}
IMMUTABLE = {**GUARDED, "Cache-Control": "private, max-age=3600, immutable"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def take_routes(takes: Takes) -> web.RouteTableDef:
    """The routes for the takes in a store."""
    routes = web.RouteTableDef()

    @routes.get("/longtake/alive")
    async def alive(request: web.Request) -> web.Response:
        return _json({})

    @routes.get(TAKE)
    @_with_errors
    async def manifest(request: web.Request) -> web.Response:
        return _json(_take(takes, request).manifest())

    @routes.get(TAKE + r"/chunks/{seq:0|[1-9][0-9]{0,11}}")
    @_with_errors
    async def chunk(request: web.Request) -> web.Response:
        return await _chunk(_take(takes, request), int(request.match_info["seq"]))

    @routes.post(TAKE + "/control")
    @_with_errors
    async def control(request: web.Request) -> web.Response:
        body = await _read_post(request)
        return _control(_take(takes, request), body)

    @routes.get(TAKE + "/drive")
    @_with_errors
    async def drive_lines(request: web.Request) -> web.Response:
        return _json({"lines": _take(takes, request).controls.drive_lines})

    @routes.post(TAKE + "/drive")
    @_with_errors
    async def steer(request: web.Request) -> web.Response:
        body = await _read_post(request)
        return _steer(_take(takes, request), body)

    @routes.post(TAKE + "/input")
    @_with_errors
    async def picture(request: web.Request) -> web.Response:
        return await _take_picture(_take(takes, request), request)

    @routes.post("/longtake/attach")
    @_with_errors
    async def attach(request: web.Request) -> web.Response:
        client_id = read_client_id(await _read_post(request))
        listed = takes.of_client(client_id)
        return _json({"takes": [{"take": t.token, **t.origin.to_json()} for t in listed]})

    return routes


class _Refusal(Exception):
    """Answers a request with an HTTP status and one sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def _with_errors(handler: Handler) -> Handler:
    """Turn refusals into JSON answers."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except BadRequest as error:
            return _json({"error": str(error)}, 400)
        except _Refusal as refused:
            return _json({"error": str(refused)}, refused.status)

    return answer


def _json(content: Mapping[str, object], status: int = 200) -> web.Response:
    return web.json_response(dict(content), status=status, headers=GUARDED)


def _take(takes: Takes, request: web.Request) -> Take:
    take = takes.get(request.match_info["take"])
    if take is None:
        raise _Refusal(404, UNKNOWN)
    return take


async def _chunk(take: Take, seq: int) -> web.Response:
    blob = take.blob(seq)
    if blob is None:
        raise _Refusal(404, f"Chunk {seq} does not exist yet.")
    content = blob.content
    if content is None:
        content = await asyncio.get_running_loop().run_in_executor(None, blob.read)
    if content is None:
        raise _Refusal(410, f"Chunk {seq} is no longer in the preview store.")
    return web.Response(body=content, content_type="application/octet-stream", headers=IMMUTABLE)


def _control(take: Take, body: bytes) -> web.Response:
    request = read_control(body)
    obeyed = take.controls.obey(request.rev, request.command)
    state = {"state": take.state, "control_rev": take.controls.rev}
    if obeyed:
        return _json(state)
    error = "The take has ended or a newer request came first; see state and control_rev."
    return _json({**state, "error": error}, 409)


def _steer(take: Take, body: bytes) -> web.Response:
    answer = take.controls.steer(read_steer(body))
    if answer == "drives":
        return _json({"answer": answer, "motion": take.controls.drive_motion})
    return _json({"answer": answer, "error": NOT_DRIVING[answer]})


async def _take_picture(take: Take, request: web.Request) -> web.Response:
    """A JPEG of a page's camera or screen, or why there is none."""
    if request.content_type == PICTURE:
        picture = await _read_post(request, PICTURE, MAX_PICTURE_BYTES)
        return _json({"wanted": take.controls.put_picture(picture)})
    fault = read_fault(await _read_post(request))
    return _json({"wanted": take.controls.note_fault(fault)})


async def _read_post(
    request: web.Request, kind: str = "application/json", most_bytes: int = MAX_BODY_BYTES
) -> bytes:
    """The body of a request from our own page, within the limits of size and time."""
    if not _is_own_page(request.headers):
        raise _Refusal(403, OTHER_SITE)
    if request.content_type != kind or "Content-Encoding" in request.headers:
        raise _Refusal(415, f"The body must be plain {kind}.")
    if (request.content_length or 0) > most_bytes:
        raise _Refusal(413, f"The body must be at most {most_bytes} bytes.")
    try:
        return await asyncio.wait_for(_body(request, most_bytes), BODY_LIMIT_S)
    except asyncio.TimeoutError:
        raise _Refusal(408, f"The body took more than {BODY_LIMIT_S:g} s.") from None
    except ConnectionError:  # the page has closed; a server would print a traceback
        raise _Refusal(400, "The body broke off.") from None


async def _body(request: web.Request, most_bytes: int) -> bytes:
    body = bytearray()
    async for piece in request.content.iter_chunked(8192):
        body += piece
        if len(body) > most_bytes:
            raise _Refusal(413, f"The body must be at most {most_bytes} bytes.")
    return bytes(body)


def _is_own_page(headers: Mapping[str, str]) -> bool:
    """Whether the browser confirms that our own page sent the request.

    A client that is no browser sends neither header. A web page cannot trick it, so it is allowed.
    """
    site, origin = headers.get("Sec-Fetch-Site", "none"), headers.get("Origin")
    if site == "same-origin":
        return True  # no page can write this header, and a proxy may have rewritten Host
    is_own = origin is None or is_page_of(origin, headers.get("Host", ""))
    return site == "none" and is_own
