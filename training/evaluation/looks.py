"""Whether a shot keeps its ball and its sharpness: the detectors over a rollout of a minute."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ...model.config import FRAMES_PER_LATENT
from ...model.preset import DEMO
from ...model.vae.streaming import StreamingDecoder
from ..world.attributes import ATTRIBUTES, caption, changed_values, random_values
from ..world.clips import latent_start
from ..world.dataset import encode_shots
from ..world.scene import Shot
from .ball import read_balls
from .edges import fine_edges
from .kit import Kit, Recipe, sample
from .references import reference

HELD_OUT_SEED = 50_000_017
MINUTE = 240  # latent frames
BETWEEN = 36  # latent frames from one prompt switch to the next
RAMP = 3  # latent frames after a switch in which the world changes
SMEARED = 0.9  # of the edges of decoded truth; fewer are a smear


def looks(kit: Kit, seed: int, recipe: Recipe, *, length: int = MINUTE) -> dict[str, float]:
    """Shares of frames of a shot with prompt switches that do not look as they should.

    One frame of each latent frame is read, outside the ramps. "smeared after a switch" is the
    greatest number of such latent frames between two switches.
    """
    scripts = _scripts(random.Random(HELD_OUT_SEED + seed), length)
    prompts = [(at, text) for at, (_, text) in scripts.items()]
    chunks = sample(kit, replace(recipe, length=length), prompts, seed)
    return _shares(kit, (chunk.latents for chunk in chunks), scripts)


def looks_of_truth(kit: Kit, seed: int, *, length: int = MINUTE) -> dict[str, float]:
    """What `looks` reads in decoded truth of the same prompts: the floor of each share."""
    scripts = _scripts(random.Random(HELD_OUT_SEED + seed), length)
    values = tuple((latent_start(at), values) for at, (values, _) in scripts.items())
    shot = Shot(values, HELD_OUT_SEED + seed)
    latents = encode_shots(kit.vae, [shot], length, DEMO.width)[0]
    return _shares(kit, latents.split(DEMO.chunk_frames), scripts)


def _shares(
    kit: Kit, parts: Iterable[Tensor], scripts: Mapping[int, tuple[dict[str, str], str]]
) -> dict[str, float]:
    """What `looks` returns, of the latents of a shot, part by part."""
    decoder, rows, smears = StreamingDecoder(kit.vae), list[dict[str, float]](), dict[int, int]()
    end = 0
    for latents in parts:
        pictures = decoder.feed(latents).clamp(0, 1).flip(0)[::FRAMES_PER_LATENT].flip(0)
        end += len(latents)
        for i, picture in enumerate(pictures, end - len(pictures)):
            since = max(at for at in scripts if at <= i)
            if i - since < RAMP:
                continue
            rows.append(readings(picture, scripts[since][0]))
            smears[since] = smears.get(since, 0) + int(rows[-1]["smeared"])
    means = {name: float(torch.tensor([row[name] for row in rows]).mean()) for name in rows[0]}
    return {**means, "smeared after a switch": float(max(smears.values()))}


def readings(picture: Tensor, values: Mapping[str, str]) -> dict[str, float]:
    """What is wrong with a picture (3, H, W) of a world with attribute `values`, 1 for yes."""
    truth = reference()
    [ball] = read_balls(picture[None], values)
    edges = float(fine_edges(picture[None]))
    return {
        "ball missing or faint": float(not ball.is_present),
        "ball doubled": float(ball.count > 1),
        "ball blurred": float(ball.is_present and ball.sharpness < truth.sharpness),
        "smeared": float(edges < SMEARED * truth.edges_of(values)),
    }


def _scripts(rng: random.Random, length: int) -> dict[int, tuple[dict[str, str], str]]:
    """Attribute values and caption by the latent frame from which they hold."""
    values = random_values(rng)
    scripts = {0: (values, caption(values, rng))}
    for at in range(BETWEEN, length, BETWEEN):
        names = rng.sample([*ATTRIBUTES], rng.choice([1, 2, 5]))
        values = changed_values(values, rng, names)
        scripts[at] = values, caption(values, rng)
    return scripts
