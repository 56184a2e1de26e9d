"""Where attention over part of a history is faster than over all of it, as measured, and why.

A way of attending that no committed result shows to be faster on a kind of device is never chosen
there by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

MEASURED: Mapping[str, int] = {}
"""Kinds of devices for which `benchmarks/results` shows block-sparse attention to be faster, at the
interval's bound, from so many keys a head on.
"""


def fewest_keys(asked: int | None, device: torch.device) -> tuple[int | None, str]:
    """The least history that is attended to sparsely, None for no history, and the reason.

    `asked` is the user's own number, None leaves it to what was measured.
    """
    if asked is not None:
        return asked, "as asked for"
    least = MEASURED.get(device.type)
    if least is None:
        return None, f"dense, since no committed result shows it to be faster on {device.type}"
    return least, f"from {least:,} keys a head on, as measured on {device.type}"
