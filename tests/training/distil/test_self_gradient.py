"""Self Gradient Forcing: its rollout against a loop, its loss against plain arithmetic."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import Tensor

from longtake.errors import BadInput
from longtake.model.preset import DEMO
from longtake.model.vae.tiny import TinyVAE
from longtake.tests.support.training_runs import DIT
from longtake.training.batches import Batch
from longtake.training.continued import CONTINUED_TASKS, ContinuedTask
from longtake.training.distil import match as match_module
from longtake.training.distil.consistency import (
    Teacher,
    clean_picture,
    history_frames,
    ladder_of,
    without_captions,
)
from longtake.training.distil.match import OPENING, RATIO, TASK_WEIGHTS, Matching, match
from longtake.training.distil.self_gradient import (
    HIGHEST,
    LOWEST,
    chunks_of,
    critic_loss,
    matching_loss,
    renoised,
    self_rollout,
)
from longtake.training.recipes import CLEAN_THEN_NOISE, NoiseRecipe, clean_then_noise
from longtake.training.served import SECOND_TASKS
from longtake.training.train_dit import Networks, build, copy_of, save
from longtake.training.world.clips import random_shot
from longtake.training.world.dataset import ClipMaker, PoolSpec

TASK = ContinuedTask(PoolSpec(3, 8, 16, random_shot), 2, 6)
Draw = Callable[[int], Batch]


@pytest.fixture(scope="module")
def draw(vae: TinyVAE, networks: Networks) -> Draw:
    """Batches of noise in chunks of so many latent frames."""
    pool = ClipMaker(vae, networks.text, random.Random(5)).fill(TASK.pool)

    def batch(chunk: int) -> Batch:
        torch.manual_seed(0)
        return TASK.draw(pool, random.Random(6), NoiseRecipe((chunk,), clean_then_noise))

    return batch


def noisy(batch: Batch) -> Tensor:
    return batch.x[:, history_frames(batch) :]


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_a_batch_is_a_clean_first_chunk_and_noise_for_the_others(draw: Draw, chunk: int) -> None:
    batch = draw(chunk)
    assert batch.copied == [*range(chunk, 6)]
    assert not batch.levels[:, :6].any() and (batch.levels[:, 6:] == 1).all()
    assert noisy(batch).std() == pytest.approx(1.0, abs=0.1)
    copies = range(6 - chunk)
    assert chunks_of(batch) == [[*copies[at : at + chunk]] for at in copies[::chunk]]


@pytest.mark.parametrize(("chunk", "passes", "steps"), [(1, 1, 0), (2, 2, 0), (2, 2, 1), (3, 3, 2)])
def test_a_rollout_is_that_of_a_loop_over_chunks(
    networks: Networks, draw: Draw, chunk: int, passes: int, steps: int
) -> None:
    batch, ladder = draw(chunk), ladder_of(passes, 2.0)
    made = self_rollout(networks, batch, ladder, steps)
    x, context = batch.x.clone(), history_frames(batch)
    for first in range(0, 6 - chunk, chunk):
        own = slice(context + first, context + first + chunk)
        level = float(ladder[0])
        for rung in range(steps + 1):
            levels = batch.levels.clone()
            levels[:, context:] = level
            velocity = networks(replace(batch, x=x, levels=levels))[:, first : first + chunk]
            if rung == steps:
                x[:, chunk + first : chunk + first + chunk] = x[:, own] - level * velocity
            else:
                x[:, own] += (float(ladder[rung + 1]) - level) * velocity
                level = float(ladder[rung + 1])
    torch.testing.assert_close(made.x, x, rtol=1e-4, atol=1e-5)
    assert (made.levels[:, context:] == level).all() and not made.levels[:, :context].any()


def test_one_pass_shows_what_the_rollout_made(networks: Networks, draw: Draw) -> None:
    made = self_rollout(networks, draw(2), ladder_of(1, 2.0), 0)
    torch.testing.assert_close(clean_picture(networks, made), made.x[:, made.copied])


def knowing(clean: Tensor) -> Callable[[Batch], Tensor]:
    """The velocity of a model that sees `clean` pictures in all noise."""

    def velocity(batch: Batch) -> Tensor:
        level = batch.levels[:, history_frames(batch) :, None, None, None]
        return (noisy(batch) - clean) / level

    return velocity


def test_pictures_go_from_the_critic_to_the_teacher(draw: Draw) -> None:
    made = self_rollout(lambda b: torch.zeros_like(b.target), draw(2), ladder_of(1, 2.0), 0)
    real, fake = torch.randn_like(made.target), torch.randn_like(made.target)
    own = torch.randn_like(made.target).requires_grad_()

    def student(batch: Batch) -> Tensor:
        return noisy(batch) - own  # its picture is `own`

    matching_loss(student, knowing(fake), knowing(real), made).backward()
    size = (own - real).abs().mean((1, 2, 3, 4), keepdim=True)
    by_hand = (fake - real) / size * made.weight[:, :, None] / own.numel()
    assert own.grad is not None
    torch.testing.assert_close(own.grad, by_hand.detach(), rtol=1e-3, atol=1e-7)


def test_a_critic_that_agrees_with_the_teacher_moves_nothing(
    networks: Networks, draw: Draw
) -> None:
    made = self_rollout(networks, draw(2), ladder_of(1, 2.0), 0)
    assert matching_loss(networks, networks, networks, made) == 0


def test_the_gradient_goes_through_the_past(networks: Networks, draw: Draw) -> None:
    """Self-Forcing cuts it off there: the past's keys and values are no longer the student's."""
    made = self_rollout(networks, draw(2), ladder_of(1, 2.0), 0)
    x = made.x.clone().requires_grad_()
    clean_picture(networks, replace(made, x=x))[:, -2:].square().sum().backward()
    assert x.grad is not None
    past = x.grad[:, :6].abs().amax((0, 2, 3, 4))
    assert (past[:4] > 0).all() and not past[4:].any()  # not the last chunk's own clean copy


def test_the_critic_learns_the_pictures_of_the_student(networks: Networks, draw: Draw) -> None:
    made = self_rollout(networks, draw(2), ladder_of(1, 2.0), 0)
    own = made.x[:, made.copied]
    assert critic_loss(knowing(own), made) < 1e-8
    assert critic_loss(knowing(own + 1), made) > 0.5


def test_pictures_get_new_noise_of_one_level_a_clip(draw: Draw) -> None:
    batch = draw(2)
    picture = torch.randn_like(batch.target)
    judged = renoised(batch, picture)
    level = judged.levels[:, history_frames(batch) :]
    assert (level == level[:, :1]).all() and len(level[:, 0].unique()) == len(level)
    assert ((level >= LOWEST) & (level <= HIGHEST)).all()
    share = level[:, :, None, None, None]
    torch.testing.assert_close(noisy(judged) - share * judged.target, picture)
    assert torch.equal(judged.x[:, :6], batch.x[:, :6])


def test_no_guidance_is_one_evaluation(networks: Networks, draw: Draw) -> None:
    calls = list[Batch]()

    def counted(batch: Batch) -> Tensor:
        calls.append(batch)
        return networks(batch)

    batch = draw(2)
    assert torch.equal(Teacher(counted, 1.0)(batch), networks(batch)) and len(calls) == 1
    guided = Teacher(counted, 1.5)(batch)
    without = networks(without_captions(batch))
    torch.testing.assert_close(guided, without + 1.5 * (networks(batch) - without))


RUN = Matching(steps=3, rate=0.3, tasks={"wide": TASK}, weights={"wide": 1.0}, save_every=1)


@pytest.fixture
def teacher_folder(
    vae: TinyVAE, networks: Networks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    save(tmp_path / "teacher", copy_of(networks), networks)
    monkeypatch.setattr(match_module, "load_tiny_vae", lambda _: vae)
    return tmp_path / "teacher"


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # bfloat16 beside float32 weights
def test_a_stopped_run_goes_on_with_both_networks(teacher_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    match(teacher_folder, out, replace(RUN, steps=2))
    match(teacher_folder, out, replace(RUN, half=True))
    student, critic = (
        torch.load(out / f"{name}.pt", weights_only=True) for name in ("student", "critic")
    )
    assert (student["step"], critic["step"]) == (3, 3 * RATIO)
    assert not torch.equal(student["model"]["dit.head.head.weight"],
                           critic["model"]["dit.head.head.weight"])  # fmt: skip
    before, after = (load_file(at / "dit.safetensors") for at in (teacher_folder, out))
    assert before.keys() == after.keys()
    assert not torch.equal(before["head.head.weight"], after["head.head.weight"])
    words = (load_file(at / "text.safetensors")["words.weight"] for at in (teacher_folder, out))
    assert torch.equal(*words)


def test_a_student_may_begin_with_other_weights(teacher_folder: Path, tmp_path: Path) -> None:
    match(teacher_folder, tmp_path / "first", RUN)
    still = replace(RUN, steps=1, start=tmp_path / "first", rate=0.0, critic_rate=0.0)
    match(teacher_folder, tmp_path / "second", still)
    first, second = (load_file(tmp_path / at / "dit.safetensors") for at in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_student_without_the_camera_of_its_teacher_is_refused(
    teacher_folder: Path, tmp_path: Path
) -> None:
    driven = build(replace(DIT, camera="columns"))
    save(tmp_path / "driven", copy_of(driven), driven)
    with pytest.raises(BadInput, match="leave --start out"):
        match(teacher_folder, tmp_path / "out", replace(RUN, start=tmp_path / "driven"))
    assert not (tmp_path / "out").exists()


def test_the_command_takes_its_options(
    teacher_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = list[Matching]()
    monkeypatch.setattr(match_module, "match", lambda _a, _b, settings: runs.append(settings))
    words = ["--teacher", str(teacher_folder), "--out", str(tmp_path), "--passes", "2"]
    assert CliRunner().invoke(match_module.main, [*words, "--scale", "1.5"]).exit_code == 0
    assert (runs[0].passes, runs[0].scale) == (2, 1.5)


def test_a_first_chunk_has_a_ladder_of_its_own() -> None:
    settings = Matching(passes=2, first_passes=3)
    assert torch.equal(settings.ladder(OPENING), ladder_of(3, DEMO.shift))
    assert torch.equal(settings.ladder("wide"), ladder_of(2, DEMO.shift))


def test_the_weights_of_tasks_name_tasks() -> None:
    assert {*TASK_WEIGHTS} == {*CONTINUED_TASKS}
    assert all(CONTINUED_TASKS[name] is SECOND_TASKS[name] for name in ("return", OPENING))
    assert CLEAN_THEN_NOISE.chunk_sizes == (1, 3, 3)
