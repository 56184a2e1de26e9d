"""Passes that benches make themselves are those of the sampling loop, camera included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.attention.cache.policy import FullHistory
from longtake.attention.history import HistoryCache, open_cache
from longtake.attention.sparse.stats import SparseStats
from longtake.attention.storage.dense import DENSE
from longtake.attention.storage.shape import CacheShape
from longtake.benchmarks._attention import recall as two_branches
from longtake.benchmarks._attention import speed_model
from longtake.benchmarks._attention.cases import CASES, FULL, WINDOW_CASE
from longtake.benchmarks._attention.chunk import DENSE_CASE, ChunkCase, denoise, fill
from longtake.benchmarks._attention.speed import SpeedBench
from longtake.benchmarks._recall import memories
from longtake.benchmarks._shared.passes import Passes, frame_hooks
from longtake.model.dit import project_text
from longtake.model.hooks import NO_HOOKS
from longtake.model.preset import DEMO
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import Guidance, cfg
from longtake.samplers.loop import Loop
from longtake.tests.support.model.camera_demo import demo_with_camera, demo_without_camera
from longtake.tests.support.tiny_model import randn
from longtake.training.evaluation.kit import Kit, Recipe, load_kit, settings_of
from longtake.training.evaluation.measures import as_chunks
from longtake.training.evaluation.returns import CHUNK, CameraTurn, Clip, there_and_back

DEMO_ROWS, DEMO_COLUMNS = 4, 6  # tokens of a latent frame
SEED = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_with_camera(tmp_path_factory.mktemp("passes") / "demo")


@pytest.fixture(scope="module")
def kit(folder: Path) -> Kit:
    """Of a demo whose keys depend on the camera."""
    return load_kit(folder)


@pytest.fixture(scope="module")
def clip(kit: Kit) -> Clip:
    return there_and_back(kit, CameraTurn(6, 3), 0)


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def loop_of(kit: Kit, clip: Clip, guidance: Guidance) -> Loop:
    """The loop with a full history, which starts every chunk from the benches' noise."""
    size = clip.latents.shape[1:]
    recipe = Recipe(len(clip.latents), size[1], size[2], cache=FullHistory(), guidance=guidance)
    loop = Loop(settings_of(kit, recipe, clip.prompts, 0), local_denoiser(kit.dit, kit.config))
    noise = torch.randn(CHUNK, *size, generator=torch.Generator().manual_seed(SEED))
    loop.branches.noise = lambda *_, **__: noise  # type: ignore[method-assign]
    return loop


def last_chunk(loop: Loop, clip: Clip) -> Tensor:
    """The chunk that the loop makes in place of a clip's last one."""
    [chunk] = loop.chunks(as_chunks(clip.latents)[:-1])
    return chunk.latents


def assert_same_history(ours: HistoryCache, loop: Loop) -> None:
    """The loop has no row of the empty prompt where the demo's guidance has none."""
    [loops] = loop.branches.caches
    assert ours.committed == loops.committed > 0
    for layer in range(ours.shape.layers):
        for tensor, other in zip(ours.history(layer), loops.history(layer), strict=True):
            torch.testing.assert_close(tensor[: len(other)], other, rtol=1e-4, atol=1e-4)


def test_two_branches_commit_and_denoise_as_the_loop_does(kit: Kit, clip: Clip) -> None:
    loop = loop_of(kit, clip, cfg(DEMO.guidance_scale))
    chunk = last_chunk(loop, clip)
    texts = {text: two_branches.encode_prompt(kit, text) for text in (clip.away, clip.back)}
    passes, caches = Passes(kit, clip.prompts), two_branches.open_caches(kit, clip, [0.5])
    two_branches.fill_caches(passes, clip, texts, caches)
    full = caches[two_branches.FULL]
    assert_same_history(full, loop)
    made = two_branches.denoise(passes, texts[clip.back], full, SEED)
    torch.testing.assert_close(made, chunk, rtol=0, atol=1e-3)


def test_memories_that_recall_are_judged_by_the_chunk_of_the_loop(kit: Kit) -> None:
    turn = CameraTurn(12, 9)
    clip = there_and_back(kit, turn, SEED)
    chunk = last_chunk(loop_of(kit, clip, cfg(DEMO.guidance_scale)), clip)
    case = memories.Returning(kit, clip, SEED)
    figures = memories.held_figures(kit, turn, SEED)
    assert figures[memories.FULL] == pytest.approx(case.agreement(chunk), abs=1e-3)


def test_one_branch_commits_and_denoises_as_the_loop_does(kit: Kit, clip: Clip) -> None:
    clip = replace(clip, back=clip.away)
    loop = loop_of(kit, clip, cfg(1.0))
    chunk = last_chunk(loop, clip)
    shape = CacheShape(kit.config.num_layers, 1, kit.config.num_heads, kit.config.head_dim,
                       DEMO_ROWS, DEMO_COLUMNS, CHUNK)  # fmt: skip
    cache, case = open_cache(shape, FullHistory(), DENSE, None, "cpu"), ChunkCase(FullHistory())
    text = project_text(kit.dit, kit.text.encode(clip.away).embedding[None, None])
    passes = Passes(kit, clip.prompts)
    fill(passes, text, clip.latents[:-CHUNK], {DENSE_CASE: cache}, {DENSE_CASE: None})
    assert_same_history(cache, loop)
    made = denoise(passes, text, cache, case, (SparseStats(), None, None), SEED)
    torch.testing.assert_close(made, chunk, rtol=0, atol=1e-3)


def test_the_speed_bench_commits_as_the_loop_does(
    kit: Kit, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed_model, "DEMO_FOLDER", folder)
    model = replace(speed_model.embed(), clip=randn(9, 16, 16, 16))
    bench = SpeedBench(model, (6,), [CASES[WINDOW_CASE]])
    bench.fill(6)
    clip = Clip(model.clip, model.clip[0], speed_model.WORDS, speed_model.WORDS, 3)
    loop = loop_of(kit, clip, cfg(1.0))
    last_chunk(loop, clip)
    assert_same_history(bench.caches[FULL], loop)


def test_a_model_without_a_camera_has_no_hooks(tmp_path: Path) -> None:
    kit = load_kit(demo_without_camera(tmp_path / "demo"))
    assert frame_hooks(kit, [(0, "the camera pans left")])(range(3)) is NO_HOOKS
