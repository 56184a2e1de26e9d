"""What Prompt Timeline reads in a text."""

from __future__ import annotations


def parsed(text: str) -> list[tuple[float, str]]:
    """The time, in seconds, and the prompt of each line."""
    from longtake.nodes.conditioning.timeline import parse

    return [(entry.start_s, entry.text) for entry in parse(text)]
