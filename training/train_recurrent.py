"""Train a recurrent denoiser by diffusion forcing, on the demo's clips and captions.

`python -m longtake.training.train_recurrent --vae FILE --out DIR`. Every latent frame of a clip has
a noise level of its own, and the state passes through all of them in one pass (arXiv 2407.01392).
Half of the clips begin with a clean or slightly noisy part, as a rollout's history is. The demo's
text encoder reads the captions and is not trained. Give the same command again to resume.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from ..attention.states.cache import StateReader
from ..model.checkpoint import load_text_encoder, load_tiny_vae
from ..model.preset import DEMO_FOLDER
from ..model.recurrent.config import RecurrentConfig
from ..model.recurrent.file import recurrent_header
from ..model.recurrent.forward import predict, project_text
from ..model.recurrent.network import RecurrentNetwork
from ..model.text import TextEncoder
from .batches import TASKS, Task
from .command import FILE, FOLDER, keep_freed_memory, reporting
from .muon import Muon
from .run import Curve, Descent, TrainingRun, save_half
from .world.dataset import ClipMaker, Pool

CONFIG = RecurrentConfig(dim=96, num_layers=3, text_dim=64)
CLEAN_SHARE = 0.5
"""The share of clips that begin with a history at low noise."""

logger = logging.getLogger("longtake")


@dataclass(frozen=True, slots=True)
class RecurrentTraining:
    """Length and sizes of a run on clips of `task`, cut to its `context` latent frames."""

    steps: int = 1500
    seed: int = 0
    config: RecurrentConfig = CONFIG
    task: Task = field(default_factory=lambda: TASKS["narrow"])
    report_every: int = 50
    save_every: int = 250


def velocity_of(
    network: RecurrentNetwork, text: TextEncoder, noisy: Pool, levels: Tensor
) -> Tensor:
    """The velocity that a network predicts for the latents of noisy clips at `levels` (b, f)."""
    x, prompts = noisy.latents, project_text(network, text(noisy.captions))
    words = replace(prompts, vectors=prompts.vectors[torch.arange(len(x))[:, None], noisy.which])
    return predict(network, x, 1000 * levels, words, no_history(x, network)).velocity


def no_history(x: Tensor, network: RecurrentNetwork) -> StateReader:
    """The states before the first latent frame of clips x (b, f, c, h, w)."""
    zeros = x.new_zeros(len(x), x.shape[-2] * x.shape[-1], 1, network.dim)
    return StateReader([(zeros, zeros)] * len(network.layers), slice(None))


def build(config: RecurrentConfig) -> RecurrentNetwork:
    """A freshly initialised network that predicts zero."""
    network = RecurrentNetwork(config)
    for name, parameter in network.named_parameters():
        if name.startswith("head.") or ".modulation." in name:
            nn.init.zeros_(parameter)
    return network


def draw_levels(rng: random.Random, clips: int, frames: int) -> Tensor:
    """A level (b, f) for each frame; half of the clips begin with a history at low noise."""
    levels = torch.sigmoid(1.2 * torch.randn(clips, frames) + 0.2)
    for row in levels:
        if rng.random() < CLEAN_SHARE:
            length = rng.randrange(1, frames)
            row[:length] = rng.choice((0.0, 0.1)) * torch.rand(length)
    return levels


def loss_of(
    network: RecurrentNetwork, text: TextEncoder, clips: Pool, rng: random.Random
) -> Tensor:
    """The mean squared error of the velocity over all frames of some clips."""
    clean = clips.latents.float()
    levels = draw_levels(rng, *clean.shape[:2])
    noise, level = torch.randn_like(clean), levels[:, :, None, None, None]
    noisy = replace(clips, latents=(1 - level) * clean + level * noise)
    error: Tensor = velocity_of(network, text, noisy, levels) - (noise - clean)
    return error.square().mean()


def descent_of(network: RecurrentNetwork, curve: Curve) -> Descent:
    """Muon for the layers' convolutions, AdamW for everything else."""
    inside = [p for p in network.layers.parameters() if p.ndim == 4]
    known = {id(p) for p in inside}
    rest = [p for p in network.parameters() if id(p) not in known]
    adamw = torch.optim.AdamW(rest, 2e-3, betas=(0.9, 0.98), weight_decay=0.0)
    return Descent([Muon(inside, 0.01), adamw], curve, clipped=list(network.parameters()))


def train(vae_file: Path, out: Path, settings: RecurrentTraining) -> None:
    """Run or resume training and write the weights into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    vae, rng = load_tiny_vae(vae_file), random.Random(settings.seed)
    torch.manual_seed(settings.seed)
    network, text = build(settings.config), load_text_encoder(DEMO_FOLDER / "text.safetensors")
    averaged = {name: value.detach().clone() for name, value in network.state_dict().items()}
    curve = Curve(settings.steps, warmup=30, decay_share=0.4)
    run = TrainingRun(out / "recurrent.pt", network, descent_of(network, curve), averaged)
    run.resume(rng, settings.seed)
    maker, task = ClipMaker(vae, text, rng), settings.task
    pool = maker.fill(task.pool)
    for _ in range(run.done, settings.steps):
        if rng.random() < 8 / task.pool.latent_frames:
            maker.refresh(pool, task.pool, 1)
        loss = loss_of(network, text, draw_clips(pool, task, rng), rng)
        run.descend(loss)
        average(run.averaged, network, run.done)
        if run.is_due(settings.report_every):
            logger.info("step %d/%d %.4f", run.done, settings.steps, float(loss.detach()))
        if run.is_due(settings.save_every):
            run.save()
            save_half(run.averaged, out / "recurrent.safetensors", recurrent_header())


def draw_clips(pool: Pool, task: Task, rng: random.Random) -> Pool:
    """Some clips of a pool, cut to the task's number of frames."""
    rows = torch.tensor(rng.sample(range(task.pool.clips), task.batch))
    first = rng.choice((0, rng.randrange(task.pool.latent_frames - task.context + 1)))
    frames = slice(first, first + task.context)
    return replace(
        pool, latents=pool.latents[rows, frames], captions=pool.captions[rows],
        which=pool.which[rows, frames],
    )  # fmt: skip


@torch.no_grad()
def average(averaged: dict[str, Tensor], network: RecurrentNetwork, steps: int) -> None:
    """Move the averaged weights towards those of `network`, after so many steps."""
    share = 1 - min(0.998, (1 + steps) / (10 + steps))
    for name, value in network.state_dict().items():
        averaged[name].lerp_(value, share)


@click.command(help=__doc__)
@click.option("--vae", type=FILE, required=True, help="The vae.safetensors that encodes clips.")
@click.option("--out", type=FOLDER, required=True, help="Folder for the weights and the state.")
@click.option("--steps", type=click.IntRange(1), default=1500, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def main(vae: Path, out: Path, **choices: Any) -> None:
    with reporting():
        train(vae, out, RecurrentTraining(**choices))


if __name__ == "__main__":
    keep_freed_memory()
    main()
