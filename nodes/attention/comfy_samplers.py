"""What ANN-Sparse Attention did on the host's own samplers, which report nothing by themselves: a
line under the node after each of their steps, and in the log too when their run ends.
"""

from __future__ import annotations

import sys
from typing import Any

from .. import host
from .override import AttentionOverride

NEVER_ASKED = (
    "ANN-Sparse Attention did nothing: this sampler leaves attention overrides out, as ComfyUI's "
    "Sampler AR Video does; use the Diffusion-Forcing Sampler."
)
REPLACED = (
    "ANN-Sparse Attention did nothing: another node behind ANN-Sparse Attention replaced it; put "
    "ANN-Sparse Attention after it."
)


class SampledAttention:
    """Tells of an override's work in one run after another, under the node of that id."""

    def __init__(self, override: AttentionOverride, node_id: str | None) -> None:
        self.override, self.node_id = override, node_id
        self._runs = False
        self._around: BaseException | None = None  # what was being handled when the run began
        override.on_step = self.stepped

    def began(self, model: Any) -> None:
        """A run with that MODEL begins."""
        self.override.begin()
        self._runs, self._around = True, sys.exc_info()[1]

    def stepped(self) -> None:
        """One of its steps is over."""
        host.show_text(self.node_id, told(self.override))

    def ended(self, model: Any) -> None:
        """It is over, or was broken off; said once, however many handles on the model end. One that
        fails before any attention leaves nothing to say.
        """
        fails = sys.exc_info()[1] is not self._around
        if self._runs and (self.override.asked or not fails):
            host.show_status(self.node_id, self._said(model))
        self._runs = False

    def _said(self, model: Any) -> str:
        """What was done in the run, or why nothing."""
        if self.override.asked:
            return told(self.override)
        return NEVER_ASKED if host.attention_override(model) is self.override else REPLACED


def tell_of_runs(model: Any, key: str, override: AttentionOverride, node_id: str | None) -> None:
    """Let a MODEL with that override say what it does in runs of the host's samplers."""
    telling = SampledAttention(override, node_id)
    host.watch_sampling(model, key, telling.began, telling.ended)


def told(override: AttentionOverride) -> str:
    """What was done in the run so far, in the words of the preview's strip."""
    return f"On ComfyUI's sampler: {_of_self(override)}; {_of_prompt(override)}."


def _of_self(override: AttentionOverride) -> str:
    """Of self-attention."""
    stats = override.stats
    if override.sparsity.self_sparsity is None:
        return "self-attention as it was"
    if stats.recall is None:
        return f"self-attention dense, since {override.dense_because}"
    return (
        f"density {stats.density:.0%}, recall {stats.recall:.0%}, "
        f"{stats.dense_fallbacks} dense fallbacks"
    )


def _of_prompt(override: AttentionOverride) -> str:
    """Of attention to the prompt."""
    share, left_out = override.to_prompt.share, override.to_prompt.left_out
    if override.sparsity.prompt_sparsity is None or share is None:
        return "prompt attention as it was"
    pruned = (
        f", {left_out:.0%} of its words left out" if override.sparsity.prompt_sparsity.prune else ""
    )
    return f"of the prompt {share:.0%} of the tokens{pruned}"
