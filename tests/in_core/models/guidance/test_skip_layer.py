"""Skip-layer guidance against the real core's own nodes, by the host's own sampling function."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.model.dit import PassOptions, predict, project_text
from longtake.samplers.guidance import (
    Guidance,
    SkippedLayers,
    cfg,
    extend,
    skip_in_negative,
    without_layers,
)
from longtake.tests.in_core.support.places import DEMO
from longtake.tests.support.model.other_loader import load_by_host

SIGMA, SCALE, LAYERS = 0.8, 2.5, "1, 3"
SKIPPED = SkippedLayers((1, 3))


def by_host(core: Any, model: Any, x: Tensor, prompt: Tensor, negative: Tensor) -> Tensor:
    """The velocity by the host's sampling function under CFG, with what a node patched."""
    conds = [
        [{"model_conds": {"c_crossattn": core.conds.CONDRegular(text)}, "uuid": name}]
        for text, name in ((negative, "negative"), (prompt, "prompt"))
    ]
    sigma = torch.full((1,), SIGMA)
    model.pre_run()
    options = core.model_patcher.create_model_options_clone(model.model_options)
    clean = core.samplers.sampling_function(model.model, x, sigma, *conds, SCALE, options)
    model.cleanup()
    return (x - clean) / SIGMA


def by_us(tree: Any, guidance: Guidance, x: Tensor, prompt: Tensor, negative: Tensor) -> Tensor:
    """The weighted sum of a guidance's branches, each evaluated by our forward."""
    latents, texts = x.transpose(1, 2), {"positive": prompt, "negative": negative}
    frames = latents.shape[1]
    t = torch.full((1, frames), 1000 * SIGMA)
    attention, total = WholeSequence(rotation(range(frames), 4, 6, 48)), torch.zeros_like(latents)
    for branch in guidance.branches:
        text = project_text(tree, texts[str(branch.prompt)].unsqueeze(1))
        options = PassOptions(skipped=branch.skipped.layers if branch.skipped else ())
        made = predict(tree, latents, t, text, attention, options)
        total += branch.weight * made.velocity
    return total.transpose(1, 2)


@pytest.mark.parametrize(
    ("node", "values", "guidance"),
    [
        ("SkipLayerGuidanceDiT", {"scale": 1.5}, extend(cfg(SCALE), without_layers(1.5, SKIPPED))),
        ("SkipLayerGuidanceDiTSimple", {}, skip_in_negative(cfg(SCALE), SKIPPED)),
    ],
    ids=["own pass", "negative prompt"],
)
@torch.inference_mode()
def test_the_sum_is_that_of_the_cores_node(
    core: Any, node: str, values: dict[str, Any], guidance: Guidance
) -> None:
    from comfy_extras import nodes_slg

    from longtake.nodes import host

    model = load_by_host(DEMO / "dit.safetensors")
    between = {"start_percent": 0.0, "end_percent": 1.0, "double_layers": LAYERS}
    [patched] = getattr(nodes_slg, node).execute(model, **values, **between).result
    host.claim([model], 0)
    seeded = torch.Generator().manual_seed(0)
    x = torch.randn(1, 16, 3, 8, 12, generator=seeded)
    prompt, negative = (torch.randn(1, 24, 64, generator=seeded) for _ in range(2))
    theirs = by_host(core, patched, x, prompt, negative)
    ours = by_us(host.module_tree(model), guidance, x, prompt, negative)
    plain = by_host(core, model, x, prompt, negative)
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4
    assert float((plain - theirs).norm() / theirs.norm()) > 1e-2
