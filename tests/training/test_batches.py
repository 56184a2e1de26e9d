"""Training batches: the mask follows its definition, and so do noise levels and noisy frames."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from longtake.attention.dense import block_causal_mask
from longtake.model.text import TextEncoder
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig, encode_all
from longtake.training.batches import (
    TASKS,
    BatchFeed,
    Task,
    cell_weight,
    frame_mask,
    make_batch,
    noisy_frames,
    task_at,
)
from longtake.training.recipes import FIRST_PASS, RECIPES, history_levels, noisy_levels
from longtake.training.world import renderer
from longtake.training.world.attributes import vocabulary
from longtake.training.world.clips import random_shot
from longtake.training.world.dataset import (
    ClipMaker,
    Pool,
    PoolSpec,
    ball_cells,
    caption_rows,
    encode_shots,
)
from longtake.training.world.renderer import render
from longtake.training.world.scene import scene

SPEC = PoolSpec(clips=6, latent_frames=9, width=16, script=random_shot)
TASK = Task(SPEC, batch=2, context=6, noisy=6, windows=(3, 6))


def random_pool(spec: PoolSpec = SPEC) -> Pool:
    """Return a pool with noise as latents; each half of a clip has its own caption."""
    generator = torch.Generator().manual_seed(0)
    shape = (spec.clips, spec.latent_frames, 16, 4, 2)
    which = (torch.arange(spec.latent_frames) >= spec.latent_frames // 2).long()
    captions = torch.randint(1, 60, (spec.clips, 12, 24), generator=generator)
    latents = torch.randn(shape, generator=generator).half()
    ball = torch.rand(spec.clips, spec.latent_frames, 4, 2, generator=generator) < 0.2
    pans = 2 * torch.rand(spec.clips, spec.latent_frames, generator=generator) - 1
    return Pool(latents, captions, which.expand(spec.clips, -1).clone(), ball, pans, pans.cumsum(1))


def tiny_vae() -> TinyVAE:
    torch.manual_seed(0)
    return TinyVAE(TinyVAEConfig((4, 4, 8), (4, 4, 8))).eval()


@pytest.mark.parametrize(
    ("context", "noisy", "chunk", "window"),
    [
        (6, [0, 1, 2, 3, 4, 5], 3, 3),
        (7, [3, 4, 5], 3, 2),
        (9, [3, 4, 5, 6, 7, 8], 3, 4),
        (5, [0, 2, 4], 1, 2),
    ],
)
def test_the_mask_follows_its_definition(
    context: int, noisy: list[int], chunk: int, window: int
) -> None:
    mask = frame_mask(context, noisy, chunk, window)
    copies = [(frame, False) for frame in range(context)] + [(frame, True) for frame in noisy]
    for row, (query, query_noisy) in enumerate(copies):
        for column, (key, key_noisy) in enumerate(copies):
            start = query // chunk * chunk
            history = not key_noisy and start - window <= key < start
            own = query // chunk == key // chunk and query_noisy == key_noisy
            assert bool(mask[row, column]) == (history or own)


def test_the_clean_copy_is_the_block_causal_mask_of_the_engine() -> None:
    mask = frame_mask(9, [3, 4, 5], 3, 4)[:9, :9]
    assert torch.equal(mask, block_causal_mask(9, 1, 3, 4))


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("seed", range(10))
def test_memory_batches_denoise_whole_chunks_of_the_later_three_quarters(
    chunk: int, seed: int
) -> None:
    task = TASKS["memory"]
    frames = noisy_frames(task, chunk, random.Random(seed), opening=True)
    assert len(set(frames)) == len(frames) == task.noisy
    assert frames == sorted(frames)
    assert task.context // chunk // 4 * chunk <= frames[0] and frames[-1] < task.context
    assert all(frames.count(f // chunk * chunk + i) == 1 for f in frames for i in range(chunk))


@pytest.mark.parametrize(("opening", "first"), [(True, 0), (False, 3)])
def test_only_an_opening_cut_denoises_its_first_chunk(opening: bool, first: int) -> None:
    task = replace(TASK, context=7, noisy=7)
    frames = noisy_frames(task, 3, random.Random(0), opening=opening)
    assert frames == list(range(first, 6))


@pytest.mark.parametrize(("memory", "share"), [(False, 0.55), (True, 0.82)])
def test_many_rows_share_their_noise_level_within_a_chunk(memory: bool, share: float) -> None:
    torch.manual_seed(0)
    chunks = noisy_levels(random.Random(0), 1000, 9, 3, memory=memory)
    chunks = chunks.unflatten(1, (3, 3))  # type: ignore[no-untyped-call]
    shared = (chunks == chunks[:, :, :1]).flatten(1).all(1).float().mean()
    assert abs(float(shared) - share) < 0.05
    assert chunks.min() > 0


def test_some_rows_begin_in_noise_alone_as_every_chunk_does() -> None:
    torch.manual_seed(0)
    levels = noisy_levels(random.Random(0), 1000, 9, 3, memory=False)
    first = (levels == 1).all(1)
    assert abs(float(first.float().mean()) - FIRST_PASS) < 0.03
    assert levels[~first].max() < 1


@pytest.mark.parametrize("memory", [False, True])
def test_the_history_is_mostly_clean_or_nearly_so_and_sometimes_all_noise(memory: bool) -> None:
    torch.manual_seed(0)
    levels = history_levels(random.Random(0), 1000, 15, memory=memory)
    low, full = (levels <= 0.25).all(1).float().mean(), (levels == 1).all(1).float().mean()
    assert abs(float(low) - (0.85 if memory else 0.65)) < 0.05
    assert abs(float(full) - 0.1) < 0.03


def test_a_batch_is_the_flow_between_clean_latents_and_noise() -> None:
    torch.manual_seed(0)
    pool, rng = random_pool(), random.Random(0)
    for _ in range(5):
        batch = make_batch(pool, TASK, rng)
        noisy = batch.x[:, TASK.context :]
        level = batch.levels[:, TASK.context :, None, None, None]
        clean = noisy - level * batch.target  # x = clean + level (noise - clean)
        known = pool.latents.flatten(0, 1).float().flatten(1)
        distance = clean.flatten(0, 1).flatten(1)[:, None] - known[None]
        assert distance.abs().amax(-1).amin(-1).max() < 1e-5
        assert len(batch.positions) == batch.x.shape[1] == batch.which.shape[1]
        assert batch.mask.shape == (2 * batch.x.shape[1],) * 2  # 4 x 2 latents are two tokens


def test_dropped_captions_are_empty_and_the_others_untouched() -> None:
    torch.manual_seed(0)
    pool, rng = random_pool(), random.Random(0)
    rows = torch.cat([make_batch(pool, TASK, rng).captions for _ in range(100)])
    dropped = (rows == 0).flatten(1).all(1)
    assert 0.05 < float(dropped.float().mean()) < 0.2
    assert all(any(torch.equal(row, known) for known in pool.captions) for row in rows[~dropped])


def test_wide_pictures_wait_until_the_run_is_under_way() -> None:
    rng = random.Random(0)
    early, late = ({task_at(share, rng) for _ in range(300)} for share in (0.29, 0.3))
    assert early == {"narrow", "memory narrow"}
    assert late == set(TASKS)


def test_encoding_shots_piece_by_piece_equals_all_at_once() -> None:
    vae, shots = tiny_vae(), [random_shot(random.Random(i), 14) for i in range(2)]
    with torch.no_grad():
        whole = encode_all(vae, render(scene(shots, 53), 64, 8))
    torch.testing.assert_close(encode_shots(vae, shots, 14, 8), whole, atol=1e-4, rtol=1e-4)


def test_a_caption_holds_from_its_shot_entry_on() -> None:
    text = TextEncoder(vocabulary(), 4, 24)
    shots = [random_shot(random.Random(i), 9) for i in range(9)]
    shot = next(shot for shot in shots if len(shot.values) > 1)
    ids, which = caption_rows(text, [shot], 9, random.Random(0))
    change = (shot.values[1][0] + 3) // 4
    assert which[0].tolist() == [0] * change + [1] * (9 - change)
    assert (ids[0, :2, 0] > 0).all() and not ids[0, 2:].any()


def test_refreshing_replaces_that_many_clips() -> None:
    spec = replace(SPEC, latent_frames=2, width=8)
    maker = ClipMaker(tiny_vae(), TextEncoder(vocabulary(), 4, 24), random.Random(0))
    pool = maker.fill(spec)
    before = pool.latents.clone()
    maker.refresh(pool, spec, 1)
    assert sum(not torch.equal(a, b) for a, b in zip(before, pool.latents, strict=True)) == 1


def test_a_feed_makes_a_pool_when_its_task_is_first_drawn() -> None:
    tasks = {"one": replace(TASK, pool=replace(SPEC, width=16)), "never": TASK}
    feed = BatchFeed(
        ClipMaker(tiny_vae(), TextEncoder(vocabulary(), 4, 24), random.Random(0)), tasks
    )
    assert feed.draw("one").x.shape[2:] == (16, 8, 2)
    assert set(feed.pools) == {"one"}


def test_the_ball_counts_more_and_where_the_history_is_long_what_enters_too() -> None:
    ball = torch.zeros(1, 4, 8, 12, dtype=torch.bool)
    ball[0, 1, 2, 5] = ball[0, 1, 2, 0] = True
    weight = cell_weight(ball, None)
    assert weight[0, 1, 2, 5] == 5 * weight[0, 0, 0, 0]
    entering = cell_weight(ball, torch.tensor([[-1.0, -0.2, 0.0, 0.7]]))
    left, lefter, still, right = entering[0, :, 0]
    assert left[1] == 6 * left[2] and left[2] == left[11]
    assert float(entering[0, 1, 2, 0]) == pytest.approx(5 * float(lefter[1]))
    assert still.unique().numel() == 1
    assert torch.equal(right, left.flip(-1))
    for one in (weight, entering):
        torch.testing.assert_close(one.mean(), torch.tensor(1.0))


def test_levels_are_higher_where_memory_is_learned() -> None:
    torch.manual_seed(0)
    usual, memory = (
        float(noisy_levels(random.Random(0), 400, 9, 3, memory=memory).mean())
        for memory in (False, True)
    )
    assert usual + 0.2 < memory < 0.9


def test_the_ball_is_in_the_cells_that_differ_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shots = [random_shot(random.Random(seed), 9) for seed in range(3)]
    cells = ball_cells(shots, 9, 64)
    batch = scene(shots, 33)
    seen = render(batch, 64, 64)
    monkeypatch.setattr(renderer, "_ball", lambda canvas: ())
    painted = (seen - render(batch, 64, 64)).abs().amax(2) > 0.2
    painted = painted[:, :, :52]  # above the ball's shadow on the ground
    by_cell = painted.reshape(3, 33, 13, 4, 8, 8).any(5).any(3)  # half rows of cells
    by_cell = torch.nn.functional.pad(by_cell, (0, 0, 0, 3)).unflatten(2, (8, 2)).any(3)
    later = by_cell[:, 1:].unflatten(1, (8, 4)).any(2)
    touched = torch.cat([by_cell[:, :1], later], 1)
    assert touched.any() and not (touched & ~cells).any()
    assert float(cells.float().mean()) < 0.3


def test_the_teacher_forced_twin_never_sees_a_noisy_history() -> None:
    batch = make_batch(random_pool(), TASK, random.Random(1), RECIPES["teacher-forcing"])
    assert (batch.levels[:, : TASK.context] == 0).all()
    assert (batch.levels[:, TASK.context :] > 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_full_sequence_twin_has_one_level_and_one_chunk(seed: int) -> None:
    batch = make_batch(random_pool(), TASK, random.Random(seed), RECIPES["full-sequence"])
    assert batch.target.shape[1] == TASK.noisy
    assert all(len(set(row)) == 1 for row in batch.levels.tolist())
    noisy = batch.mask[-len(batch.target[0]) * 2 :, -len(batch.target[0]) * 2 :]
    assert noisy.all()  # every frame that is denoised sees every other, later ones too


def test_diffusion_forcing_gives_frames_of_a_clip_different_levels() -> None:
    batch = make_batch(random_pool(), TASK, random.Random(1), RECIPES["diffusion-forcing"])
    assert all(len(set(row)) > 2 for row in batch.levels.tolist())
