"""Clips whose camera comes back, and batches with a memory as it is served."""

from __future__ import annotations

import random

import pytest
import torch

from longtake.model.text import TextEncoder
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.tests.support.tiny_model import randomise
from longtake.training.own_history import with_own_history
from longtake.training.recipes import RECIPES
from longtake.training.served import SECOND_TASKS, SECOND_WEIGHTS, ReturnTask, served_mask
from longtake.training.world import returns
from longtake.training.world.attributes import vocabulary
from longtake.training.world.clips import random_shot
from longtake.training.world.dataset import ClipMaker, encode_shots, latent_pans, latent_travel
from longtake.training.world.returns import (
    BEFORE,
    FIRST,
    NEWEST,
    RUN,
    SPAN,
    ReturnSpec,
    best_run,
    encode_piece,
    random_return,
)
from longtake.training.world.scene import scene


def maker(seed: int = 0) -> ClipMaker:
    vae = TinyVAE(TinyVAEConfig((4, 4, 8), (4, 4, 8)))
    randomise(vae, 0)
    return ClipMaker(vae.eval(), TextEncoder(vocabulary(), 4, 24), random.Random(seed))


@pytest.mark.parametrize("seed", range(30))
def test_what_the_chunk_sees_was_seen_before_the_newest_frames(seed: int) -> None:
    """The truth is the renderer's camera, frame by frame."""
    rng = random.Random(seed)
    script = random_return(rng)
    assert script.first >= FIRST
    camera = scene([script.shot], 4 * script.length).camera[0]
    chunk = camera[4 * script.first : 4 * script.first + 12].mean()
    past = camera[: 4 * (script.first - NEWEST)]
    assert float((past - chunk).abs().min()) < 64


def test_scripts_are_near_and_far_driven_and_not_and_sometimes_switch() -> None:
    rng = random.Random(0)
    scripts = [random_return(rng) for _ in range(200)]
    lengths = sorted(script.first for script in scripts)
    assert lengths[0] < 45 and lengths[-1] > 700
    driven = [bool(script.shot.drive) for script in scripts]
    assert 70 < sum(driven) < 130
    grounds = [{values["terrain"] for _, values in script.shot.values} for script in scripts]
    assert 5 < sum(len(terrains) > 1 for terrains in grounds) < 60


def test_the_run_is_where_the_views_overlap_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returns, "STRANGE", 0.0)
    travel = torch.cat([torch.arange(60.0), torch.arange(58.0, 20.0, -1)])
    first = 80  # the camera is at 38, 37 and 36
    run = best_run(random.Random(0), travel, first, 96)
    overlaps = []
    for start in range(BEFORE, first - NEWEST - RUN + 1):
        apart = (travel[first : first + 3, None] - travel[start : start + RUN]).abs()
        overlaps.append(float((1 - 4 * apart / 96).clamp(min=0).mean()))
    assert overlaps[run - BEFORE] == pytest.approx(max(overlaps), abs=1e-6)


@pytest.mark.parametrize("first", [0, 2, 9])
def test_a_piece_of_a_clip_has_the_latents_of_the_whole(first: int) -> None:
    vae, shot = maker().vae, random_shot(random.Random(3), 14)
    whole = encode_shots(vae, [shot], 14, 16)
    piece = encode_piece(vae, scene([shot], 53), first, 4, 16)
    torch.testing.assert_close(piece, whole[:, first : first + 4], atol=2e-3, rtol=2e-3)


def test_a_clip_holds_the_run_and_the_newest_frames() -> None:
    """The frames of each piece follow one another as the camera's travel does."""
    spec = ReturnSpec(3, 16, farthest=30)
    pool = maker(2).fill(spec)
    assert pool.latents.shape == (3, SPAN, 16, 8, 2) and spec.latent_frames == SPAN
    steps = pool.travel.diff(dim=1)
    assert (steps.abs()[:, : FIRST - NEWEST - 1] <= 1.001).all()
    assert (steps.abs()[:, FIRST - NEWEST :] <= 1.001).all()


def test_travel_adds_up_the_pans() -> None:
    shots = [random_return(random.Random(seed)).shot for seed in range(4)]
    travel, pans = latent_travel(shots, 60), latent_pans(shots, 60)
    turns = pans.diff(dim=1).abs()[:, 1:] < 1e-3  # the pan is steady
    torch.testing.assert_close(travel.diff(dim=1)[:, 1:][turns], pans[:, 2:][turns],
                               atol=2e-3, rtol=1e-3)  # fmt: skip


@pytest.mark.parametrize("sees", [False, True])
@pytest.mark.parametrize("chunk", [1, 3])
def test_the_mask_is_that_of_a_window_with_a_run(chunk: int, sees: bool) -> None:
    """Each query's keys, by a loop over the definition."""
    mask = served_mask(chunk, commits_see_run=sees)
    copies = [(frame, False) for frame in range(SPAN)]
    copies += [(frame, True) for frame in range(FIRST, SPAN)]
    past = BEFORE + RUN
    for row, (query, noisy) in enumerate(copies):
        origin = 0 if query < past else past
        start = origin + (query - origin) // chunk * chunk
        keys = {(f, False) for f in range(max(origin, start - NEWEST), start)}
        keys |= {(f, noisy) for f in range(start, start + chunk)}
        if query >= past and (noisy or sees):
            keys |= {(f, False) for f in range(BEFORE, past)}
        assert {copies[i] for i in mask[row].nonzero().flatten().tolist()} == keys


def test_a_batch_has_the_positions_that_serving_gives() -> None:
    """By rank: the run, the newest frames, then the frames that are denoised."""
    task = ReturnTask(ReturnSpec(3, 16, farthest=20), 2)
    source = maker(1)
    batch = task.draw(source.fill(task.pool), random.Random(0), RECIPES["diffusion-forcing"])
    assert batch.positions == [*range(SPAN), *range(FIRST, SPAN)]
    assert batch.target.shape[1] == SPAN - FIRST and batch.copied == [*range(FIRST, SPAN)]
    assert batch.travel.shape == batch.pans.shape == batch.levels.shape == batch.x.shape[:2]


def test_an_own_history_is_what_the_prediction_makes_of_the_copies() -> None:
    """A perfect prediction gives the truth back, and no other frame changes."""
    task = ReturnTask(ReturnSpec(3, 16, farthest=20), 2)
    batch = task.draw(maker(1).fill(task.pool), random.Random(4), RECIPES["teacher-forcing"])
    own = with_own_history(lambda made: made.target, batch)
    torch.testing.assert_close(own.x, batch.x, atol=1e-4, rtol=1e-4)  # a clean history is the truth
    wrong = with_own_history(lambda made: 0 * made.target, batch)
    assert torch.equal(wrong.x[:, :FIRST], batch.x[:, :FIRST])
    assert torch.equal(wrong.x[:, FIRST:SPAN], batch.x[:, SPAN:])
    noisy = task.draw(maker(1).fill(task.pool), random.Random(4), RECIPES["diffusion-forcing"])
    assert noisy.levels[:, FIRST:SPAN].any()
    assert not with_own_history(lambda made: made.target, noisy).levels[:, FIRST:SPAN].any()


def test_every_task_of_the_second_edition_is_drawn() -> None:
    assert SECOND_WEIGHTS.keys() == SECOND_TASKS.keys()
    assert sum(SECOND_WEIGHTS.values()) == pytest.approx(1)
