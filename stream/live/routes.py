"""The live addresses over HTTP: a running rollout as a source for OBS, VLC, ffmpeg and browsers.

/longtake/live/TOKEN/live.ts     MPEG-TS: H.264 and AAC
/longtake/live/TOKEN/live.mp4    fragmented MP4: the same
/longtake/live/TOKEN/live.mjpeg  motion JPEG, without sound

A response lasts until the viewer leaves. A viewer who reads too slowly is let go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

import av
from aiohttp import web

from ...pip_command import pip_install
from ...versions import version_numbers
from ..preview.routes import GUARDED
from .sources import LiveSources, NotLive, TooManyViewers
from .viewers import BOUNDARY, ByteQueue, PictureViewer, VideoViewer, Viewer

COPIES_HEADERS = "17.0"
"""PyAV's version since which an MP4 gets the header of the encoder whose packets are in it."""
STALL_S = 5.0  # how long a viewer may take no byte at all
ADDRESS = r"/longtake/live/{token:[A-Za-z0-9_-]{1,64}}/live.{ending:ts|mp4|mjpeg}"
CONTENT_TYPES = {
    "ts": "video/mp2t",
    "mp4": "video/mp4",
    "mjpeg": f"multipart/x-mixed-replace; boundary={BOUNDARY}",
}
VIEWERS: Mapping[str, Callable[[ByteQueue], Viewer]] = {
    "ts": lambda queue: VideoViewer("mpegts", queue),
    "mp4": lambda queue: VideoViewer("mp4", queue),
    "mjpeg": PictureViewer,
}


def live_routes(sources: LiveSources) -> web.RouteTableDef:
    """The routes for the live addresses of `sources`."""
    routes = web.RouteTableDef()

    @routes.get(ADDRESS)
    async def live(request: web.Request) -> web.StreamResponse:
        token, ending = request.match_info["token"], request.match_info["ending"]
        headers = {**GUARDED, "Content-Type": CONTENT_TYPES[ending], "Accept-Ranges": "none"}
        if request.method == "HEAD":
            return web.Response(headers=headers)
        if reason := unusable_reason(ending, av.__version__):
            return web.json_response({"error": reason}, status=501, headers=GUARDED)
        viewer = VIEWERS[ending](ByteQueue())
        try:
            sources.join(token, viewer)
        except NotLive as refusal:
            status = 503 if isinstance(refusal, TooManyViewers) else 404
            return web.json_response({"error": str(refusal)}, status=status, headers=GUARDED)
        try:
            return await _send(request, viewer, headers)
        finally:
            sources.leave(token, viewer)

    return routes


def unusable_reason(ending: str, pyav: str) -> str | None:
    """Why this version of PyAV cannot serve addresses with that ending, or None."""
    if ending != "mp4" or version_numbers(pyav) >= version_numbers(COPIES_HEADERS):
        return None
    return (
        f"live.mp4 needs PyAV {COPIES_HEADERS} or newer, and this is {pyav}; "
        f"use live.ts, or run: {pip_install('--upgrade av')}"
    )


async def _send(
    request: web.Request, viewer: Viewer, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Pass the viewer's bytes on until the broadcast ends, or the viewer leaves or stalls."""
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    with suppress(ConnectionError, asyncio.TimeoutError):
        while (content := await viewer.queue.read()) is not None:
            await asyncio.wait_for(response.write(content), STALL_S)
        if not viewer.queue.is_slow:
            await response.write_eof()
            return response
    if request.transport is not None:
        request.transport.abort()  # without waiting for a viewer that takes nothing
    return response
