"""Measurements of a guided rollout of the demo model, from pixels and latents alone.

The oracle reads adherence. Drift is start-end contrast, |M(first 15 %) - M(last 15 %)| (FramePack,
arXiv 2504.12626, eq. 7), and a least-squares slope. Distribution distance is an unbiased
polynomial-kernel MMD (KID, arXiv 1801.01401) on pooled latents against rendered truth.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...model.vae.latent_format import SPATIAL_FACTOR, frame_count
from ...samplers.loop import Chunk
from ...training.evaluation.estimate import Estimate
from ...training.evaluation.kit import Kit, Recipe, decode, sample
from ...training.evaluation.measures import HELD_OUT_SEED, as_chunks, right_readings
from ...training.world.attributes import caption, random_values
from ...training.world.dataset import encode_shots
from ...training.world.scene import Shot

OFFSET = 900_000  # of the prompts' seeds, so that no two benches share prompts
ENDS = 0.15  # share of the frames at the start and at the end
READ_EVERY = 8
RESAMPLES = 200
FEWEST = 4  # rollouts whose halves have a distance
SEGMENT_LATENTS = 12  # 3 s
SEGMENTS_APART = 4  # neighbouring segments of a shot are too similar

Features = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One rollout: its figures by name, and vectors (n, d) of its segments."""

    figures: dict[str, float]
    features: Features


def measure_guided(kit: Kit, seed: int, recipe: Recipe) -> Measurement:
    """Make the rollout of a seed's random prompt and measure it."""
    rng = random.Random(HELD_OUT_SEED + OFFSET + seed)
    values = random_values(rng)
    return measure_rollout(
        kit, list(sample(kit, recipe, [(0, caption(values, rng))], seed)), values
    )


def measure_rollout(kit: Kit, chunks: Sequence[Chunk], values: dict[str, str]) -> Measurement:
    """Measure a rollout whose prompt names attribute `values`."""
    video = decode(kit, chunks)
    readings = right_readings(kit, video, range(0, len(video) - READ_EVERY, READ_EVERY), values)
    right = np.array([*readings.values()]).mean(0)
    figures = {"adherence": float(right.mean()), "adherence, last tenth": float(_tail(right, 0.1))}
    evals = sum(chunk.model_evals for chunk in chunks)
    figures |= pictures(video) | motion(video, chunks) | {"evaluations": evals / len(chunks)}
    vectors = features(torch.cat([chunk.latents for chunk in chunks]))
    return Measurement(figures, vectors[::SEGMENTS_APART])


def measure_truth(kit: Kit, seed: int, recipe: Recipe) -> Measurement:
    """Measure a rendered clip of another random prompt, encoded and decoded."""
    rng = random.Random(HELD_OUT_SEED + 950_000 + seed)
    values = random_values(rng)
    shot = Shot(((0, values),), rng.randrange(2**31))
    width = recipe.columns * SPATIAL_FACTOR
    latents = encode_shots(kit.vae, [shot], recipe.length, width)[0].float()
    return measure_rollout(kit, as_chunks(latents), values)


def pictures(video: Tensor) -> dict[str, float]:
    """Return sharpness, and drift of saturation, contrast and sharpness, of video (t, 3, H, W)."""
    luma = video.mean(1)
    edges = luma[:, 1:-1, 1:-1] * 4 - luma[:, 2:, 1:-1] - luma[:, :-2, 1:-1]
    edges = edges - luma[:, 1:-1, 2:] - luma[:, 1:-1, :-2]
    series = {
        "saturation": (video.amax(1) - video.amin(1)).mean((1, 2)),
        "contrast": luma.std((1, 2)),
        "sharpness": edges.flatten(1).std(1),
    }
    figures = {"sharpness": float(series["sharpness"].mean())}
    for name, frames in series.items():
        values = frames.double().numpy()
        figures[f"drift of {name}"] = abs(_tail(values, ENDS) - _head(values, ENDS))
        figures[f"slope of {name} per 100 frames"] = _slope(values)
    return figures


def motion(video: Tensor, chunks: Sequence[Chunk]) -> dict[str, float]:
    """Return mean change between frames in 8-bit steps, its last part over its first, and the seam.

    The seam is the change at chunk boundaries over the change inside chunks.
    """
    change = 255 * (video[1:] - video[:-1]).abs().mean((1, 2, 3)).double().numpy()
    boundaries = [frame_count(chunk.first_frame) - 1 for chunk in chunks if chunk.first_frame]
    inside = np.delete(change, boundaries)
    ratio = _tail(change, ENDS) / max(_head(change, ENDS), 1e-6)
    seam = float(change[boundaries].mean() / inside.mean()) if boundaries else 1.0
    return {"motion": float(change.mean()), "motion, last over first": ratio, "seam": seam}


def features(latents: Tensor) -> Features:
    """Return a vector for each segment of latents (f, c, h, w).

    A vector has the mean, the spread and the mean change of each channel.
    """
    segments = []
    for part in latents.double().split(SEGMENT_LATENTS):
        if len(part) == SEGMENT_LATENTS:
            change = (part[1:] - part[:-1]).abs().mean((0, 2, 3))
            segments.append(torch.cat([part.mean((0, 2, 3)), part.std((0, 2, 3)), change]))
    return torch.stack(segments).numpy()


def kernel_distance(x: Features, y: Features) -> float:
    """Return the unbiased MMD^2 of rows under the kernel (x y / d + 1)^3."""

    def kernel(a: Features, b: Features) -> Features:
        values: Features = (a @ b.T / a.shape[1] + 1) ** 3
        return values

    def within(a: Features) -> float:
        full = kernel(a, a)
        return float((full.sum() - np.trace(full)) / (len(a) * (len(a) - 1)))

    return within(x) + within(y) - 2 * float(kernel(x, y).mean())


def distance(rollouts: Sequence[Features], reference: Sequence[Features]) -> Estimate:
    """Return the kernel distance of all rollouts' segments, with an interval over rollouts.

    Each side has at least `FEWEST` rollouts: a single segment has no distance within its half.
    """
    whole = kernel_distance(np.concatenate(rollouts), np.concatenate(reference))
    rng = np.random.default_rng(0)
    estimates = []
    for _ in range(RESAMPLES):
        halves = (
            [side[i] for i in rng.choice(len(side), max(1, len(side) // 2), replace=False)]
            for side in (rollouts, reference)
        )
        estimates.append(kernel_distance(*(np.concatenate(half) for half in halves)))
    # Half-samples without replacement vary as much as the whole sample's estimate.
    low, high = np.percentile(np.array(estimates) - np.mean(estimates), [2.5, 97.5])
    return Estimate(whole, whole + float(low), whole + float(high), len(rollouts))


def _head(values: Features, share: float) -> float:
    return float(values[: max(1, round(share * len(values)))].mean())


def _tail(values: Features, share: float) -> float:
    return float(values[-max(1, round(share * len(values))) :].mean())


def _slope(values: Features) -> float:
    return float(np.polyfit(np.arange(len(values)) / 100, values, 1)[0])
