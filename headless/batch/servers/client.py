"""The few requests to a ComfyUI server that a batch needs.

`ServerLost` means that the server's state is unknown: ask again once it answers. `BadAnswer` means
that nothing it says can be trusted. Every other error is final and one sentence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from ....errors import BadInput, LongtakeError, StorageError
from ....machine.temporary_files import put_in_place
from ...workflow.node_spec import NodeSpec, node_from_object_info
from .answers import BadAnswer, as_object, decode, is_listed, node_errors, short
from .reasons import reason_of
from .silence import Silences, answer_unless_silent

TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10, sock_read=60)
GATEWAY_ERRORS = (502, 503, 504)  # from a proxy whose server is down
ANSWER_TIMEOUT = aiohttp.ClientTimeout(total=300, connect=10, sock_read=60)
MAX_MESSAGE_BYTES = 1 << 26
MAX_FILE_BYTES = 1 << 36
PIECE_BYTES = 1 << 18
TOO_LARGE = 413
WEB_PAGE = "text/html"  # ComfyUI calls files of this type something else
GREETING = "system_stats"
OUR_NODES = "Longtake"  # prefix of this pack's node ids
TEXT = aiohttp.WSMsgType.TEXT


class ServerLost(Exception):
    """The server does not answer."""


class FileMissing(Exception):
    """The server does not have a file that its history lists."""


class Refusal(LongtakeError):
    """The server rejected a request."""


class Client:
    """One server. `name` is its address without the password or token."""

    def __init__(self, session: aiohttp.ClientSession, url: URL, client_id: str) -> None:
        self.name = str(url.with_user(None).with_query(None)).rstrip("/")
        self._session = session
        self._url = url
        self._client_id = client_id
        self._silences = Silences()

    async def greet(self) -> None:
        """Return if a ComfyUI server answers; raise `BadInput` if anything else does."""
        status, text = await self._ask("GET", GREETING)
        if status in (401, 403):
            raise BadInput(
                f"{self.name} needs a password ({status}); write it as http://USER:PASSWORD@HOST, "
                "or a token as http://HOST?token=TOKEN."
            )
        answer = decode(text)
        if status != 200 or not isinstance(answer, dict) or "system" not in answer:
            raise BadInput(
                f"{self.name} is not a ComfyUI server (its /system_stats answers {status} "
                f"{short(text)!r}); check --server."
            )

    async def specs(self, class_types: Iterable[str]) -> dict[str, NodeSpec]:
        """Return the specs of the node types that the server has."""
        specs = {}
        for name in dict.fromkeys(class_types):
            answer = await self._json("GET", "object_info", quote(name, safe=""))
            if name in answer:
                specs[name] = _spec(name, answer[name])
        return specs

    async def queue(self, prompt: Mapping[str, object], prompt_id: str) -> None:
        """Queue a workflow under our id; `Refusal` is about this workflow."""
        body = {"prompt": prompt, "prompt_id": prompt_id, "client_id": self._client_id}
        status, text = await self._ask("POST", "prompt", body=body)
        answer = decode(text)
        is_partial = status == 200 and isinstance(answer, dict) and bool(answer.get("node_errors"))
        if is_partial:  # the server has queued the outputs that have no errors
            await self.drop([prompt_id])
        if is_partial or (status == 400 and isinstance(answer, dict)):
            raise Refusal(f"{self.name} rejected the workflow: {node_errors(answer, prompt)}.")
        if status == TOO_LARGE:
            raise Refusal(f"{self.name} takes no workflow of this size; make it smaller.")
        if status != 200 or not isinstance(answer, dict):
            raise BadAnswer(f"it answers {status} to POST /prompt: {short(text)}")
        if answer.get("prompt_id") != prompt_id:
            raise BadAnswer("it ignores our prompt ids (ComfyUI 0.21 or newer keeps them)")

    async def place(self, prompt_id: str) -> str | None:
        """Return `running`, `pending`, or None if the prompt is not in the queue."""
        answer = await self._json("GET", "queue")
        places = ("running", "pending")
        listed = {place: is_listed(answer, f"queue_{place}", prompt_id) for place in places}
        return next((place for place in places if listed[place]), None)

    async def finished(self, prompt_id: str) -> dict[str, Any] | None:
        """Return the prompt's entry in the history, or None if it has not ended."""
        answer = await self._json("GET", "history", prompt_id)
        entry = answer.get(prompt_id)
        return None if entry is None else as_object(entry, "the history of a prompt")

    async def drop(self, prompt_ids: Iterable[str]) -> None:
        """Remove prompts from the queue and interrupt running ones."""
        for prompt_id in prompt_ids:
            await self._ask("POST", "queue", body={"delete": [prompt_id]})
            await self._ask("POST", "interrupt", body={"prompt_id": prompt_id})

    async def download(self, place: Mapping[str, str], target: Path) -> None:
        """Copy one output file; it gets its name only when complete."""
        part = target.with_name(f"{target.name}.part")
        async with self._open("GET", "view", params=dict(place)) as answer:
            if answer.status != 200:
                raise FileMissing(
                    f"it lists the file {short(place['filename'])} and does not have it (/view "
                    f"answers {answer.status})"
                )
            if answer.content_type == WEB_PAGE:
                raise BadAnswer(
                    f"it sends a web page for the file {short(place['filename'])}; does a login "
                    "page answer for it?"
                )
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with part.open("wb") as file:
                    async for piece in answer.content.iter_chunked(PIECE_BYTES):
                        file.write(piece)
                        if file.tell() > MAX_FILE_BYTES:
                            raise BadAnswer(f"its file {short(place['filename'])} has no end")
                await asyncio.to_thread(put_in_place, part, target)
            except (aiohttp.ClientError, asyncio.TimeoutError):
                raise
            except OSError as error:
                raise StorageError(
                    f"{target} cannot be written ({error.strerror}); free some space."
                ) from error

    async def listen(self, receive: Callable[[Mapping[str, Any]], None]) -> None:
        """Pass on the server's messages until the connection ends."""
        url = self._address("ws").update_query(clientId=self._client_id)
        try:
            async with self._session.ws_connect(
                url, heartbeat=30, max_msg_size=MAX_MESSAGE_BYTES
            ) as socket:
                async for message in socket:
                    content = decode(message.data) if message.type == TEXT else None
                    if isinstance(content, dict):
                        receive(content)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise ServerLost(reason_of(error)) from error

    async def _json(self, method: str, *path: str) -> dict[str, Any]:
        status, text = await self._ask(method, *path)
        answer = decode(text)
        if status != 200 or not isinstance(answer, dict):
            raise BadAnswer(f"it answers {status} to /{path[0]}: {short(text)}")
        return answer

    async def _ask(self, method: str, *path: str, body: object = None) -> tuple[int, str]:
        async with self._open(method, *path, json=body, timeout=ANSWER_TIMEOUT) as answer:
            text = bytearray()
            async for piece in answer.content.iter_chunked(PIECE_BYTES):
                text += piece
                if len(text) > MAX_MESSAGE_BYTES:
                    raise BadAnswer(f"its answer to /{path[0]} has no end")
            return answer.status, text.decode(errors="replace")

    def _address(self, *path: str) -> URL:
        """The address of a route, with the token of the server's own address."""
        return self._url.joinpath(*path, encoded=True).with_query(self._url.query)

    @asynccontextmanager
    async def _open(
        self, method: str, *path: str, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        route, began = path[0], time.monotonic()
        request = self._session.request(method, self._address(*path), **options)
        try:
            async with await self._first_bytes(request, route) as answer:
                if answer.status in GATEWAY_ERRORS:
                    raise ServerLost(f"a gateway answers {answer.status}")
                yield answer
            self._silences.forget(route)
        except asyncio.TimeoutError as error:
            if not isinstance(error, aiohttp.ConnectionTimeoutError) and route != GREETING:
                self._silences.add(route, began)
            reason = reason_of(error) if str(error) else f"no answer to /{route}"
            raise ServerLost(reason) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise ServerLost(reason_of(error)) from error

    async def _first_bytes(
        self, request: Awaitable[aiohttp.ClientResponse], route: str
    ) -> aiohttp.ClientResponse:
        """The answer with its body still to come."""
        return await (request if route == GREETING else answer_unless_silent(request, self._greets))

    async def _greets(self, limit_s: float) -> bool:
        """Whether the server answers anything at all within `limit_s`."""
        limit = aiohttp.ClientTimeout(total=limit_s)
        with suppress(aiohttp.ClientError, asyncio.TimeoutError, ConnectionError):
            async with self._session.get(self._url / GREETING, timeout=limit):
                return True
        return False


def _spec(name: str, record: Any) -> NodeSpec:
    try:
        return node_from_object_info(name, record, foreign=not name.startswith(OUR_NODES))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise BadAnswer(f"its /object_info describes {name} in a form of its own") from error
