"""A model that takes a picture: its latents go beside every frame's noise, in every pass."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longtake.attention.cache.policy import FullHistory
from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.errors import BadInput
from longtake.model.dit import predict, project_text
from longtake.samplers.conditioning.reference import Reference
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import cfg
from longtake.samplers.loop import generate
from longtake.samplers.noise import addressed_noise
from longtake.samplers.planning.memory import rollout_memory
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks
from longtake.samplers.settings import RolloutSettings
from longtake.stream.journal.chain import Chain
from longtake.tests.support.node_bench import CONFIG as BENCH_CONFIG
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.tiny_model import (
    TINY,
    randn,
    random_dit,
    randomise,
    timeline,
)

CONFIG = replace(TINY, in_channels=12)
ROWS, COLUMNS, LENGTH, SEED = 4, 6, 5, 3
LADDER = flow_ladder(2, 3.0)
STRENGTH = 2.0


def with_image_branch() -> Any:
    """Our tree with the layers that image-to-video models have on top, random."""
    tree = random_dit(CONFIG)
    tree.img_emb = nn.Sequential(nn.LayerNorm(1280), nn.Linear(1280, CONFIG.dim))
    for block in tree.blocks:
        ca = block.cross_attn
        ca.k_img, ca.v_img = nn.Linear(CONFIG.dim, CONFIG.dim), nn.Linear(CONFIG.dim, CONFIG.dim)
        ca.norm_k_img = nn.RMSNorm(CONFIG.dim)
    randomise(tree, 4)
    return tree.requires_grad_(False)


TREE = with_image_branch()
MODEL = local_denoiser(TREE, CONFIG)
BESIDE, FEATURES = randn(3, 8, ROWS, COLUMNS, seed=8), randn(7, 1280, seed=9)


def settings(reference: Reference | None) -> RolloutSettings:
    return RolloutSettings(
        timeline(0), ROWS, COLUMNS, causal_chunks(LADDER, 1), length=LENGTH, seed=SEED,
        cache=FullHistory(), guidance=cfg(STRENGTH), reference=reference,
    )  # fmt: skip


def brute_force() -> Tensor:
    """Frame after frame, each step a pass over all frames so far with the picture beside them;
    prompt and no prompt one after another.
    """
    beside = torch.stack([BESIDE[min(f, 2)] for f in range(LENGTH)])
    prompts = timeline(0)
    texts = [
        project_text(TREE, context[None, None], FEATURES[None])
        for context in (prompts.at(0).embedding, prompts.negative)
    ]
    tokens = ROWS * COLUMNS // 4
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    mask = causal.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)
    x = torch.stack(
        [addressed_noise(SEED, f, 0, "start", (4, ROWS, COLUMNS)) for f in range(LENGTH)]
    )
    for f in range(LENGTH):
        for now, after in zip(LADDER, LADDER[1:], strict=False):
            seen = torch.cat([x, beside], 1)[: f + 1]
            t = 1000 * torch.tensor([[0.0] * f + [now]], dtype=torch.float64)
            by = rotation(range(f + 1), ROWS // 2, COLUMNS // 2, CONFIG.head_dim)
            attention = WholeSequence(by, mask[: (f + 1) * tokens, : (f + 1) * tokens])
            v, plain = (predict(TREE, seen[None], t, text, attention).velocity[0] for text in texts)
            x[f] += (after - now) * (plain + STRENGTH * (v - plain))[f]
    return x


@torch.inference_mode()
def test_every_pass_sees_the_picture_beside_its_own_frames_and_its_features() -> None:
    made = torch.cat([c.latents for c in generate(settings(Reference(BESIDE, FEATURES)), MODEL)])
    torch.testing.assert_close(made, brute_force(), rtol=1e-4, atol=1e-4)
    for other in (Reference(-BESIDE, FEATURES), Reference(BESIDE, -FEATURES)):
        others = torch.cat([c.latents for c in generate(settings(other), MODEL)])
        assert (others - made).abs().max() > 1e-2


@torch.inference_mode()
def test_without_features_the_image_branch_is_not_asked() -> None:
    plain = local_denoiser(random_dit(CONFIG), CONFIG)
    made = [c.latents for c in generate(settings(Reference(BESIDE)), plain)]
    assert torch.cat(made).isfinite().all()


def test_the_picture_is_part_of_what_names_a_rollout() -> None:
    keys = {
        Chain(settings(one), "model").key(0)
        for one in (
            None, Reference(BESIDE), Reference(BESIDE, FEATURES), Reference(BESIDE, -FEATURES),
            Reference(BESIDE + 1, FEATURES), Reference(BESIDE.clone(), FEATURES.clone()),
        )
    }  # fmt: skip
    assert len(keys) == 5


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(BadInput, match="The picture is 48x16 pixels and the shot is 48x32"):
        settings(Reference(BESIDE[:, :, :2]))
    with pytest.raises(BadInput, match="not finite"):
        Reference(BESIDE, FEATURES * torch.nan)


def test_memory_can_be_planned() -> None:
    planned = rollout_memory(settings(Reference(BESIDE, FEATURES)), CONFIG, torch.float32)
    assert planned.working_bytes > 0


def test_the_hosts_conditioning_becomes_mask_and_latents(bench: Bench) -> None:
    """As `WAN21.concat_cond` of the core has it: 1 - mask, then the normalised latents."""
    from longtake.model.config import DiTConfig
    from longtake.model.vae.latent_format import normalise
    from longtake.nodes.conditioning.reference import reference

    image, mask = randn(1, 16, 4, 2, 2), torch.ones(1, 1, 4, 2, 2)
    mask[:, :, :1] = 0
    seen = SimpleNamespace(penultimate_hidden_states=randn(1, 257, 1280))
    options = {"concat_latent_image": image, "concat_mask": mask, "clip_vision_output": seen}
    config = DiTConfig(24, 32, 2, 1, 8, 36, 16)
    made = reference(config, None, [[torch.zeros(1, 3, 8), options]])
    assert made is not None and made.features is not None
    assert torch.equal(made.channels[:, :4].amax((1, 2, 3)), torch.tensor([1.0, 0, 0, 0]))
    expected = normalise(image[0].transpose(0, 1))
    torch.testing.assert_close(made.channels[:, 4:], expected)
    assert torch.equal(made.features, seen.penultimate_hidden_states[0])
    with pytest.raises(BadInput, match="image-to-video model needs a picture"):
        reference(config, None, [[torch.zeros(1, 3, 8), {}]])
    with pytest.raises(BadInput, match="encoded for another model"):
        reference(config, [[None, {"concat_latent_image": torch.zeros(1, 48, 1, 2, 2)}]])
    assert reference(replace(config, in_channels=16), None) is None


def test_an_image_to_video_model_streams_from_the_hosts_conditioning(bench: Bench) -> None:
    """With a Prompt Timeline and the picture beside it, or with the one conditioning for both."""
    from longtake.headless.hosts.stand_in.models import BaseModel, Patcher

    config = replace(BENCH_CONFIG, in_channels=36)
    cpu = torch.device("cpu")
    model = Patcher(BaseModel(random_dit(config)), load_device=cpu, offload_device=cpu)
    _, clip, _ = bench.run("LongtakeLoadDemoModel")
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="0: a red ball")
    [schedule] = bench.run("LongtakeSchedule", steps=1)
    options = {
        "concat_latent_image": randn(1, 16, 3, 4, 4),
        "concat_mask": torch.ones(1, 1, 3, 4, 4),
    }
    [[embedding, _]] = clip.encode_from_tokens_scheduled(clip.tokenize("a red ball"))
    picture = [[embedding, options]]
    shot = {"width": 32, "height": 32, "length": 33.0, "length_unit": "frames", "cfg": 1.0,
            "model": model, "schedule": schedule}  # fmt: skip
    made = []
    for inputs in ({"prompts": prompts, "picture": picture}, {"prompts": picture}):
        [rollout] = bench.run("LongtakeSampler", **shot, **inputs)
        latent = bench.collect(rollout, "latent")
        made.append(latent["samples"])
    assert made[0].shape == (1, 16, 9, 4, 4) and torch.equal(*made)
    with pytest.raises(BadInput, match="needs a picture; connect the positive conditioning"):
        bench.run("LongtakeSampler", **shot, prompts=prompts)
    demo, _, _ = bench.run("LongtakeLoadDemoModel")
    with pytest.raises(BadInput, match="has a picture from a node.*picture by VAE Encode"):
        bench.run("LongtakeSampler", **{**shot, "model": demo}, prompts=picture)
