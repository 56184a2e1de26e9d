"""Where attention over part of a history, or to a prompt whose padding is merged, is faster than
dense attention, as measured, and why.

A way of attending that no committed result shows to be faster on a kind of device is never chosen
there by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from .settings import Sparsity

MEASURED: Mapping[str, int] = {}
"""Kinds of devices for which `benchmarks/results` shows block-sparse attention to be faster, at the
interval's bound, from so many keys a head on.
"""

MERGED: Mapping[str, int] = {"cpu": 512}
"""Kinds of devices for which `benchmarks/results` shows attention to a prompt to be faster with its
padding merged, at the interval's bound, in prompts of so many tokens or more.
"""


def min_keys(asked: int | None, device: torch.device) -> tuple[int | None, str]:
    """The least history that is attended to sparsely, None for no history, and the reason.

    `asked` is the user's own number, None leaves it to what was measured.
    """
    if asked is not None:
        return asked, "as asked for"
    least = MEASURED.get(device.type)
    if least is None:
        shown = f"no committed result shows it to be faster on {device.type} at these settings"
        return None, f"dense, since {shown}"
    return least, f"from {least:,} keys a head on, as measured on {device.type}"


def min_prompt_tokens(asked: int | None, device: torch.device) -> tuple[int | None, str]:
    """The shortest prompt, in tokens with its padding, whose padding is merged, None for no prompt,
    and the reason; `asked` as above.
    """
    if asked is not None:
        return asked, "merged, as asked for"
    least = MERGED.get(device.type)
    if least is None:
        return None, f"dense, since no committed result shows merging to be faster on {device.type}"
    return least, f"merged from {least:,} tokens on, as measured on {device.type}"


def measured_on(sparsity: Sparsity, device: torch.device) -> Sparsity:
    """`sparsity` with what it leaves to measurements decided for `device`: where nothing was shown
    to be faster, it is dense.
    """
    self_sparsity, prompt_sparsity = sparsity.self_sparsity, sparsity.prompt_sparsity
    if self_sparsity is not None:
        least, _ = min_keys(self_sparsity.min_keys, device)
        self_sparsity = None if least is None else replace(self_sparsity, min_keys=least)
    if prompt_sparsity is not None:
        least, _ = min_prompt_tokens(prompt_sparsity.from_tokens, device)
        prompt_sparsity = None if least is None else replace(prompt_sparsity, from_tokens=least)
    return Sparsity(self_sparsity, prompt_sparsity)
