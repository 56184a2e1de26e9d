"""The progress of a server's prompts, from its websocket; without one, the queue is polled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from .answers import bar
from .client import Client, ServerLost

POLL_S, POLL_WITH_SOCKET_S = 1.0, 10.0
RECONNECT_S = 5.0
ENDS = ("execution_success", "execution_error", "execution_interrupted")
SAMPLER = "LongtakeSampler"

Bar = tuple[int, int]


class ProgressWatch:
    """Listens to one server and reports the progress of followed prompts."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._connected = False
        self._ended: dict[str, asyncio.Event] = {}
        self._rows: dict[str, tuple[Mapping[str, Any], Callable[[int, int], None]]] = {}

    async def run(self) -> None:
        """Keep a connection open until cancelled."""
        while True:
            with suppress(ServerLost):
                await self._client.listen(self._receive)
            self._connected = False
            await asyncio.sleep(RECONNECT_S)

    def follow(
        self, prompt_id: str, prompt: Mapping[str, Any], report: Callable[[int, int], None]
    ) -> None:
        """Call `report(done, total)` for a prompt; counts chunks if it has our sampler."""
        self._ended[prompt_id] = asyncio.Event()
        self._rows[prompt_id] = prompt, report

    def forget(self, prompt_id: str) -> None:
        """Stop following a prompt."""
        del self._ended[prompt_id], self._rows[prompt_id]

    async def wait(self, prompt_id: str) -> None:
        """Return when the prompt may have ended."""
        limit = POLL_WITH_SOCKET_S if self._connected else POLL_S
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ended[prompt_id].wait(), limit)

    def _receive(self, message: Mapping[str, Any]) -> None:
        self._connected = True
        name, content = message.get("type"), message.get("data")
        if not isinstance(content, dict):
            return
        prompt_id = content.get("prompt_id")
        if not isinstance(prompt_id, str) or prompt_id not in self._rows:
            return
        if name in ENDS:
            self._ended[prompt_id].set()
        elif name == "progress_state":
            prompt, report = self._rows[prompt_id]
            nodes = content.get("nodes")
            bar = _bar(nodes, prompt) if isinstance(nodes, dict) else None
            if bar is not None:
                report(*bar)


def _bar(nodes: Mapping[str, Any], prompt: Mapping[str, Any]) -> Bar | None:
    """Return the bar that counts chunks, else the bar of a running node, else None."""
    samplers = [n for n, node in prompt.items() if node.get("class_type") == SAMPLER]
    working = [
        name
        for name, node in nodes.items()
        if isinstance(node, dict) and node.get("state") == "running"
    ]
    bars = (bar(nodes.get(name)) for name in (*samplers, *working))
    return next((candidate for candidate in bars if candidate is not None), None)
