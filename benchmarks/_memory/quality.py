"""The effect of a coded KV cache on the video: demo rollouts from the same noise, by pixels.

The reference keeps keys and values in float32 as computed, because bfloat16 would round them.
"""

from __future__ import annotations

import math
import random

import numpy as np
import torch
from torch import Tensor

from ...attention.cache.policy import WindowSink
from ...attention.storage.dense import DENSE, Storage
from ...attention.storage.packed import Packed
from ...attention.storage.quantize import INT4, INT8
from ...model.preset import DEMO
from ...model.vae.streaming import StreamingDecoder
from ...samplers.denoiser import local_denoiser
from ...samplers.guidance import cfg
from ...samplers.loop import generate
from ...samplers.schedule.options import preset_schedule
from ...samplers.settings import RolloutSettings
from ...training.world.attributes import caption, random_values
from .._shared.demo import COLUMNS, ROWS, demo_dit, demo_prompt, demo_vae
from .._shared.measures import Measurement
from .._shared.records import Job

LATENT_FRAMES = 66  # at least 64, in whole chunks
CODED = {
    "int8": Packed(INT8, DEMO.chunk_frames), "int4": Packed(INT4, DEMO.chunk_frames),
}  # fmt: skip
NO_FEATURES = np.zeros((1, 1))


def coded_rollouts(latent_frames: int, job: Job) -> Measurement:
    """Return the PSNR in dB of each coding's video against the uncoded video of a random prompt."""
    _, seed = job
    rng = random.Random(40_000 + seed)
    prompt = caption(random_values(rng), rng)
    whole = _video(DENSE, prompt, seed, latent_frames)
    return Measurement(
        {name: psnr(_video(coding, prompt, seed, latent_frames), whole)
         for name, coding in CODED.items()}, NO_FEATURES,
    )  # fmt: skip


def psnr(frames: Tensor, reference: Tensor) -> float:
    """Return the PSNR in dB of frames in [0, 1]; infinite for equal frames."""
    error = float((frames.double() - reference.double()).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


@torch.inference_mode()
def _video(storage: Storage, prompt: str, seed: int, latent_frames: int) -> Tensor:
    tree, sizes = demo_dit()
    settings = RolloutSettings(
        demo_prompt(prompt), ROWS, COLUMNS, preset_schedule(DEMO), length=latent_frames, seed=seed,
        guidance=cfg(DEMO.guidance_scale), cache=WindowSink(DEMO.window_frames), storage=storage,
    )  # fmt: skip
    decoder = StreamingDecoder(demo_vae())
    chunks = generate(settings, local_denoiser(tree, sizes))
    return torch.cat([decoder.feed(chunk.latents) for chunk in chunks])
