"""The oracle: a tiny network that reads the world's attributes back from three frames four apart.

`python -m longtake.training.oracle --vae FILE --out FILE` trains it on rendered clips and their
reconstructions by the VAE, so that it judges pictures of either kind; a minute or two on two cores.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model.checkpoint import load_tiny_vae, read
from ..model.vae.tiny import TinyVAE, decode_all, encode_all
from .attributes import ATTRIBUTES
from .clips import random_shot, reversal_shot
from .command import FILE, keep_freed_memory, reporting
from .renderer import render
from .run import Curve, Descent, save_half
from .world import ATTRIBUTE_SIZE, SLICES, scene

BASELINE = 4  # frames between the three pictures
SPAN = 2 * BASELINE + 1  # frames that one reading looks at
CLIP_LATENTS, CLIP_FRAMES = 12, 45
WIDTHS = (64, 96)
HELD_OUT_SEED = 20_000_003

logger = logging.getLogger("longtake")

Examples = tuple[Tensor, Tensor]
"""Frames (n, 9, H, W) and attribute weights (n, ATTRIBUTE_SIZE)."""


class Oracle(nn.Module):
    """Three RGB frames (b, 9, H, W) in [0, 1] to logits of all values (b, ATTRIBUTE_SIZE)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(9, 24, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(24, 48, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(48, 64, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.out = nn.Linear(128, ATTRIBUTE_SIZE)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits, from the mean and the maximum of every feature over the picture."""
        features = self.layers(frames - 0.5).flatten(2)
        logits: Tensor = self.out(torch.cat([features.mean(-1), features.amax(-1)], -1))
        return logits


def triples(video: Tensor, at: Tensor) -> Tensor:
    """Frames `at`, `at` + 4 and `at` + 8 of video (t, 3, H, W), stacked as (k, 9, H, W)."""
    return torch.cat([video[at + BASELINE * i] for i in range(3)], 1)


@torch.no_grad()
def read_attributes(oracle: Oracle, video: Tensor, at: Tensor) -> dict[str, Tensor]:
    """The index of each attribute's value (k,), read at frames `at` (k,) of video (t, 3, H, W)."""
    logits = oracle(triples(video, at))
    return {name: logits[:, part].argmax(-1) for name, part in SLICES.items()}


def load_oracle(path: Path) -> Oracle:
    """The trained oracle."""
    oracle = Oracle()
    oracle.load_state_dict({key: value.float() for key, value in read(path)[0].items()})
    return oracle.eval().requires_grad_(False)


@torch.no_grad()
def examples(rng: random.Random, vae: TinyVAE, count: int) -> Examples:
    """Readings of `count` clips of one width, reconstructed half of the time; none on a ramp."""
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
    """Mean cross-entropy over the attributes."""
    parts = [
        F.cross_entropy(logits[:, part], weights[:, part].argmax(-1)) for part in SLICES.values()
    ]
    return torch.stack(parts).mean()


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how large a run is."""

    steps: int = 1500
    seed: int = 0
    pool: int = 24
    clips: int = 24
    held_out_clips: int = 16
    report_every: int = 100


def train(vae_file: Path, out: Path, settings: Settings) -> None:
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
    """Share of right readings on six batches of held-out clips."""
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
@click.option("--steps", type=click.IntRange(1), default=Settings().steps, show_default=True)
@click.option("--seed", type=int, default=Settings().seed, show_default=True)
def main(vae: Path, out: Path, steps: int, seed: int) -> None:
    """Command line."""
    with reporting():
        train(vae, out, Settings(steps=steps, seed=seed))


if __name__ == "__main__":
    keep_freed_memory()
    main()
