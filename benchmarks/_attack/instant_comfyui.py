"""A ComfyUI server that has finished each prompt as soon as it is queued."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from aiohttp import web

NODES = {
    "Count": {
        "input": {
            "required": {
                "seed": ["INT", {"default": 0, "min": 0, "max": 99}],
                "scale": ["FLOAT", {"default": 1.0}],
                "text": ["STRING", {"default": ""}],
                "kind": [["up", "down"], {}],
            }
        },
        "output": ["IMAGE"],
        "output_node": False,
    },
    "Save": {
        "input": {"required": {"images": ["IMAGE"]}},
        "output": [],
        "output_node": True,
    },
}
WORKFLOW = {
    "1": {"class_type": "Count", "inputs": {"seed": 1, "scale": 1.0, "text": "a", "kind": "up"}},
    "2": {"class_type": "Save", "inputs": {"images": ["1", 0]}, "_meta": {"title": "Keep"}},
}

ENTRY = {
    "outputs": {"2": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}},
    "status": {"status_str": "success", "messages": [["execution_start", {"timestamp": 1}]]},
}


class InstantComfyUI:
    """A context manager; override a handler to change what the server says."""

    def __init__(self) -> None:
        self.url = ""
        self.queued: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> InstantComfyUI:
        self._thread.start()
        self._runner = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def greet(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"system": {}})

    async def specs(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        return web.json_response({name: NODES[name]} if name in NODES else {})

    async def prompt(self, request: web.Request) -> web.StreamResponse:
        prompt_id = (await request.json())["prompt_id"]
        self.queued.add(prompt_id)
        return web.json_response({"prompt_id": prompt_id})

    async def history(self, request: web.Request) -> web.StreamResponse:
        prompt_id = request.match_info["prompt_id"]
        return web.json_response({prompt_id: self.entry()} if prompt_id in self.queued else {})

    async def queue(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"queue_running": [], "queue_pending": []})

    async def accept(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({})

    async def view(self, _: web.Request) -> web.StreamResponse:
        return web.Response(body=b"a picture")

    def entry(self) -> Any:
        """The history of every finished prompt."""
        return ENTRY

    async def _stop(self) -> None:
        await self._runner.cleanup()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _start(self) -> web.AppRunner:
        application = web.Application()
        application.add_routes(
            [
                web.get("/system_stats", self.greet),
                web.get("/object_info/{name}", self.specs),
                web.post("/prompt", self.prompt),
                web.get("/history/{prompt_id}", self.history),
                web.get("/queue", self.queue),
                web.post("/queue", self.accept),
                web.post("/interrupt", self.accept),
                web.get("/view", self.view),
            ]
        )
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner
