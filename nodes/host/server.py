"""The host's web server: events to the page that queued the prompt, and routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from comfy_execution.progress import get_progress_state
from server import PromptServer

from ...stream.preview.messages import Emit, JsonObject, Origin


def emit(event: str, payload: Mapping[str, object]) -> None:
    """Send a JSON event to the page that queued the running prompt, if there is one."""
    web = PromptServer.instance
    web.send_sync(event, dict(payload), web.client_id)


def messenger() -> Emit:
    """A function that sends JSON events to the page that queued the running prompt.

    It works on any thread and after the prompt has ended. Without such a page it does nothing,
    because an event may give access to a take.
    """
    web, page = PromptServer.instance, PromptServer.instance.client_id

    def send(event: str, payload: JsonObject) -> None:
        if page is not None:
            web.send_sync(event, payload, page)

    return send


def prompt_id() -> str:
    """The id of the running prompt."""
    return str(get_progress_state().prompt_id)


def origin(node_id: str | None, canvas: Mapping[str, Any] | None) -> Origin:
    """Where a node of the running prompt is; `canvas` is its hidden input with the workflow."""
    node = node_id or ""
    return Origin(
        node,
        get_progress_state().dynprompt.get_display_node_id(node),
        prompt_id(),
        ((canvas or {}).get("workflow") or {}).get("id"),
        PromptServer.instance.client_id,
    )


def has_page() -> bool:
    """Whether a page queued the running prompt, or watches it."""
    return PromptServer.instance.client_id is not None


def has_web_server() -> bool:
    """Whether routes can be added."""
    return getattr(getattr(PromptServer, "instance", None), "routes", None) is not None


def can_be_watched() -> bool:
    """Whether a page can ask for previews, now or later."""
    return has_web_server() or has_page()


def serve(routes: Iterable[Any]) -> None:
    """Add aiohttp routes to the host's web server; possible only while packs are loaded."""
    for route in routes:
        add = PromptServer.instance.routes.route(route.method, route.path, **route.kwargs)
        add(route.handler)


def guard(middleware: Any) -> None:
    """Let an aiohttp middleware see each request to the host's web server before the host's own.

    Possible only while packs are loaded.
    """
    PromptServer.instance.app.middlewares.insert(0, middleware)
