"""Train the demo's DiT and text encoder by diffusion forcing.

`python -m longtake.training.train_dit --vae FILE --out DIR`. Noise is independent per latent frame.
The clean copy is usually a little noisy and sometimes pure noise, so that the model knows caches of
any quality, or none. Clips with camera reversals and a long history teach memory; in these clips
the noisy copy covers only a few chunks. Give the same command again to resume.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from ..attention.dense import WholeSequence
from ..attention.rope import rotation
from ..model.camera.action import pan_hooks
from ..model.camera.columns import world_hooks
from ..model.checkpoint import load_tiny_vae
from ..model.config import PATCH, Camera, DiTConfig, State
from ..model.dit import PassOptions, WanDiT, predict, project_text
from ..model.hooks import NO_HOOKS, Hooks
from ..model.text import TextEncoder
from .batches import TASKS, Batch, BatchFeed, BatchTask, Task, task_at, tasks_of
from .beginnings import STEP, begin_columns, config_to_train, go_on_from, grow_columns
from .command import FILE, FOLDER, HALF, keep_freed_memory, reporting
from .muon import Muon
from .own_history import SHARE, with_own_history
from .pace import PACE_WEIGHT, pace_loss
from .probe import PROBE, losses_by_window, memory_probe
from .recipes import RECIPES
from .run import Curve, Descent, RecentLosses, TrainingRun, save_half
from .served import SECOND_TASKS, second_task_at
from .state import begin_states, state_tasks, states_of_clip
from .world.attributes import vocabulary
from .world.dataset import ClipMaker

CONFIG = DiTConfig(dim=192, ffn_dim=512, num_heads=4, num_layers=6, text_dim=64)
TEXT_LEN = 24
EMA = 0.998
ZERO_AT_START = (
    ".self_attn.o.weight", ".cross_attn.o.weight", ".ffn.2.weight", "head.head.weight",
    "action_embedding.2.weight",
)  # fmt: skip

logger = logging.getLogger("longtake")


@dataclass(frozen=True, slots=True)
class DiTTraining:
    """Length and sizes of a run; `only` names a single task to train on instead of all tasks.

    `start` is a folder with the weights to begin with, `rate` a factor of all learning rates,
    `task_at` draws a step's task, and `own_history` is the share of batches with such a history.
    `pace` is the weight of the camera's pace in the loss. `half` multiplies in bfloat16.
    """

    steps: int = 3000
    seed: int = 0
    config: DiTConfig = CONFIG
    tasks: Mapping[str, BatchTask] = field(default_factory=lambda: TASKS)
    probe: Task = PROBE
    recipe: str = "diffusion-forcing"
    only: str | None = None
    start: Path | None = None
    rate: float = 1.0
    task_at: Callable[[float, random.Random], str] = task_at
    own_history: float = 0.0
    pace: float = 0.0
    half: bool = False
    report_every: int = 50
    save_every: int = 250


class Networks(nn.Module):
    """The DiT and the text encoder, trained together."""

    def __init__(self, dit: WanDiT, text: TextEncoder) -> None:
        super().__init__()
        self.dit = dit
        self.text = text

    def forward(self, batch: Batch) -> Tensor:
        """Predict the velocity of the noisy copy (b, m, c, h, w)."""
        clips = torch.arange(len(batch.x))
        prompts = project_text(self.dit, self.text(batch.captions)).pick(clips, batch.which)
        rows, columns = batch.x.shape[-2] // PATCH, batch.x.shape[-1] // PATCH
        rotary = rotation(batch.positions, rows, columns, self.dit.dim // self.dit.num_heads)
        attention = WholeSequence(rotary, batch.mask)
        options = PassOptions(hooks=self._hooks(batch))
        levels = 1000 * batch.levels
        velocity = predict(self.dit, batch.x, levels, prompts, attention, options).velocity
        return velocity[:, -batch.target.shape[1] :]

    def _hooks(self, batch: Batch) -> Hooks:
        """What the state answers, and the camera of the frames, for a model that has them."""
        return states_of_clip(self.dit, batch).then(self._camera(batch))

    def _camera(self, batch: Batch) -> Hooks:
        """The camera of the frames, for a model that takes one."""
        if hasattr(self.dit, "world_columns"):
            return world_hooks(self.dit, batch.pans, batch.travel)
        takes_camera = hasattr(self.dit, "action_embedding")
        return pan_hooks(self.dit, batch.pans) if takes_camera else NO_HOOKS


def loss_of(networks: Networks, batch: Batch, pace: float = 0.0) -> Tensor:
    """Return the mean squared error of the velocity, weighted by cell, and the camera's `pace`."""
    error: Tensor = networks(batch) - batch.target
    loss = (error.square() * batch.weight[:, :, None]).mean()
    return loss + pace * pace_loss(error, batch) if pace else loss


def build(config: DiTConfig) -> Networks:
    """Return freshly initialised networks; every residual branch starts at zero."""
    dit, text = WanDiT(config), TextEncoder(vocabulary(), config.text_dim, TEXT_LEN)
    for module in dit.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for name, parameter in dit.named_parameters():
        if name.endswith(ZERO_AT_START):
            nn.init.zeros_(parameter)
        elif name.startswith("time_embedding.") and name.endswith(".weight"):
            nn.init.normal_(parameter, std=0.02)
    begin_states(dit)
    begin_columns(dit)
    nn.init.normal_(text.words.weight, std=0.5)
    return Networks(dit, text)


def descent_of(networks: Networks, curve: Curve, rate: float = 1.0) -> Descent:
    """Use Muon for the matrices inside blocks and AdamW for everything else.

    `rate` multiplies the learning rates of both.
    """
    inside = {id(p) for p in networks.dit.blocks.parameters() if p.ndim == 2}
    everything = list(networks.parameters())
    matrices = [p for p in everything if id(p) in inside]
    rest = [p for p in everything if id(p) not in inside]
    adamw = torch.optim.AdamW(rest, 3e-3 * rate, betas=(0.9, 0.98), weight_decay=0.0)
    return Descent([Muon(matrices, 0.02 * rate), adamw], curve, clipped=everything)


def train(vae_file: Path, out: Path, settings: DiTTraining) -> None:
    """Run or resume training and write the averaged weights into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    vae, rng = load_tiny_vae(vae_file), random.Random(settings.seed)
    torch.manual_seed(settings.seed)
    with torch.random.fork_rng(devices=[]):
        networks = build(settings.config)
    begin = 0 if settings.start is None else go_on_from(networks, settings.start, settings.steps)
    curve = Curve(settings.steps, warmup=60, decay_share=0.45, begin=begin)
    descent = descent_of(networks, curve, settings.rate)
    run = TrainingRun(out / "dit.pt", networks, descent, copy_of(networks), begin)
    run.resume(rng, settings.seed)
    feed = BatchFeed(ClipMaker(vae, networks.text, rng), settings.tasks, RECIPES[settings.recipe])
    probe = memory_probe(vae, networks.text, settings.probe)
    recent = RecentLosses()
    for step in range(run.done, settings.steps):
        name = settings.only or settings.task_at(step / settings.steps, rng)
        batch = feed.draw(name)
        grow_columns(networks.dit, step)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.half):
            if settings.own_history and rng.random() < settings.own_history:
                batch = with_own_history(networks, batch)
            loss = loss_of(networks, batch, settings.pace)
        run.descend(loss)
        follow(run.averaged, networks, step - begin)
        recent.add(name, loss)
        if run.is_due(settings.report_every):
            logger.info("step %d/%d %.0fs %s", run.done, settings.steps, run.elapsed_s, recent)
        if run.is_due(settings.save_every):
            run.save()
            save(out, run.averaged, networks)
            save(out / "start", copy_of(networks), networks, run.done)
            by_window = losses_by_window(partial(loss_of, networks), probe)
            logger.info("  held-out loss by window: %s", by_window)


def copy_of(networks: Networks) -> dict[str, Tensor]:
    """Return a detached copy of the current weights."""
    return {key: value.detach().clone() for key, value in networks.state_dict().items()}


def follow(averaged: dict[str, Tensor], networks: Networks, steps: int) -> None:
    """Average the weights after so many steps of a run, in place: at first mostly the newest."""
    average(averaged, networks, 1 - min(EMA, (1 + steps) / (10 + steps)))


@torch.no_grad()
def average(averaged: dict[str, Tensor], networks: Networks, share: float) -> None:
    """Move `averaged` towards the weights by `share`, in place."""
    fixed = {key for key, weight in networks.named_parameters() if not weight.requires_grad}
    for key, value in networks.state_dict().items():
        averaged[key].lerp_(value, 1.0 if key in fixed else share)


def save(
    out: Path, weights: Mapping[str, Tensor], networks: Networks, step: int | None = None
) -> None:
    """Write `dit.safetensors` (a genuine Wan 2.1 file) and `text.safetensors`, both fp16.

    `step` goes into the header of weights that a run may begin with.
    """
    out.mkdir(parents=True, exist_ok=True)
    dit = {k.removeprefix("dit."): v for k, v in weights.items() if k.startswith("dit.")}
    words = {k.removeprefix("text."): v for k, v in weights.items() if k.startswith("text.")}
    shape = {
        "causal_ar": True,
        "num_heads": networks.dit.num_heads,
        "text_dim": networks.text.words.embedding_dim,
    }
    config = json.dumps({"transformer": shape})
    count = {} if step is None else {STEP: str(step)}
    save_half(dit, out / "dit.safetensors", {"config": config, "format": "pt", **count})
    text = networks.text
    header = {
        "vocabulary": json.dumps(text.vocabulary),
        "text_len": str(text.text_len),
        "format": "pt",
    }
    save_half(words, out / "text.safetensors", header)


@click.command(help=__doc__)
@click.option("--vae", type=FILE, required=True, help="The vae.safetensors that encodes clips.")
@click.option("--out", type=FOLDER, required=True, help="Folder for the weights and the state.")
@click.option("--steps", type=click.IntRange(1), default=DiTTraining().steps, show_default=True)
@click.option("--seed", type=int, default=DiTTraining().seed, show_default=True)
@click.option(
    "--recipe",
    type=click.Choice(list(RECIPES)),
    default=DiTTraining().recipe,
    show_default=True,
    help="The other two train models to compare Diffusion Forcing with; they are not shipped.",
)
@click.option(
    "--only",
    type=click.Choice(list(TASKS)),
    help="Train on this task only (default: all tasks in turn).",
)
@click.option(
    "--camera",
    type=click.Choice(["action", "columns"]),
    help="Train a model whose pan obeys keys (half of the clips have some): by an action "
    "embedding, or with that and columns counted in the world.",
)
@click.option(
    "--state",
    type=click.Choice(["delta"]),
    help="Train a model with a state beside its window, which holds what left the window. The "
    "windows are short. Not with --second, whose memory fetches frames.",
)
@click.option("--start", type=FOLDER, help="Begin with the weights, and the camera, in FOLDER.")
@click.option("--rate", type=float, default=1.0, show_default=True, help="Of the peak rates.")
@click.option("--half", is_flag=True, help=HALF)
@click.option(
    "--second",
    is_flag=True,
    help="The second edition: a memory as it is served, and histories of its own.",
)
def main(
    vae: Path, out: Path, second: bool, camera: Camera | None, state: State | None, **choices: Any
) -> None:
    with reporting():
        config = config_to_train(CONFIG, choices["start"], camera, state)
        choices |= {"config": config, "tasks": tasks_of(config)}
        if config.state != "none" and second:
            raise click.UsageError("a state needs histories without fetched frames: omit --second.")
        if config.state != "none":
            choices |= {"tasks": state_tasks(tasks_of(config))}
        if second:
            choices |= {"tasks": SECOND_TASKS, "task_at": second_task_at}
            choices |= {"own_history": SHARE, "pace": PACE_WEIGHT}
        train(vae, out, DiTTraining(**choices))


if __name__ == "__main__":
    keep_freed_memory()
    main()
