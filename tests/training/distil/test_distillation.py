"""Distillation: the equations against plain lists, and a run that comes nearer to its teacher."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import Tensor

from longtake.errors import BadInput
from longtake.model.vae.tiny import TinyVAE
from longtake.tests.support.tiny_model import randomise
from longtake.tests.support.training_runs import DIT
from longtake.training.batches import DRIVEN_TASKS, TASKS, Batch, Task, make_batch
from longtake.training.beginnings import GROWTH, grow_columns, load_beginning
from longtake.training.distil import train as train_distil
from longtake.training.distil.consistency import (
    Teacher,
    clean_picture,
    consistency_loss,
    history_frames,
    ladder_of,
    recipe_on,
    stepped,
    without_captions,
)
from longtake.training.distil.distance import arrival, distances, held_out_batch
from longtake.training.distil.train import Distillation, distil
from longtake.training.train_dit import Networks, build, copy_of, save
from longtake.training.world.clips import driven_shot, random_shot
from longtake.training.world.dataset import ClipMaker, PoolSpec

DRIVEN = replace(DIT, camera="columns")
TASK = Task(PoolSpec(3, 8, 16, random_shot), 2, 6, 6, (3, 6))
LADDER = ladder_of(8, 2.0)


@pytest.fixture(scope="module")
def batch(vae: TinyVAE, networks: Networks) -> Batch:
    torch.manual_seed(0)
    rng = random.Random(5)
    pool = ClipMaker(vae, networks.text, rng).fill(TASK.pool)
    return make_batch(pool, TASK, rng, recipe_on(LADDER))


def noisy_levels(batch: Batch) -> Tensor:
    return batch.levels[:, history_frames(batch) :]


def at_level(batch: Batch, level: Tensor | float) -> Batch:
    levels = batch.levels.clone()
    levels[:, history_frames(batch) :] = level
    return replace(batch, levels=levels)


def test_the_ladder_is_the_schedule_of_the_demo() -> None:
    even = [i / 8 for i in range(8, -1, -1)]
    assert LADDER.tolist() == pytest.approx([2 * u / (1 + u) for u in even])


def test_every_noisy_chunk_is_on_a_level_of_the_ladder(vae: TinyVAE, networks: Networks) -> None:
    torch.manual_seed(1)
    rng = random.Random(1)
    pool = ClipMaker(vae, networks.text, rng).fill(TASK.pool)
    seen = set[float]()
    for _ in range(40):
        batch = make_batch(pool, TASK, rng, recipe_on(LADDER))
        levels = noisy_levels(batch)
        assert torch.isin(levels, LADDER[:-1]).all()
        seen |= {*levels.flatten().tolist()}
    assert seen == {*LADDER[:-1].tolist()}


def test_without_captions_the_history_keeps_its_own(networks: Networks, batch: Batch) -> None:
    bare = without_captions(batch)
    context = history_frames(batch)
    assert torch.equal(bare.which[:, :context], batch.which[:, :context])
    empty = bare.captions.gather(1, bare.which[:, context:, None].expand(-1, -1, 24))
    assert not empty.any() and torch.equal(bare.captions[:, :-1], batch.captions)
    assert not torch.equal(networks(bare), networks(batch))


def test_guidance_goes_away_from_the_empty_caption(networks: Networks, batch: Batch) -> None:
    with_text, without = networks(batch), networks(without_captions(batch))
    guided = Teacher(networks, 2.5)(batch)
    torch.testing.assert_close(guided, -1.5 * without + 2.5 * with_text, rtol=1e-4, atol=1e-5)


def test_a_step_goes_to_the_next_level_frame_by_frame(batch: Batch) -> None:
    context, rungs = history_frames(batch), LADDER.tolist()
    velocity = torch.randn_like(batch.target)
    after = stepped(batch, lambda _: velocity, LADDER)
    assert torch.equal(after.x[:, :context], batch.x[:, :context])
    assert torch.equal(after.levels[:, :context], batch.levels[:, :context])
    for row in range(len(batch.x)):
        for i, level in enumerate(noisy_levels(batch)[row].tolist()):
            lower = rungs[rungs.index(level) + 1]
            x = batch.x[row, context + i] + (lower - level) * velocity[row, i]
            torch.testing.assert_close(after.x[row, context + i], x)
            assert after.levels[row, context + i] == lower


def test_who_sees_one_clean_picture_from_everywhere_has_no_loss(batch: Batch) -> None:
    clean = torch.randn_like(batch.target)

    def knowing(batch: Batch) -> Tensor:
        context = history_frames(batch)
        level = noisy_levels(batch)[:, :, None, None, None]
        return (batch.x[:, context:] - clean) / level.clamp(min=1e-6)

    def misled(batch: Batch) -> Tensor:
        return knowing(batch) + 1

    assert consistency_loss(knowing, knowing, batch, LADDER) < 1e-10
    assert consistency_loss(knowing, misled, at_level(batch, LADDER[3]), LADDER) < 1e-10
    at_the_end = consistency_loss(knowing, misled, at_level(batch, LADDER[-2]), LADDER)
    assert float(at_the_end) == pytest.approx(float(LADDER[-2]) ** 2, rel=1e-4)


def test_only_the_upper_point_has_a_gradient(batch: Batch) -> None:
    weight = torch.tensor(0.3, requires_grad=True)
    seen = list[bool]()

    def student(batch: Batch) -> Tensor:
        velocity = weight * batch.x[:, history_frames(batch) :]
        seen.append(velocity.requires_grad)
        return velocity

    loss = consistency_loss(student, lambda b: torch.zeros_like(b.target), batch, LADDER)
    loss.backward()
    assert seen == [False, True]
    level = noisy_levels(batch)[:, :, None, None, None]
    rung = (level - LADDER).abs().argmin(-1)
    lower = LADDER[rung + 1][..., None]
    x = batch.x[:, history_frames(batch) :]
    error = x * (1 - level * 0.3) - x * (1 - lower * 0.3)
    by_hand = (2 * error * -level * x * batch.weight[:, :, None]).mean()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, by_hand, rtol=1e-4, atol=1e-7)


def test_euler_steps_arrive_where_a_loop_does(networks: Networks, batch: Batch) -> None:
    context = history_frames(batch)
    x, ladder = batch.x.clone(), ladder_of(3, 2.0).tolist()
    for level, lower in pairwise(ladder):
        velocity = networks(replace(at_level(batch, level), x=x))
        x = torch.cat([x[:, :context], x[:, context:] + (lower - level) * velocity], 1)
    arrived = arrival(networks, batch, ladder_of(3, 2.0))
    torch.testing.assert_close(arrived, x[:, context:])


def test_one_pass_shows_the_clean_picture(networks: Networks, batch: Batch) -> None:
    noise = at_level(batch, 1.0)
    torch.testing.assert_close(
        arrival(networks, noise, ladder_of(1, 2.0)), clean_picture(networks, noise)
    )


@pytest.fixture
def teacher_folder(
    vae: TinyVAE, networks: Networks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    save(tmp_path / "teacher", copy_of(networks), networks)
    monkeypatch.setattr(train_distil, "load_tiny_vae", lambda _: vae)
    return tmp_path / "teacher"


RUN = Distillation(steps=30, tasks={"wide": TASK}, weights={"wide": 1.0}, rate=0.3, save_every=30)


def test_a_run_comes_nearer_to_its_teacher_and_leaves_the_words(
    teacher_folder: Path, vae: TinyVAE, networks: Networks, tmp_path: Path
) -> None:
    distil(teacher_folder, tmp_path / "out", RUN)
    student = build(DIT)
    load_beginning(student, tmp_path / "out")
    held_out = held_out_batch(vae, networks.text, TASK)
    teacher = Teacher(networks, RUN.scale)
    before, after = (distances(who, teacher, held_out) for who in (networks, student))
    assert after[0] < 0.9 * before[0]
    assert torch.equal(student.text.words.weight, networks.text.words.weight.half().float())


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # bfloat16 beside float32 weights
def test_a_stopped_run_goes_on(teacher_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    distil(teacher_folder, out, replace(RUN, steps=2))
    assert torch.load(out / "distil.pt", weights_only=True)["step"] == 2
    distil(teacher_folder, out, replace(RUN, steps=3, half=True))
    assert torch.load(out / "distil.pt", weights_only=True)["step"] == 3


def test_a_student_goes_on_from_its_weights_alone(
    teacher_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Mock(wraps=consistency_loss)
    monkeypatch.setattr(train_distil, "consistency_loss", loss)
    distil(teacher_folder, tmp_path / "first", replace(RUN, steps=2))
    start = tmp_path / "first" / "start"
    distil(teacher_folder, tmp_path / "second", replace(RUN, steps=3, start=start))
    assert torch.load(tmp_path / "second" / "distil.pt", weights_only=True)["step"] == 3
    assert loss.call_count == 3  # two steps, and the one that was left
    first, second = (
        load_file(tmp_path / name / "start" / "dit.safetensors") for name in ("first", "second")
    )
    teacher = load_file(teacher_folder / "dit.safetensors")

    def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
        return sum(float((one[n].float() - other[n].float()).abs().sum()) for n in one)

    assert 0 < distance(first, second) < distance(teacher, second)


def test_the_steps_of_a_teacher_are_not_those_of_its_student(
    teacher_folder: Path, tmp_path: Path
) -> None:
    distil(teacher_folder, tmp_path / "first", replace(RUN, steps=2))
    distil(tmp_path / "first" / "start", tmp_path / "second", replace(RUN, steps=1))
    assert torch.load(tmp_path / "second" / "distil.pt", weights_only=True)["step"] == 1


@pytest.fixture
def driven_folder(vae: TinyVAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A teacher that takes a camera."""
    networks = build(DRIVEN)
    randomise(networks, 3)
    grow_columns(networks.dit, GROWTH)
    save(tmp_path / "driven", copy_of(networks), networks)
    monkeypatch.setattr(train_distil, "load_tiny_vae", lambda _: vae)
    return tmp_path / "driven"


def test_a_student_learns_with_the_camera_of_its_teacher(
    driven_folder: Path, tmp_path: Path
) -> None:
    task = replace(TASK, pool=replace(TASK.pool, script=driven_shot))
    distil(driven_folder, tmp_path / "out", replace(RUN, steps=2, tasks={"wide": task}))
    teacher, student = (
        load_file(folder / "start" / "dit.safetensors" if folder.name == "out"
                  else folder / "dit.safetensors")
        for folder in (driven_folder, tmp_path / "out")
    )  # fmt: skip
    assert student.keys() == teacher.keys()
    assert torch.equal(student["world_columns"], teacher["world_columns"])
    pan = "action_embedding.2.weight"  # has a gradient only where a pass is given the pan
    assert not torch.equal(student[pan], teacher[pan])


def test_a_student_without_the_camera_of_its_teacher_is_refused(
    teacher_folder: Path, driven_folder: Path, tmp_path: Path
) -> None:
    run = replace(RUN, start=teacher_folder)
    with pytest.raises(BadInput, match="student in .* is none, that of its teacher columns; leave"):
        distil(driven_folder, tmp_path / "out", run)
    assert not (tmp_path / "out").exists()


def test_the_command_takes_the_tasks_of_its_teacher(
    teacher_folder: Path, driven_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distilled = Mock()
    monkeypatch.setattr(train_distil, "distil", distilled)
    for folder, tasks in ((teacher_folder, TASKS), (driven_folder, DRIVEN_TASKS)):
        words = ["--teacher", str(folder), "--out", "unused"]
        assert CliRunner().invoke(train_distil.main, words).exit_code == 0
        assert distilled.call_args.args[2].tasks is tasks


def test_the_weights_of_tasks_name_tasks() -> None:
    assert {*Distillation().weights} <= {*TASKS}
