"""The measurements of the model card.

Each measurement takes the demo's networks, a recipe and a seed, and looks at one clip. So the clips
can be spread over worker processes of one thread each.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ...attention.cache.policy import CachePolicy
from ...model.checkpoint import load_tiny_vae
from ...model.config import FRAMES_PER_LATENT
from ...model.preset import DEMO
from ...model.vae.latent_format import SPATIAL_FACTOR, frame_count
from ...model.vae.streaming import StreamingDecoder
from ...model.vae.tiny import decode_all, encode_all
from ...samplers.loop import Chunk
from ..world.attributes import ATTRIBUTES, caption, changed_values, random_values
from ..world.clips import latent_start, random_shot
from ..world.dataset import encode_shots
from ..world.renderer import render
from ..world.scene import Shot, scene
from .kit import Kit, Recipe, decode, load_kit, sample
from .oracle import read_attributes
from .psnr import psnr

HELD_OUT_SEED = 30_000_001
TURN = 30  # the latent frame at which the camera turns back
AFTER_TURN = 9  # latent frames of true history between the turn and the measured chunk
SWITCH, AFTER_SWITCH = 12, 12  # latent frames before and after a prompt switch

T = TypeVar("T")
Rows = dict[str, list[float]]
"""A quantity's name -> its value for each clip."""


def spread(
    measure: Callable[[Kit, int], T], seeds: Sequence[int], folder: Path, workers: int
) -> list[T]:
    """Return `measure(kit, seed)` for every seed, computed by `workers` processes of one thread
    each.
    """
    measure_seed = partial(_measure_seed, measure, folder)
    with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(measure_seed, seeds))


def _measure_seed(measure: Callable[[Kit, int], T], folder: Path, seed: int) -> T:
    with torch.inference_mode():
        return measure(load_kit(folder), seed)


def adherence(kit: Kit, seed: int, recipe: Recipe, *, held_out: bool) -> dict[str, float]:
    """Return the share of right readings of each attribute, every eight frames, for a random
    prompt.
    """
    rng = random.Random(HELD_OUT_SEED + seed)
    values = random_values(rng)
    prompts = [(0, caption(values, rng, held_out=held_out))]
    video = decode(kit, sample(kit, recipe, prompts, seed))
    readings = right_readings(kit, video, range(0, len(video) - 8, 8), values)
    return {name: float(np.mean(flags)) for name, flags in readings.items()}


def switch(kit: Kit, seed: int, recipe: Recipe) -> list[float]:
    """Return mean adherence per latent frame after a prompt switch that changes every attribute."""
    rng = random.Random(HELD_OUT_SEED + 500_000 + seed)
    first = random_values(rng)
    second = changed_values(first, rng, list(ATTRIBUTES))
    prompts = [(0, caption(first, rng)), (SWITCH, caption(second, rng))]
    length = SWITCH + AFTER_SWITCH + DEMO.chunk_frames
    video = decode(kit, sample(kit, replace(recipe, length=length), prompts, seed))
    at = [latent_start(SWITCH + i) for i in range(AFTER_SWITCH)]
    readings = right_readings(kit, video, at, second)
    return [float(np.mean(flags)) for flags in zip(*readings.values(), strict=True)]


def drift(kit: Kit, seed: int, recipe: Recipe) -> dict[str, float]:
    """Return adherence and latent spread, early (latent frames 8 to 40) and in the last tenth."""
    rng = random.Random(HELD_OUT_SEED + 600_000 + seed)
    values = random_values(rng)
    prompts = [(0, caption(values, rng))]
    rows: Rows = {"right early": [], "right late": [], "std early": [], "std late": []}
    decoder = StreamingDecoder(kit.vae)
    for chunk in sample(kit, recipe, prompts, seed):
        frames = decoder.feed(chunk.latents)
        part = _part(chunk.first_frame, recipe.length)
        if part and len(frames) >= 12:
            readings = right_readings(kit, frames, [0], values)
            rows[f"right {part}"].append(float(np.mean(list(readings.values()))))
            rows[f"std {part}"].append(float(chunk.latents.std()))
    return {name: float(np.mean(row)) for name, row in rows.items()}


def _part(latent_frame: int, length: int) -> str:
    if 8 <= latent_frame < 40:
        return "early"
    return "late" if latent_frame >= 0.9 * length else ""


def revisit(
    kit: Kit, seed: int, recipe: Recipe, *, memories: Mapping[str, CachePolicy]
) -> dict[str, float]:
    """Return agreement with the rendered truth after the camera turns back, by memory.

    The history is a true clip whose camera panned one way for 30 latent frames. The model continues
    with the opposite pan. The comparison covers the tree band in the third of the picture where
    scenery re-enters. It starts when the ramp is over and the scenery was last seen at least 8
    latent frames ago.
    """
    shot, prompts = _there_and_back(seed)
    recipe = replace(recipe, length=2 * TURN)
    width = recipe.columns * SPATIAL_FACTOR
    truth = render(scene([shot], frame_count(recipe.length)), DEMO.height, width)[0]
    history = as_chunks(encode_shots(kit.vae, [shot], TURN, width)[0])
    agreement = {}
    for name, cache in memories.items():
        chunks = sample(kit, replace(recipe, cache=cache), prompts, seed, history)
        video = decode(kit, [*history, *chunks])
        at = range(latent_start(TURN) + latent_start(4), len(video), 4)
        agreement[name] = float(np.mean([band_agreement(video[t], truth[t]) for t in at]))
    return agreement


def recall(
    kit: Kit, seed: int, recipe: Recipe, *, memories: Mapping[str, CachePolicy]
) -> dict[str, float]:
    """Return agreement of the scenery that re-enters in one chunk after a true history, by memory.

    Unlike in `revisit` no error accumulates: neither of the camera nor of earlier scenery. "decoded
    truth" is the agreement that the VAE alone reaches.
    """
    shot, prompts = _there_and_back(seed)
    recipe = replace(recipe, length=TURN + AFTER_TURN + DEMO.chunk_frames)
    truth = render(scene([shot], frame_count(recipe.length)), DEMO.height, DEMO.width)[0, -1]
    clip = as_chunks(encode_shots(kit.vae, [shot], recipe.length, DEMO.width)[0])
    history = clip[:-1]
    agreement = {"decoded truth": entering_agreement(decode(kit, clip)[-1], truth)}
    for name, cache in memories.items():
        chunks = sample(kit, replace(recipe, cache=cache), prompts, seed, history)
        last = decode(kit, [*history, *chunks])[-1]
        agreement[name] = entering_agreement(last, truth)
    return agreement


def _there_and_back(seed: int) -> tuple[Shot, list[tuple[int, str]]]:
    """Script a clip whose camera turns back at latent frame TURN, with its prompts."""
    rng = random.Random(HELD_OUT_SEED + 700_000 + seed)
    away = {**random_values(rng), "pan": "left", "weather": "clear"}
    back = {**away, "pan": "right"}
    shot = Shot(((0, away), (latent_start(TURN), back)), rng.randrange(2**31))
    return shot, [(0, caption(away, rng)), (TURN, caption(back, rng))]


def as_chunks(latents: Tensor) -> list[Chunk]:
    """Split latents (f, c, h, w) into chunks, as if they had been generated."""
    parts = latents.split(DEMO.chunk_frames)
    return [Chunk(i, DEMO.chunk_frames * i, part) for i, part in enumerate(parts)]


def band_agreement(picture: Tensor, truth: Tensor, *, reach: int = 3) -> float:
    """Return the best correlation of the tree band's right third within `reach` pixels of shift.

    Both pictures are (3, H, W). Row means are removed, so only horizontal changes count.
    """
    width = truth.shape[-1]
    left, right = 2 * width // 3, width - reach
    a = _without_row_means(truth[:, 16:46, left:right])
    best = -1.0
    for shift in range(-reach, reach + 1):
        b = _without_row_means(picture[:, 16:46, left + shift : right + shift])
        best = max(best, float((a * b).sum() / (a.norm() * b.norm() + 1e-8)))
    return best


def entering_agreement(picture: Tensor, truth: Tensor) -> float:
    """Correlate the tree band's columns that one chunk of panning right brings in."""
    a, b = (
        _without_row_means(image[:, 16:46, -FRAMES_PER_LATENT * DEMO.chunk_frames :])
        for image in (picture, truth)
    )
    return float((a * b).sum() / (a.norm() * b.norm() + 1e-8))


def _without_row_means(band: Tensor) -> Tensor:
    return band - band.mean(-1, keepdim=True)


def right_readings(
    kit: Kit, video: Tensor, at: Sequence[int], values: dict[str, str]
) -> dict[str, list[bool]]:
    """Return, per attribute, whether the oracle reads the wanted value at each frame in `at`."""
    readings = read_attributes(kit.oracle, video, torch.tensor(at))
    return {
        name: (readings[name] == possible.index(values[name])).tolist()
        for name, possible in ATTRIBUTES.items()
    }


@torch.no_grad()
def reconstruction(kit: Kit, seed: int, clips: int, width: int) -> Rows:
    """Return the PSNR in dB of held-out clips: all frames, the first, each frame of a group of
    four.
    """
    rng = random.Random(HELD_OUT_SEED + 800_000 + seed)
    rows: Rows = {name: [] for name in ("all", "first", *(f"frame {i} of 4" for i in range(1, 5)))}
    for _ in range(clips):
        video = render(scene([random_shot(rng, 12)], frame_count(12)), DEMO.height, width)
        out = decode_all(kit.vae, encode_all(kit.vae, video))
        rows["all"].append(psnr(out, video))
        rows["first"].append(psnr(out[:, :1], video[:, :1]))
        for i in range(1, 5):
            rows[f"frame {i} of 4"].append(psnr(out[:, i::4], video[:, i::4]))
    return rows


def half_precision_loss(kit: Kit, full_precision: Path, seed: int, clips: int) -> list[float]:
    """Return how many dB the fp16 file loses per clip against the fp32 weights."""
    full = replace(kit, vae=load_tiny_vae(full_precision))
    best, shipped = (reconstruction(k, seed, clips, DEMO.width)["all"] for k in (full, kit))
    return [a - b for a, b in zip(best, shipped, strict=True)]
