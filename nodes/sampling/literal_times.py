"""Finds lines for a Prompt Timeline in CLIP Text Encode, which takes times for words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...timed_lines import match_time

TEXT_ENCODE = "CLIPTextEncode"


def literal_times(workflow: Mapping[str, Any] | None, sampler_id: str | None) -> list[str]:
    """A warning if the prompt of a sampler comes from CLIP Text Encode and has lines with times.

    `workflow` is the host's, in API form.
    """
    text = _encoded_text(workflow or {}, sampler_id)
    time = None if text is None else _first_time(text)
    if time is None:
        return []
    return [
        f"The prompt has the time `{time}`, which CLIP Text Encode takes for words; use Prompt "
        "Timeline in its place."
    ]


def _encoded_text(workflow: Mapping[str, Any], sampler_id: str | None) -> str | None:
    """The text of the CLIP Text Encode that is connected to `prompts`; None for other nodes."""
    link = _inputs(workflow, sampler_id).get("prompts")
    if not isinstance(link, list) or workflow.get(link[0], {}).get("class_type") != TEXT_ENCODE:
        return None
    text = _inputs(workflow, link[0]).get("text")
    return text if isinstance(text, str) else None


def _inputs(workflow: Mapping[str, Any], node_id: str | None) -> Mapping[str, Any]:
    inputs: Mapping[str, Any] = workflow.get(node_id or "", {}).get("inputs", {})
    return inputs


def _first_time(text: str) -> str | None:
    """The first time at the front of a line, such as `5:`; `16:9 picture` has none."""
    for line in text.splitlines():
        match = match_time(line)
        if match and not (match["text"][:1].isdigit() and line[match.start("text") - 1] != " "):
            return line[: match.start("text")].strip()
    return None
