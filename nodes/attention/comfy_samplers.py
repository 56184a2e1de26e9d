"""Reports what ANN-Sparse Attention does on ComfyUI's own samplers.

The text under the node changes after each step; at the end of a run it goes to the log too.
"""

from __future__ import annotations

import sys
from typing import Any

from .. import host
from .override import AttentionOverride

NEVER_CALLED = (
    "ANN-Sparse Attention did nothing: this sampler ignores attention overrides, as ComfyUI's "
    "Sampler AR Video does; use the Diffusion-Forcing Sampler."
)
REPLACED = (
    "ANN-Sparse Attention did nothing: a later node replaced its attention override; move "
    "ANN-Sparse Attention after that node."
)


class RunReporter:
    """Reports an override's work under the node `node_id`, run after run."""

    def __init__(self, override: AttentionOverride, node_id: str | None) -> None:
        self.override, self.node_id = override, node_id
        self._running = False
        self._outer_error: BaseException | None = None  # handled when the run began
        override.on_step = self.on_step

    def on_begin(self, model: Any) -> None:
        """Begin a run with `model`."""
        self.override.begin()
        self._running, self._outer_error = True, sys.exc_info()[1]

    def on_step(self) -> None:
        """Update the text under the node."""
        host.show_text(self.node_id, describe_run(self.override))

    def on_end(self, model: Any) -> None:
        """Report the run once, however many handles on the model end.

        A run that failed before any attention is not reported.
        """
        failed = sys.exc_info()[1] is not self._outer_error
        if self._running and (self.override.called or not failed):
            host.show_status(self.node_id, self._summary(model))
        self._running = False

    def _summary(self, model: Any) -> str:
        """What was done in the run, or why nothing was."""
        if self.override.called:
            return describe_run(self.override)
        return NEVER_CALLED if host.attention_override(model) is self.override else REPLACED


def report_runs(model: Any, key: str, override: AttentionOverride, node_id: str | None) -> None:
    """Report under the node what `override` does when the host's samplers run `model`."""
    reporter = RunReporter(override, node_id)
    host.watch_sampling(model, key, reporter.on_begin, reporter.on_end)


def describe_run(override: AttentionOverride) -> str:
    """What was done in the run so far, in the words of the preview's status strip."""
    parts = describe_self_attention(override), describe_prompt_attention(override)
    return f"On ComfyUI's sampler: {'; '.join(parts)}."


def describe_self_attention(override: AttentionOverride) -> str:
    stats = override.stats
    if override.sparsity.self_sparsity is None:
        return "self-attention unchanged"
    if stats.recall is None:
        return f"self-attention dense, since {override.dense_reason}"
    return (
        f"density {stats.density:.0%}, recall {stats.recall:.0%}, "
        f"{stats.dense_fallbacks} dense fallbacks"
    )


def describe_prompt_attention(override: AttentionOverride) -> str:
    share, left_out = override.prompt_attention.share, override.prompt_attention.pruned_share
    if override.sparsity.prompt_sparsity is None or share is None:
        return "prompt attention unchanged"
    pruned = (
        f", {left_out:.0%} of the words left out" if override.sparsity.prompt_sparsity.prune else ""
    )
    return f"{share:.0%} of the prompt's tokens{pruned}"
