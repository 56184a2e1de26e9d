"""Distil the demo's guided steps into a student that needs few steps and no guidance.

`python -m longtake.training.distil.train --out DIR`. The student begins as its teacher. Every
`--save-every` steps the log tells how far its pictures, made from pure noise in one pass and in
two, are from the teacher's after eight guided ones. Give the same command again to resume.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from ...errors import BadInput
from ...model.checkpoint import load_tiny_vae
from ...model.config import DiTConfig
from ...model.preset import DEMO, DEMO_FOLDER
from ..batches import TASKS, BatchFeed, Task, tasks_of
from ..beginnings import config_of, go_on_from, load_beginning
from ..command import FOLDER, HALF, keep_freed_memory, reporting
from ..evaluation.kit import GUIDED_SCALE
from ..run import Curve, RecentLosses, TrainingRun
from ..train_dit import Networks, build, copy_of, descent_of, follow, save
from ..world.dataset import ClipMaker
from .consistency import Teacher, consistency_loss, ladder_of, recipe_on
from .distance import distances, held_out_batch

TASK_WEIGHTS: Mapping[str, float] = {"narrow": 0.1, "wide": 0.7, "recall": 0.2}
"""How often each task of the demo's training is drawn."""

logger = logging.getLogger("longtake")


@dataclass(frozen=True, slots=True)
class Distillation:
    """Length of a run, a ladder of `levels`, and `scale` of the teacher's guidance.

    `start` is a folder with a student's weights to go on with; without it the teacher begins.
    `rate` is a factor of the learning rates that trained the teacher; `half` multiplies in
    bfloat16. `weights` tells how often each of the `tasks` is drawn.
    """

    steps: int = 700
    seed: int = 0
    start: Path | None = None
    levels: int = 8
    scale: float = GUIDED_SCALE
    rate: float = 0.03
    half: bool = False
    tasks: Mapping[str, Task] = field(default_factory=lambda: TASKS)
    weights: Mapping[str, float] = field(default_factory=lambda: TASK_WEIGHTS)
    report_every: int = 25
    save_every: int = 100


def distil(teacher_folder: Path, out: Path, settings: Distillation) -> None:
    """Run or resume; write the student's averaged weights into `out`.

    The student has its teacher's sizes, and its camera.
    """
    config = config_of(teacher_folder)
    if settings.start is not None:
        check_student(settings.start, config)
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(settings.seed)
    torch.manual_seed(settings.seed)
    vae = load_tiny_vae(teacher_folder / "vae.safetensors")
    networks, student = build(config), build(config)
    load_beginning(networks, teacher_folder)
    begin = 0  # the teacher's steps are not the student's
    if settings.start is None:
        load_beginning(student, teacher_folder)
    else:
        begin = go_on_from(student, settings.start, settings.steps)
    teacher = Teacher(networks.requires_grad_(False), settings.scale)
    student.text.requires_grad_(False)
    curve = Curve(settings.steps, warmup=60, decay_share=0.5, begin=begin)
    descent = descent_of(student, curve, settings.rate)
    run = TrainingRun(out / "distil.pt", student, descent, copy_of(student), begin)
    run.resume(rng, settings.seed)
    ladder = ladder_of(settings.levels, DEMO.shift)
    maker = ClipMaker(vae, networks.text, rng)
    feed = BatchFeed(maker, settings.tasks, recipe_on(ladder))
    held_out = held_out_batch(vae, networks.text, settings.tasks["wide"])
    recent = RecentLosses()
    for step in range(run.done, settings.steps):
        name = rng.choices([*settings.weights], [*settings.weights.values()])[0]
        batch = feed.draw(name)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.half):
            loss = consistency_loss(student, teacher, batch, ladder)
        run.descend(loss)
        recent.add(name, loss)
        follow(run.averaged, student, step - begin)
        if run.is_due(settings.report_every):
            logger.info("step %d/%d %.0fs %s", run.done, settings.steps, run.elapsed_s, recent)
        if run.is_due(settings.save_every):
            run.save()
            save(out, run.averaged, student)
            save(out / "start", copy_of(student), student, run.done)
            far = distances(_with(config, run.averaged), teacher, held_out)
            logger.info("  distance to the teacher after 1 pass %.4f, after 2 %.4f", *far)


def check_student(start: Path, teacher: DiTConfig) -> None:
    """Refuse the weights of a student whose camera is not its teacher's."""
    camera = config_of(start).camera
    if camera != teacher.camera:
        raise BadInput(
            f"the camera of the student in {start} is {camera}, that of its teacher "
            f"{teacher.camera}; leave --start out, and the student begins as its teacher."
        )


def _with(config: DiTConfig, weights: Mapping[str, Tensor]) -> Networks:
    networks = build(config)
    networks.load_state_dict(weights)
    return networks


@click.command(help=__doc__)
@click.option("--teacher", type=FOLDER, default=DEMO_FOLDER, help="The teacher's weights, its VAE.")
@click.option("--out", type=FOLDER, required=True, help="Folder for the weights and the state.")
@click.option("--start", type=FOLDER, help="Go on with the student in this folder, and its steps.")
@click.option("--steps", type=click.IntRange(1), default=Distillation().steps, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--levels", type=click.IntRange(1), default=8, show_default=True, help="Of noise.")
@click.option("--rate", type=float, default=Distillation().rate, show_default=True)
@click.option("--half", is_flag=True, help=HALF)
def main(teacher: Path, out: Path, **choices: Any) -> None:
    with reporting():
        tasks = tasks_of(config_of(teacher))
        distil(teacher, out, Distillation(**choices, tasks=tasks))


if __name__ == "__main__":
    keep_freed_memory()
    main()
