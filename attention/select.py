"""Where attention over part of a history is faster than over all of it, as measured, and why.

A way of attending that no committed result shows to be faster on a kind of device is never chosen
there by itself.
"""

from __future__ import annotations

import torch

MEASURED = "benchmarks/results/attention-cpu.json"
FEWEST_KEYS_ON_CPU = 16_384
"""Keys of a head from which block-sparse attention is faster than dense: see MEASURED."""


def fewest_keys(asked: int | None, device: torch.device) -> tuple[int | None, str]:
    """The least history that is attended to sparsely, None for no history, and the reason.

    `asked` is the user's own number, None leaves it to what was measured.
    """
    if asked is not None:
        return asked, "as asked for"
    if device.type == "cpu":
        return FEWEST_KEYS_ON_CPU, f"below that, dense attention is as fast ({MEASURED})"
    return None, f"no committed result shows sparse attention to be faster on {device.type}"
