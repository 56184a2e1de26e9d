"""A small client of a ComfyUI server: queue a prompt, keep every message it sends, read the
history.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

Workflow = dict[str, dict[str, Any]]
ENDS = ("execution_success", "execution_error", "execution_interrupted")
TEXT_EVENT, PREVIEW_EVENT = 3, 4
LIMIT_S = 1800


@dataclass(slots=True)
class Run:
    """What one prompt did: its messages in order, how it ended, and the outputs in the history."""

    messages: list[tuple[str, Any]] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)

    @property
    def end(self) -> tuple[str, Any]:
        """Name and data of the last message."""
        return self.messages[-1]

    @property
    def cached(self) -> list[str]:
        """Ids of nodes that were not run again."""
        return next(data["nodes"] for name, data in self.messages if name == "execution_cached")

    def values(self, node: str) -> list[int]:
        """The progress values of one node, as they came, without repeats."""
        found: list[int] = []
        for name, data in self.messages:
            if name == "progress" and data["node"] == node and data["value"] not in found[-1:]:
                found.append(data["value"])
        return found

    def pictures(self, node: str) -> int:
        """How many preview pictures the node got."""
        return sum(name == "preview" and data["node_id"] == node for name, data in self.messages)

    def texts(self, node: str) -> list[str]:
        """What was written under the node, in order."""
        return [data[1] for name, data in self.messages if name == "text" and data[0] == node]


OnMessage = Callable[["Client", str, Any], Awaitable[None]]


@dataclass(slots=True)
class Client:
    """One server, its base folder and its log file."""

    url: str
    base: Path
    log: Path

    def run(
        self,
        workflow: Workflow,
        on_message: OnMessage | None = None,
        canvas: dict[str, Any] | None = None,
    ) -> Run:
        """Queue a workflow and wait for its end; `on_message` sees every message as it comes.

        `canvas` is the workflow that the page would send along.
        """
        return asyncio.run(asyncio.wait_for(self._run(workflow, on_message, canvas), LIMIT_S))

    def refusal(self, workflow: Workflow) -> dict[str, Any]:
        """The server's answer to a workflow that it must refuse."""
        return asyncio.run(self._refusal(workflow))

    def get(self, path: str) -> str:
        """The text at a path of the server."""
        return asyncio.run(self._get(path))

    async def interrupt(self) -> None:
        """Press Cancel."""
        async with aiohttp.ClientSession() as session, session.post(f"{self.url}/interrupt"):
            pass

    async def _get(self, path: str) -> str:
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.get(f"{self.url}{path}") as answer,
        ):
            return await answer.text()

    async def _refusal(self, workflow: Workflow) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/prompt", json={"prompt": workflow}) as answer,
        ):
            assert answer.status == 400
            return await answer.json()

    async def _run(
        self, workflow: Workflow, on_message: OnMessage | None, canvas: dict[str, Any] | None
    ) -> Run:
        run = Run()
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self.url}/ws?clientId=test") as socket,
        ):
            await socket.send_json(
                {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
            )
            queued: dict[str, Any] = {"prompt": workflow, "client_id": "test"}
            if canvas is not None:
                queued["extra_data"] = {"extra_pnginfo": {"workflow": canvas}}
            async with session.post(f"{self.url}/prompt", json=queued) as answer:
                body = await answer.json()
            assert answer.status == 200 and not body["node_errors"], body
            while not run.messages or run.end[0] not in ENDS:
                name, data = _read(await socket.receive())
                run.messages.append((name, data))
                if on_message is not None:
                    await on_message(self, name, data)
            run.outputs = await self._outputs(session, body["prompt_id"])
        return run

    async def _outputs(self, session: aiohttp.ClientSession, prompt_id: str) -> dict[str, Any]:
        while True:  # the history is written shortly after the last message
            async with session.get(f"{self.url}/history/{prompt_id}") as answer:
                entry = (await answer.json()).get(prompt_id)
            if entry is not None:
                return entry["outputs"]
            await asyncio.sleep(0.05)


def _read(message: aiohttp.WSMessage) -> tuple[str, Any]:
    if message.type == aiohttp.WSMsgType.TEXT:
        event = message.json()
        return event["type"], event["data"]
    kind = struct.unpack(">I", message.data[:4])[0]
    if kind == TEXT_EVENT:
        size = struct.unpack(">I", message.data[4:8])[0]
        return "text", (message.data[8 : 8 + size].decode(), message.data[8 + size :].decode())
    if kind != PREVIEW_EVENT:
        return f"binary {kind}", message.data[4:]
    size = struct.unpack(">I", message.data[4:8])[0]
    return "preview", json.loads(message.data[8 : 8 + size])
