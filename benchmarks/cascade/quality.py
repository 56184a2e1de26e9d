"""What a second stage makes of frames: against the world's own rendering, and against its input."""

from __future__ import annotations

import random
from collections.abc import Mapping

import torch
from torch import Tensor

from ...model.preset import DEMO
from ...model.refiner.network import shrink
from ...model.vae.latent_format import frame_count
from ...model.vae.tiny import decode_all, encode_all
from ...training.evaluation.kit import Kit, Recipe, decode, sample
from ...training.evaluation.psnr import psnr
from ...training.world.attributes import caption, random_values
from ...training.world.clips import random_shot
from ...training.world.renderer import render
from ...training.world.scene import scene
from .stages import HEIGHT, WIDTH, Stage

SEED = 41_000_017
TRUE_LATENTS, MADE_LATENTS = 9, 18
TRUTH, AGAIN, CHANGE = "true frames, dB", "made small again, dB", "change over the truth's"


@torch.inference_mode()
def measure_quality(kit: Kit, seed: int, stages: Mapping[str, Stage]) -> dict[str, float]:
    """Figures by stage and quantity, on a true clip and on a generated one."""
    small, truth = _true_clip(kit, seed)
    generated = _made_clip(kit, seed)
    figures = {}
    for name, stage in stages.items():
        larger = stage.enlarge(small)
        figures[f"{name}: {TRUTH}"] = psnr(larger, truth)
        figures[f"{name}: {CHANGE}"] = _change(larger) / _change(truth)
        figures[f"{name}: {AGAIN}"] = psnr(shrink(stage.enlarge(generated)[None])[0], generated)
    return figures


def _true_clip(kit: Kit, seed: int) -> tuple[Tensor, Tensor]:
    """A clip that only the VAE has changed, and its world rendered in the large size."""
    rng = random.Random(SEED + seed)
    clip = scene([random_shot(rng, TRUE_LATENTS)], frame_count(TRUE_LATENTS))
    small = render(clip, DEMO.height, DEMO.width)
    decoded = decode_all(kit.vae, encode_all(kit.vae, small))[0]
    return decoded.clamp(0, 1), render(clip, HEIGHT, WIDTH)[0]


def _made_clip(kit: Kit, seed: int) -> Tensor:
    """A clip that the demo generates."""
    rng = random.Random(SEED + 1_000_000 + seed)
    prompts = [(0, caption(random_values(rng), rng))]
    return decode(kit, sample(kit, Recipe(length=MADE_LATENTS), prompts, seed)).clamp(0, 1)


def _change(frames: Tensor) -> float:
    """The root mean square of the change from frame to frame."""
    return float(frames.diff(dim=0).square().mean().sqrt())
