"""What a server may say: its answers as checked values.

`BadAnswer` means that the server says what no ComfyUI says. Nothing else of it can be trusted, so
its worker sets the server aside. What only describes a row (times, a report) is dropped instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ...json_text import parse_json

MAX_TEXT = 1000
LONGEST_RUN_S = 1e9


class BadAnswer(Exception):
    """The server says what no ComfyUI says; the text continues a sentence about the server."""


def decode(text: str) -> Any:
    """Return the value of a JSON text, None for anything else."""
    try:
        return parse_json(text)
    except ValueError:
        return None


def short(text: object, limit: int = 120) -> str:
    """Return a text on one line of at most `limit` characters."""
    line = " ".join(str(text)[: 4 * limit].split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def as_object(value: object, what: str) -> dict[str, Any]:
    """Return a JSON object; raise `BadAnswer` for anything else."""
    if not isinstance(value, dict):
        raise BadAnswer(f"{what} is {short(repr(value), 60)} instead of an object")
    return value


def is_listed(answer: Mapping[str, Any], section: str, prompt_id: str) -> bool:
    """Return whether a section of /queue lists the prompt."""
    listed = answer.get(section)
    if not isinstance(listed, list):
        raise BadAnswer(f"its /queue has no list {section}")
    for item in listed:
        if not isinstance(item, list) or len(item) < 2:
            raise BadAnswer(f"its /queue lists {short(repr(item), 60)}")
    return any(item[1] == prompt_id for item in listed)


def node_errors(answer: Mapping[str, Any], prompt: Mapping[str, Any]) -> str:
    """Describe the first fault of each node in the answer to a rejected prompt."""
    errors = answer.get("node_errors")
    faults = list(_node_faults(errors, prompt)) if isinstance(errors, dict) else []
    if faults:
        return "; ".join(faults)
    error = answer.get("error")
    if isinstance(error, dict):
        return short(f"{error.get('message', 'no reason given')} {error.get('details') or ''}")
    return short(error or "no reason given")


def _node_faults(errors: Mapping[str, Any], prompt: Mapping[str, Any]) -> Iterator[str]:
    for node_id, record in errors.items():
        faults = record.get("errors") if isinstance(record, dict) else None
        if not isinstance(faults, list) or not faults or not isinstance(faults[0], dict):
            continue
        kind = record.get("class_type") or prompt.get(node_id, {}).get("class_type", "unknown")
        details = f": {faults[0]['details']}" if faults[0].get("details") else ""
        message = f"{faults[0].get('message', 'invalid')}{details}"
        yield f"node {short(node_id, 40)} ({short(kind, 80)}): {short(message, MAX_TEXT)}"


def last_events(status: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the last message of each name in a prompt's history."""
    messages = status.get("messages")
    return {
        message[0]: message[1]
        for message in (messages if isinstance(messages, list) else ())
        if isinstance(message, list)
        and len(message) == 2
        and isinstance(message[0], str)
        and isinstance(message[1], dict)
    }


def run_seconds(events: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the seconds between the first and the last message, None if unknown."""
    start = _number(events.get("execution_start", {}).get("timestamp"))
    times = [_number(event.get("timestamp")) for event in events.values()]
    known = [time for time in times if time is not None]
    if start is None or not 0 <= max(known) - start <= LONGEST_RUN_S * 1000:
        return None
    return (max(known) - start) / 1000


def bar(node: object) -> tuple[int, int] | None:
    """Return the progress of a node, None if it has none."""
    if not isinstance(node, dict):
        return None
    done, total = _number(node.get("value")), _number(node.get("max"))
    if done is None or total is None or not 0 <= done <= total <= 1e9 or total <= 1:
        return None
    return int(done), int(total)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def numbers(content: object, names: tuple[str, ...]) -> dict[str, object]:
    """Return the numbers called `names` of a JSON object."""
    known = content if isinstance(content, dict) else {}
    return {name: known[name] for name in names if _number(known.get(name)) is not None}
