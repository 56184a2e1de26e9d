"""Measured sizes from which sparse attention is faster than dense attention, with the reasons.

Block-sparse attention and merged prompt padding have their own thresholds. Without a committed
result for a kind of device, attention there stays dense.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from .settings import Sparsity

MEASURED: Mapping[str, int] = {}
"""For each kind of device the keys a head from which block-sparse attention is faster.

An entry needs a result in `benchmarks/results` that shows it at the bound of its interval.
"""

MERGED: Mapping[str, int] = {"cpu": 512}
"""For each kind of device the prompt tokens from which attention with merged padding is faster.

An entry needs a result in `benchmarks/results` that shows it at the bound of its interval.
"""


def min_keys(requested: int | None, device: torch.device) -> tuple[int | None, str]:
    """The fewest keys of a history that is attended to sparsely, and the reason.

    None keeps every history dense. `requested` is the user's number; None takes the measured one.
    """
    if requested is not None:
        return requested, "as requested"
    least = MEASURED.get(device.type)
    if least is None:
        shown = f"no committed result shows it to be faster on {device.type} at these settings"
        return None, f"dense, since {shown}"
    return least, f"from {least:,} keys a head on, as measured on {device.type}"


def min_prompt_tokens(requested: int | None, device: torch.device) -> tuple[int | None, str]:
    """The fewest tokens, padding included, of a prompt whose padding is merged, and the reason.

    None merges no prompt. `requested` is the user's number; None takes the measured one.
    """
    if requested is not None:
        return requested, "merged, as requested"
    least = MERGED.get(device.type)
    if least is None:
        return None, f"dense, since no committed result shows merging to be faster on {device.type}"
    return least, f"merged from {least:,} tokens on, as measured on {device.type}"


def apply_measurements(sparsity: Sparsity, device: torch.device) -> Sparsity:
    """`sparsity` with its open thresholds filled in from measurements on `device`.

    A part that no measurement shows to be faster becomes dense.
    """
    self_sparsity, prompt_sparsity = sparsity.self_sparsity, sparsity.prompt_sparsity
    if self_sparsity is not None:
        least, _ = min_keys(self_sparsity.min_keys, device)
        self_sparsity = None if least is None else replace(self_sparsity, min_keys=least)
    if prompt_sparsity is not None:
        least, _ = min_prompt_tokens(prompt_sparsity.from_tokens, device)
        prompt_sparsity = None if least is None else replace(prompt_sparsity, from_tokens=least)
    return Sparsity(self_sparsity, prompt_sparsity)
