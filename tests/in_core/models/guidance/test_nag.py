"""Our NAG against the real core's own node, on the same attention."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from longtake.samplers.guidance import NormalizedAttention
from longtake.tests.support.tiny_model import randn


@pytest.mark.parametrize("values", [(11.0, 2.5, 0.25), (5.0, 1.5, 0.5), (1.4, 9.0, 1.0)])
def test_a_push_is_that_of_the_cores_node(core: Any, values: tuple[float, float, float]) -> None:
    """The core's node changes other layers, but computes alike."""
    from comfy_extras.nodes_nag import NAGuidance

    patches: list[Any] = []
    model = SimpleNamespace(
        set_model_attn1_output_patch=patches.append, disable_model_cfg1_optimization=lambda: None
    )
    model.clone = lambda: model
    scale, tau, alpha = values
    NAGuidance.execute(model, nag_scale=scale, nag_alpha=alpha, nag_tau=tau)
    positive, negative = randn(1, 2, 6, 4, 8, seed=1), randn(1, 2, 6, 4, 8, seed=2)
    rows = torch.cat([positive, negative]).flatten(1, 2).flatten(-2)  # (2, tokens, c)
    expected = patches[0](rows.clone(), {"cond_or_uncond": [0, 1]})[0]
    ours = NormalizedAttention(scale, tau, alpha).push(
        positive, negative, torch.ones(1, 2, 1, 1, 1)
    )
    torch.testing.assert_close(ours.flatten(0, 2).flatten(-2), expected)
