"""Distil a teacher into a student of one or two steps, by Self Gradient Forcing.

`python -m longtake.training.distil.match --out DIR`. The student begins as its teacher, or with the
weights in `--start`; the critic begins as the teacher. The critic learns in every step, the student
in one of five. Give the same command again to resume.
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

from ...model.checkpoint import load_tiny_vae
from ...model.config import DiTConfig
from ...model.preset import DEMO, DEMO_FOLDER
from ..batches import Batch, BatchFeed, BatchTask
from ..beginnings import config_of, load_beginning
from ..command import FOLDER, HALF, keep_freed_memory, reporting
from ..continued import CONTINUED_TASKS
from ..recipes import CLEAN_THEN_NOISE
from ..run import Curve, RecentLosses, TrainingRun
from ..train_dit import Networks, build, copy_of, descent_of, follow, save
from ..world.dataset import ClipMaker
from .consistency import Teacher, ladder_of
from .self_gradient import critic_loss, matching_loss, self_rollout
from .train import check_student

RATIO = 5
"""Steps of the critic for each of the student (Self-Forcing)."""
OPENING = "opening"
TASK_WEIGHTS: Mapping[str, float] = {"narrow": 0.1, "wide": 0.4, "return": 0.3, OPENING: 0.2}
"""How often each task is drawn."""

logger = logging.getLogger("longtake")


@dataclass(frozen=True, slots=True)
class Matching:
    """Length of a run in steps of the student, which makes a chunk in `passes`.

    A shot's first chunk, which has no past to go by, has `first_passes`.
    `start` is a folder with the weights of a student; without it the teacher begins. `scale` is the
    teacher's text guidance. `rate` is a factor of the learning rates that trained the teacher,
    `critic_rate` that of the critic; `half` multiplies in bfloat16.
    """

    steps: int = 200
    seed: int = 0
    start: Path | None = None
    passes: int = 1
    first_passes: int = 4
    scale: float = 1.0
    rate: float = 0.03
    critic_rate: float = 0.03
    half: bool = False
    tasks: Mapping[str, BatchTask] = field(default_factory=lambda: CONTINUED_TASKS)
    weights: Mapping[str, float] = field(default_factory=lambda: TASK_WEIGHTS)
    report_every: int = 5
    save_every: int = 20

    def ladder(self, task: str) -> Tensor:
        """The levels down which the student makes a chunk of a task."""
        return ladder_of(self.first_passes if task == OPENING else self.passes, DEMO.shift)


@dataclass(frozen=True, slots=True)
class Players:
    """Student and critic, each in a run of its own, and the teacher.

    `half` multiplies in bfloat16.
    """

    student: TrainingRun
    critic: TrainingRun
    teacher: Teacher
    half: bool

    @classmethod
    def of(cls, teacher_folder: Path, out: Path, settings: Matching) -> Players:
        """All begin with the teacher's weights, or the student with those in its own folder."""
        config, critic_steps = config_of(teacher_folder), RATIO * settings.steps

        def run(start: Path, name: str, steps: int, rate: float) -> TrainingRun:
            return run_of(begun(config, start), out / f"{name}.pt", steps, rate)

        return cls(
            run(settings.start or teacher_folder, "student", settings.steps, settings.rate),
            run(teacher_folder, "critic", critic_steps, settings.critic_rate),
            Teacher(begun(config, teacher_folder).requires_grad_(False), settings.scale),
            settings.half,
        )

    def make_clips(self, noise: Batch, ladder: Tensor, steps: int) -> Batch:
        """The clips that the student makes of a batch of noise."""
        with self._precision():
            return self_rollout(self.student.model, noise, ladder, steps)

    def teach_critic(self, clips: Batch) -> Tensor:
        """One step of the critic; its loss."""
        with self._precision():
            loss = critic_loss(self.critic.model, clips)
        self.critic.descend(loss)
        return loss

    def teach_student(self, clips: Batch) -> Tensor:
        """One step of the student; its loss."""
        with self._precision():
            loss = matching_loss(self.student.model, self.critic.model, self.teacher, clips)
        self.student.descend(loss)
        return loss

    def save(self) -> None:
        """Save what the run resumes from."""
        self.critic.save()
        self.student.save()

    def _precision(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.half)


def match(teacher_folder: Path, out: Path, settings: Matching) -> None:
    """Run or resume; write the student's averaged weights into `out`."""
    if settings.start is not None:
        check_student(settings.start, config_of(teacher_folder))
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(settings.seed)
    torch.manual_seed(settings.seed)
    players = Players.of(teacher_folder, out, settings)
    student = players.student
    learner = student.model
    assert isinstance(learner, Networks)
    for run in (players.critic, student):
        run.resume(rng, settings.seed)
    maker = ClipMaker(load_tiny_vae(teacher_folder / "vae.safetensors"), learner.text, rng)
    feed = BatchFeed(maker, settings.tasks, CLEAN_THEN_NOISE)
    recent = RecentLosses()
    for step in range(student.done, settings.steps):
        for _ in range(RATIO):
            name = rng.choices([*settings.weights], [*settings.weights.values()])[0]
            noise, ladder = feed.draw(name), settings.ladder(name)
            clips = players.make_clips(noise, ladder, rng.randrange(len(ladder) - 1))
            recent.add(f"critic {name}", players.teach_critic(clips))
        recent.add("student", players.teach_student(clips))
        follow(student.averaged, learner, step)
        if student.is_due(settings.report_every):
            logger.info(
                "step %d/%d %.0fs %s", student.done, settings.steps, student.elapsed_s, recent
            )
        if student.is_due(settings.save_every):
            players.save()
            save(out, student.averaged, learner)


def begun(config: DiTConfig, folder: Path) -> Networks:
    """Networks with the weights in `folder`, whose words stay as they are."""
    networks = build(config)
    load_beginning(networks, folder)
    networks.text.requires_grad_(False)
    return networks


def run_of(networks: Networks, file: Path, steps: int, rate: float) -> TrainingRun:
    """A run of so many steps from the weights that the networks have."""
    curve = Curve(steps, warmup=30, decay_share=0.4)
    return TrainingRun(file, networks, descent_of(networks, curve, rate), copy_of(networks))


@click.command(help=__doc__)
@click.option("--teacher", type=FOLDER, default=DEMO_FOLDER, help="The teacher's weights, its VAE.")
@click.option("--out", type=FOLDER, required=True, help="Folder for the weights and the state.")
@click.option("--start", type=FOLDER, help="Begin with the student in this folder.")
@click.option("--steps", type=click.IntRange(1), default=Matching().steps, show_default=True)
@click.option("--passes", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--scale", type=float, default=1.0, show_default=True, help="Guidance of the teacher."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--rate", type=float, default=Matching().rate, show_default=True)
@click.option("--half", is_flag=True, help=HALF)
def main(teacher: Path, out: Path, **choices: Any) -> None:
    with reporting():
        match(teacher, out, Matching(**choices))


if __name__ == "__main__":
    keep_freed_memory()
    main()
