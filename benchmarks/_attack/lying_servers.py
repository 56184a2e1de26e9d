"""ComfyUI servers that lie, refuse, hang or have no end, by what is wrong with them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from .instant_comfyui import ENTRY, InstantComfyUI

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
FOREVER_S = 3600.0


def lying_server(kind: str) -> InstantComfyUI:
    """A server of one of the kinds below, to be opened."""
    server = InstantComfyUI()
    if kind in LIES:
        for name, handler in LIES[kind].items():
            setattr(server, name, handler)
    else:
        entry = {**BAD_ENTRIES, **ODD_ENTRIES}[kind]
        server.entry = lambda: entry  # type: ignore[method-assign]
    return server


def answering(content: Any, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        text = content if isinstance(content, str) else json.dumps(content)
        return web.Response(text=text, status=status)

    return handler


async def endless(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(10_000):
        await answer.write(b"x" * 4096)
    return answer


async def hanging(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(FOREVER_S)
    return web.Response()


async def stopping(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    await answer.write(b"{")
    return await hanging(request)


async def drop_connection(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def shown(**file: Any) -> dict[str, Any]:
    return {**ENTRY, "outputs": {"2": {"images": [{"type": "output", "subfolder": "", **file}]}}}


LIES: dict[str, dict[str, Handler]] = {
    "a queue of numbers": {"history": answering({}), "queue": answering({"queue_running": [1]})},
    "no queue": {"history": answering({}), "queue": answering({})},
    "a queue that is a list": {"history": answering({}), "queue": answering([])},
    "amnesia": {"history": answering({})},
    "refuses prompts": {"prompt": answering("no", 500)},
    "forbids prompts": {"prompt": answering({}, 403)},
    "prompts are HTML": {"prompt": answering("<html>")},
    "400 without reason": {"prompt": answering("[]", 400)},
    "another prompt id": {"prompt": answering({"prompt_id": "x"})},
    "no history": {"history": answering("x", 500)},
    "history is a list": {"history": answering([])},
    "history is deep": {"history": answering("[" * 50_000)},
    "history has no end": {"history": endless},
    "history hangs": {"history": hanging},
    "history is cut": {"history": drop_connection},
    "prompts hang": {"prompt": hanging},
    "the queue hangs": {"history": answering({}), "queue": hanging},
    "files hang": {"view": hanging},
    "history stops after a byte": {"history": stopping},
    "node types of its own": {"specs": answering({"Count": {"input": 3}, "Save": []})},
    "a web site": {"greet": answering("<html>")},
    "no files": {"view": answering("", 404)},
    "files have no end": {"view": endless},
}
BAD_ENTRIES: dict[str, Any] = {
    "a list": [],
    "outputs are a list": {**ENTRY, "outputs": [1]},
    "a node shows a number": {**ENTRY, "outputs": {"2": 3}},
    "success without outputs": {**ENTRY, "outputs": {}},
    "status is a word": {**ENTRY, "status": "fine"},
    "status is a number": {**ENTRY, "status": {"status_str": 7}},
    "a file is called 5": shown(filename=5),
    "a file has half a character": shown(filename="\ud800"),
    "a folder is a list": shown(filename="a", subfolder=[1]),
    "frames of any pattern": shown(pattern="%s%s%d", count=2),
    "frames of a wide pattern": shown(pattern="%999999999d", count=2),
    "a trillion frames": shown(pattern="%d.png", count=10**12),
    "some frames": shown(pattern="%d.png", count="3"),
}
ODD_ENTRIES: dict[str, Any] = {
    "messages of numbers": {**ENTRY, "status": {"messages": [1, [2], ["a", 3], [[], {}]]}},
    "messages are a word": {**ENTRY, "status": {"messages": "x"}},
    "times are words": {**ENTRY, "status": {"messages": [["execution_start", {"timestamp": "x"}]]}},
    "times are huge": {
        **ENTRY, "status": {"messages": [["execution_start", {"timestamp": 10**400}]]}
    },
    "a report that is no JSON": {"outputs": {"2": {**shown(filename="a")["outputs"]["2"],
                                                   "longtake_report": ["{", 5]}}},
    "a report of formulas": {"outputs": {"2": {**shown(filename="a")["outputs"]["2"],
                                               "longtake_report": ['{"frames": "=1"}']}}},
    "a long name": shown(filename="x" * 300 + ".png"),
    "a long name in letters of four bytes": shown(filename="\U0001f600" * 200 + ".png"),
    "a role of its own": shown(filename="a.png", role={"x": 1}),
    "names for Windows": shown(filename="a?<b>|*.png. . "),
}  # fmt: skip
