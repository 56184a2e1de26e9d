"""The weights file behind an input, by the workflow: a MODEL of another node may not say it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

WEIGHTS = (".gguf", ".safetensors", ".sft", ".pt", ".pth", ".ckpt")
MODEL = "model"  # as nodes call the model that they change


def source_name(workflow: Mapping[str, Any] | None, node_id: str | None, name: str) -> Path | None:
    """The file that a loader behind the input `name` of a node names; None where none is clear.

    `workflow` is the host's, in API form.
    """
    nodes = workflow or {}
    link = _inputs(nodes, node_id).get(name)
    for _ in nodes:
        if not isinstance(link, list):
            return None
        inputs = _inputs(nodes, link[0])
        if MODEL not in inputs:
            files = [t for t in inputs.values() if isinstance(t, str) and _is_file(t)]
            return Path(files[0].replace("\\", "/")) if len(files) == 1 else None
        link = inputs[MODEL]
    return None


def _is_file(text: str) -> bool:
    return text.lower().endswith(WEIGHTS)


def _inputs(nodes: Mapping[str, Any], node_id: str | None) -> Mapping[str, Any]:
    inputs: Mapping[str, Any] = nodes.get(node_id or "", {}).get("inputs", {})
    return inputs
