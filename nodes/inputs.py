"""The inputs of a node, checked before it runs: what hosts leave unchecked."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from functools import wraps
from typing import Any, TypeVar

from comfy_api.latest import io

from ..errors import BadInput
from .socket_values import check_socket, has_check
from .widgets import check_widget

MISSPELT = 0.75  # likeness of two names
N = TypeVar("N", bound=type[io.ComfyNode])


def limited(node: N) -> N:
    """Let a node refuse values that its widgets and sockets do not take."""
    run = node.execute.__func__  # type: ignore[attr-defined]

    @wraps(run)
    def execute(cls: type[io.ComfyNode], *links: Any, **values: Any) -> Any:
        return run(cls, *links, **checked(cls, values))

    @wraps(run)
    async def execute_async(cls: type[io.ComfyNode], *links: Any, **values: Any) -> Any:
        return await run(cls, *links, **checked(cls, values))

    chosen = execute_async if inspect.iscoroutinefunction(run) else execute
    node.execute = classmethod(chosen)  # type: ignore[assignment, method-assign]
    return node


def checked(node: type[io.ComfyNode], values: dict[str, Any]) -> dict[str, Any]:
    """Refuse the first value that its widget or socket does not take, and return the others.

    An optional input that got nothing is as without a link: the node's own default holds.
    """
    inputs, schema = dict(values), node.define_schema()
    _check_names(schema, values)
    for place in schema.inputs:
        if place.id not in values:
            continue
        value = values[place.id]
        if value is None and place.optional:
            del inputs[place.id]
        elif has_check(place):
            check_socket(place, value)
        elif value is not None:
            check_widget(place, value)
    return inputs


def _check_names(schema: io.Schema, values: dict[str, Any]) -> None:
    """Refuse an input that the node does not have: the host hands on links of any name."""
    names = [place.id for place in schema.inputs]
    unknown = next((name for name in values if name not in names), None)
    if unknown is None:
        return
    near = get_close_matches(unknown, names, 1, MISSPELT)
    advice = f"rename it to `{near[0]}`" if near else "remove it from the workflow"
    raise BadInput(f"{schema.display_name} has no input `{unknown}`; {advice}.")
