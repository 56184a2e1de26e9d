"""The host's web server: events to the page that queued the prompt, and routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from comfy_execution.progress import get_progress_state
from server import PromptServer

from ...stream.preview.messages import Emit, JsonObject, Origin


def emit(event: str, payload: Mapping[str, object]) -> None:
    """Send a JSON event to whoever queued the running prompt; nobody listening is fine."""
    web = PromptServer.instance
    web.send_sync(event, dict(payload), web.client_id)


def messenger() -> Emit:
    """Sends JSON events to the page that queued the running prompt, also when it is over.

    On any thread. Nobody hears them if no page did: what is told may open a take.
    """
    web, page = PromptServer.instance, PromptServer.instance.client_id

    def send(event: str, payload: JsonObject) -> None:
        if page is not None:
            web.send_sync(event, payload, page)

    return send


def prompt_id() -> str:
    """Which prompt is running."""
    return str(get_progress_state().prompt_id)


def origin(node_id: str | None, canvas: Mapping[str, Any] | None) -> Origin:
    """Where a node of the running prompt is; `canvas` is what it was told of the workflow."""
    named = node_id or ""
    return Origin(
        named,
        get_progress_state().dynprompt.get_display_node_id(named),
        prompt_id(),
        ((canvas or {}).get("workflow") or {}).get("id"),
        PromptServer.instance.client_id,
    )


def has_web_server() -> bool:
    """Whether routes can be added."""
    return getattr(getattr(PromptServer, "instance", None), "routes", None) is not None


def serve(routes: Iterable[Any]) -> None:
    """Add aiohttp routes to the host's web server; in time only while packs are loaded."""
    for route in routes:
        add = PromptServer.instance.routes.route(route.method, route.path, **route.kwargs)
        add(route.handler)
