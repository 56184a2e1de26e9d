"""Train the oracle, the network that reads attributes back from pixels.

`python -m longtake.training.train_oracle --vae FILE --out FILE`. Half of the training clips are
reconstructions by the VAE, so the oracle judges rendered and decoded pictures alike. Training takes
a few minutes on two cores.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.checkpoint import load_tiny_vae
from ..model.vae.tiny import TinyVAE, decode_all, encode_all
from .command import FILE, keep_freed_memory, reporting
from .evaluation.oracle import BASELINE, SPAN, Oracle
from .run import Curve, Descent, save_half
from .world.attributes import ATTRIBUTES
from .world.clips import random_shot, reversal_shot
from .world.renderer import render
from .world.scene import SLICES, scene

CLIP_LATENTS, CLIP_FRAMES = 12, 45
WIDTHS = (64, 96)
HELD_OUT_SEED = 20_000_003

logger = logging.getLogger("longtake")

Examples = tuple[Tensor, Tensor]
"""Frames (n, 9, H, W) and attribute weights (n, ATTRIBUTE_SIZE)."""


@torch.no_grad()
def examples(rng: random.Random, vae: TinyVAE, count: int) -> Examples:
    """Render `count` clips of one width; half of the time return their VAE reconstructions instead.

    Frames on an attribute ramp are left out.
    """
    width = rng.choice(WIDTHS)
    shots = [
        random_shot(rng, CLIP_LATENTS) if rng.random() < 0.6 else reversal_shot(rng, CLIP_LATENTS)
        for _ in range(count)
    ]
    batch = scene(shots, CLIP_FRAMES)
    start = rng.randrange(0, CLIP_FRAMES - 17)
    video = render(batch.frames(start, start + 17), 64, width)
    if rng.random() < 0.5:
        video = decode_all(vae, encode_all(vae, video)).clamp(0, 1)
    inputs, targets = [], []
    for at in (0, SPAN - 1):
        weights = batch.attributes[:, start + at : start + at + SPAN]
        steady = (weights.amax(1) - weights.amin(1)).amax(-1) < 0.01
        inputs.append(video[steady, at : at + SPAN : BASELINE].flatten(1, 2))
        targets.append(weights[steady, 0])
    return torch.cat(inputs), torch.cat(targets)


def loss_of(logits: Tensor, weights: Tensor) -> Tensor:
    """Return the mean cross-entropy over the attributes."""
    parts = [
        F.cross_entropy(logits[:, part], weights[:, part].argmax(-1)) for part in SLICES.values()
    ]
    return torch.stack(parts).mean()


@dataclass(frozen=True, slots=True)
class OracleTraining:
    """Length and sizes of an oracle training run."""

    steps: int = 1500
    seed: int = 0
    pool: int = 24
    clips: int = 24
    held_out_clips: int = 16
    report_every: int = 100


def train(vae_file: Path, out: Path, settings: OracleTraining) -> None:
    """Train the oracle and write it to the file `out` in fp16."""
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    vae = load_tiny_vae(vae_file)
    oracle = Oracle()
    descent = Descent([torch.optim.AdamW(oracle.parameters(), 2e-3)], Curve(settings.steps))
    pool = [examples(rng, vae, settings.clips) for _ in range(settings.pool)]
    for step in range(settings.steps):
        if step % 3 == 0:
            pool[rng.randrange(len(pool))] = examples(rng, vae, settings.clips)
        parts = [rng.choice([x for x in pool if x[0].shape[-1] == width]) for width in WIDTHS]
        loss = torch.stack([loss_of(oracle(_noisy(x)), y) for x, y in parts]).mean()
        descent.step(loss, step)
        if (step + 1) % settings.report_every == 0:
            right = accuracy(oracle.eval(), vae, settings.held_out_clips)
            logger.info("step %d loss %.4f %s", step + 1, loss.item(), right)
            oracle.train()
    out.parent.mkdir(parents=True, exist_ok=True)
    save_half(oracle.state_dict(), out)


@torch.no_grad()
def accuracy(oracle: Oracle, vae: TinyVAE, clips: int) -> dict[str, float]:
    """Return the share of right readings on six batches of held-out clips."""
    rng = random.Random(HELD_OUT_SEED)
    right: dict[str, list[float]] = {name: [] for name in ATTRIBUTES}
    for _ in range(6):
        x, y = examples(rng, vae, clips)
        logits = oracle(x)
        for name, part in SLICES.items():
            right[name] += (logits[:, part].argmax(-1) == y[:, part].argmax(-1)).float().tolist()
    return {name: round(sum(values) / len(values), 3) for name, values in right.items()}


def _noisy(x: Tensor) -> Tensor:
    return x + 0.03 * torch.randn_like(x)


@click.command(help=__doc__)
@click.option("--vae", type=FILE, required=True, help="The vae.safetensors to judge pictures of.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to write."
)
@click.option("--steps", type=click.IntRange(1), default=OracleTraining().steps, show_default=True)
@click.option("--seed", type=int, default=OracleTraining().seed, show_default=True)
def main(vae: Path, out: Path, steps: int, seed: int) -> None:
    with reporting():
        train(vae, out, OracleTraining(steps=steps, seed=seed))


if __name__ == "__main__":
    keep_freed_memory()
    main()
