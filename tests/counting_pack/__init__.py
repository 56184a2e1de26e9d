"""A tiny node pack for the headless tests, on the host surface that our own nodes use.

A V3 pack that both the stand-in and the real core load: `CountUp` gives a number, `CountSave` and
`CountWatch` are async outputs that count up to it side by side.
"""

from __future__ import annotations


async def comfy_entrypoint():
    """Imported lazily, like ours."""
    from .nodes import CountingExtension

    return CountingExtension()
