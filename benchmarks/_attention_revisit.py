"""What a camera that turns back finds again, by what keeps the history."""

from __future__ import annotations

import random

import numpy as np
import torch

from ..attention.cache_policy import CachePolicy, FullHistory, WindowSink
from ..attention.cache_shape import CacheShape
from ..attention.history_cache import planned_bytes
from ..attention.kv_storage import DENSE
from ..attention.temp_policy import TempCache
from ..model.preset import DEMO
from ..model.vae.latent_format import frame_count
from ..samplers.denoiser import local_denoiser
from ..samplers.guidance import cfg
from ..samplers.ladder import flow_ladder
from ..samplers.prompts import PromptTimeline, TimedPrompt
from ..samplers.rollout import Chunk, generate
from ..samplers.schedule import causal_chunks
from ..samplers.settings import RolloutSettings
from ..training.attributes import caption, random_values
from ..training.clips import latent_start
from ..training.dataset import encode_shots
from ..training.kit import Kit, decode
from ..training.measures import HELD_OUT_SEED, TURN, band_agreement
from ..training.renderer import render
from ..training.world import Shot, scene

CHUNK = DEMO.chunk_frames


@torch.inference_mode()
def revisit(kit: Kit, seed: int) -> dict[str, float]:
    """Agreement with rendered truth when the camera turns back, by what keeps the history.

    As `training.measures.revisit`, but for other caches than windows.
    """
    rng = random.Random(HELD_OUT_SEED + 700_000 + seed)
    away = {**random_values(rng), "pan": "left", "weather": "clear"}
    back = {**away, "pan": "right"}
    shot = Shot(((0, away), (latent_start(TURN), back)), rng.randrange(2**31))
    texts = [(0, caption(away, rng)), (TURN, caption(back, rng))]
    truth = render(scene([shot], frame_count(2 * TURN)), DEMO.height, DEMO.width)[0]
    known = encode_shots(kit.vae, [shot], TURN, DEMO.width)[0].float().split(CHUNK)
    history = [Chunk(i, CHUNK * i, part) for i, part in enumerate(known)]
    entries = tuple(TimedPrompt(at, kit.text.encode(t).embedding, t) for at, t in texts)
    prompts = PromptTimeline(entries, kit.text.encode("").embedding)
    found = {}
    for name, policy in memories(kit).items():
        settings = RolloutSettings(
            prompts, known[0].shape[-2], known[0].shape[-1],
            causal_chunks(flow_ladder(DEMO.steps, DEMO.shift), CHUNK),
            length=2 * TURN, seed=seed, guidance=cfg(DEMO.guidance_scale), cache=policy,
        )  # fmt: skip
        made = generate(settings, local_denoiser(kit.dit, kit.config), history)
        video = decode(kit, [*history, *made])
        at = range(latent_start(TURN) + latent_start(4), len(video), 4)
        found[name] = float(np.mean([band_agreement(video[t], truth[t]) for t in at]))
    return found


def memories(kit: Kit) -> dict[str, CachePolicy]:
    """Windows, merged caches of no more bytes than each, and everything."""
    c = kit.config
    shape = CacheShape(c.num_layers, 2, c.num_heads, c.head_dim, 4, 6, CHUNK)
    found: dict[str, CachePolicy] = {}
    for window in (9, 18):
        most = planned_bytes(shape, WindowSink(window), DENSE, None)
        frames = window
        while planned_bytes(shape, TempCache(frames), DENSE, None) > most:
            frames -= 1
        found[f"window {window}"] = WindowSink(window)
        found[f"TempCache in the bytes of window {window}"] = TempCache(frames, most_mass=1)
    return {**found, "full": FullHistory()}
