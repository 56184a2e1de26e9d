"""Histories of kinds absent from the demo's training, with the truth that continues each.

No history has colours outside the world, because the demo's VAE cannot show them: with permuted
channels its pictures are off by .03 to .18 of the range, with the world's own colours by .01.
"""

from __future__ import annotations

import random
from dataclasses import replace

import torch

from ...model.preset import DEMO
from ...model.vae.latent_format import SPATIAL_FACTOR
from ...training.evaluation.kit import Kit
from ...training.world.attributes import ATTRIBUTES, changed_values
from ...training.world.dataset import encode_shots
from ...training.world.scene import Shot
from .feedback import HISTORY, TrueStart, script, true_start

SEEN = "as trained"
HALF = HISTORY // 2  # whole chunks
WIDE = 144  # pixels; trained on 64 and 96


def pasts(kit: Kit, seed: int) -> dict[str, TrueStart]:
    """Return a seed's clip as in training, and in every unseen kind."""
    columns = DEMO.width // SPATIAL_FACTOR
    seen = true_start(kit, seed, columns)
    return {
        SEEN: seen,
        "two scenes": two_scenes(kit, seen),
        "wider": true_start(kit, seed, WIDE // SPATIAL_FACTOR),
    }


def two_scenes(kit: Kit, start: TrueStart) -> TrueStart:
    """Replace the older half of the past by another landscape with every attribute changed."""
    _, shot = script(start.seed)
    rng = random.Random(shot.seed)
    values = changed_values(shot.values_at(0), rng, list(ATTRIBUTES))
    shots = [Shot(((0, values),), rng.randrange(2**31))]
    older = encode_shots(kit.vae, shots, HALF, DEMO.width)[0].float()  # (f, c, h, w)
    return replace(start, past=torch.cat([older, start.past[HALF:]]))
