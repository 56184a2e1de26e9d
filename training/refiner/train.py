"""Train the demo's second stage, which makes frames four times as large.

`python -m longtake.training.refiner.train --folder model/demo --out DIR`. The folder has the first
stage's weights.

The network sees what the first stage shows, with noise of a random level on it, and learns the
large frame as the world's renderer draws it. Half of the clips have been through the VAE alone,
half of them through the transformer too. It may repair what the VAE has blurred. One term of
the loss limits that: the large frame, made small again, must stay the small one, or what it shows
would be painted anew. Give the same command again to resume.
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

from ...model.preset import DEMO, DEMO_FOLDER
from ...model.refiner.network import MAX_LEVEL, Refiner, RefinerConfig, enlarge, shrink
from ..command import FOLDER, keep_freed_memory, reporting
from ..evaluation.psnr import psnr
from ..run import Curve, TrainingRun, matrix_descent, save_half
from .first_stage import VAEStage, load_stage
from .pairs import CropSize, PairMaker, PairPool, Pairs

STEADINESS = 5.0  # weight of the change from frame to frame: what the VAE makes flicker must rest
HELD_OUT_SEED = 20_000_003
MAX_REPAIR = 10 ** (-36 / 10)  # what may change of a small frame: 36 dB, above the goal of 35
REPAIR_WEIGHT = 150.0  # of what is changed beyond that
CLEAN_SHARE = 0.5  # share of the clips without noise on their small frames

logger = logging.getLogger("longtake")


@dataclass(frozen=True, slots=True)
class RefinerTraining:
    """Length and sizes of a run."""

    steps: int = 7400
    seed: int = 1
    batch: int = 3
    clips: int = 120
    held_out: int = 12
    size: tuple[int, int] = (DEMO.height, DEMO.width)  # of the small frames
    crop: CropSize = CropSize()
    config: RefinerConfig = RefinerConfig()
    save_every: int = 100
    average: float = 0.998  # how much of the running mean of the weights stays at each step
    frame_wise: bool = False  # every frame is a video of its own: a baseline without memory


def train(folder: Path, out: Path, settings: RefinerTraining) -> None:
    """Run or resume; write `refiner.safetensors` (fp16) into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    vae, stage = load_stage(folder)
    model = Refiner(settings.config)
    descent = matrix_descent(
        list(model.parameters()), Curve(settings.steps, decay_share=0.7), muon=0.01, adamw=1e-3
    )
    run = TrainingRun(out / "refiner.pt", model, descent)
    run.resume(rng, settings.seed)
    yardstick = PairMaker(VAEStage(vae, 0.0), random.Random(HELD_OUT_SEED), settings.size)
    held_out = yardstick.make(settings.held_out)
    pool = PairPool(PairMaker(stage, rng, settings.size), settings.clips)
    for _ in range(run.done, settings.steps):
        small, large = pool.draw(settings.batch, settings.crop)
        if settings.frame_wise:
            small, large = small.flatten(0, 1)[:, None], large.flatten(0, 1)[:, None]
        loss = loss_of(model, small, large, random_levels(rng, len(small)))
        run.descend(loss)
        run.average(settings.average)
        if run.is_due(settings.save_every):
            save_half(run.averaged, out / "refiner.safetensors")
            mean = Refiner(settings.config)
            mean.load_state_dict(run.averaged)
            logger.info(
                "step %d loss %.4f psnr %.2f (bicubic %.2f) %.0fs",
                run.done, loss.item(), *held_out_psnr(mean, held_out), run.elapsed_s,
            )  # fmt: skip
            run.save()


def random_levels(rng: random.Random, count: int) -> Tensor:
    """Noise levels (n,) for a batch; some are 0, and low ones are more frequent than high ones."""
    clean = (rng.random() < CLEAN_SHARE for _ in range(count))
    return torch.tensor([0.0 if is_clean else MAX_LEVEL * rng.random() ** 2 for is_clean in clean])


def loss_of(model: Refiner, small: Tensor, large: Tensor, levels: Tensor) -> Tensor:
    """L1 plus 15 times MSE against the truth, the error of the change from frame to frame, and what
    is changed of clean frames beyond MAX_REPAIR.
    """
    noise = torch.randn_like(small) * levels.view(-1, 1, 1, 1, 1)
    output, _ = model(small + noise, levels, model.start())
    error = F.l1_loss(output, large) + 15 * F.mse_loss(output, large)
    if small.shape[1] > 1:
        error = error + STEADINESS * F.mse_loss(output.diff(dim=1), large.diff(dim=1))
    return error + REPAIR_WEIGHT * (excess_change(output, small) * (levels == 0)).mean()


def excess_change(large: Tensor, small: Tensor) -> Tensor:
    """By how much clips of `large`, made small again, differ from `small` beyond MAX_REPAIR (b,).

    It is the squared difference.
    """
    change = (shrink(large) - small).square().mean((1, 2, 3, 4))
    return (change - MAX_REPAIR).clamp(min=0)


@torch.no_grad()
def held_out_psnr(model: Refiner, held_out: Pairs) -> tuple[float, float]:
    """PSNR in dB of the network and of a bicubic enlargement, on clips of no run."""
    small, large = held_out.small.float() / 255, held_out.large.float() / 255
    output, _ = model(small, torch.zeros(len(small)), model.start())
    return psnr(output, large), psnr(enlarge(small), large)


@click.command(help=__doc__)
@click.option("--folder", type=FOLDER, default=DEMO_FOLDER, help="The first stage's weights.")
@click.option("--out", type=FOLDER, required=True, help="Folder for the weights and the state.")
@click.option("--steps", type=click.IntRange(1), default=RefinerTraining().steps, show_default=True)
@click.option("--seed", type=int, default=RefinerTraining().seed, show_default=True)
@click.option("--frame-wise", is_flag=True, help="Show the network one frame at a time.")
def main(folder: Path, out: Path, steps: int, seed: int, frame_wise: bool) -> None:
    with reporting():
        train(folder, out, RefinerTraining(steps=steps, seed=seed, frame_wise=frame_wise))


if __name__ == "__main__":
    keep_freed_memory()
    main()
