"""One-line messages for a real core's rejections and failures."""

from __future__ import annotations

from typing import Any

from ...errors import is_own_type


def refusal(error: dict[str, Any], node_errors: dict[str, Any]) -> str:
    """Describe why the core rejected a prompt, by the first faulty node if there is one."""
    for node_id, fault in node_errors.items():
        first = fault["errors"][0]
        reason = f"{first['message']}: {first['details']}"
        if first["type"] == "custom_validation_failed":  # `INPUT - sentence of the node`
            reason = first["details"].partition(" - ")[2] or reason
        return f"Node {node_id} ({fault['class_type']}): {reason}"
    return f"{error['message']} {error['details']}".strip()


def failure(error: dict[str, Any]) -> str:
    """Describe an error raised by a node; this pack's own errors are sentences already."""
    label = f"Node {error['node_id']} ({error['node_type']})"
    kind, message = error["exception_type"], error["exception_message"].strip()
    return f"{label}: {message}" if is_own_type(kind) else f"{label} failed with {kind}: {message}"
