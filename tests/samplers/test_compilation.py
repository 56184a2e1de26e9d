"""A rollout with compiled arithmetic: equal to a plain one, in three graphs for all settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention import rope
from longtake.attention.cache.by_layer.dummy_heads import DummyHeads
from longtake.attention.cache.by_layer.tether import TetherCache
from longtake.attention.cache.policy import CachePolicy, MemoryBank, WindowSink
from longtake.attention.rope import Rotation, Turn, rotate_plain
from longtake.attention.storage.dense import DENSE, Storage
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT8
from longtake.attention.temp_cache.policy import TempCache
from longtake.model.arithmetic.compiled import inductor
from longtake.model.config import Camera
from longtake.model.recurrent.config import RecurrentConfig
from longtake.model.recurrent.network import RecurrentNetwork
from longtake.samplers.compilation import ModelOfRun, is_compiled
from longtake.samplers.denoiser import (
    Commits,
    Denoiser,
    LocalHost,
    LowNoise,
    SecondWeights,
    local_denoiser,
)
from longtake.samplers.guidance import cfg
from longtake.samplers.loop import generate
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.reading import FarReading
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.model.compilers import (
    CountingCompiler,
    FailingCompiler,
    Watcher,
    compiled,
    needs_compiler,
    torch_deprecates,
)
from longtake.tests.support.stream.driven import BASE, CAMERAS, model, path
from longtake.tests.support.stream.rollouts import KINDS, MODEL
from longtake.tests.support.tiny_model import TINY, random_dit, settings

COUNTING = CountingCompiler()
WINDOW = WindowSink(5, 1)
LEAST_PASSES = 6  # of 12 latent frames in chunks of 3: a step each, and three commits
SHOT = settings(length=12, cache=WINDOW, guidance=cfg(2.0))


def latents(model: Denoiser, shot: RolloutSettings = SHOT) -> Tensor:
    """All latents (f, c, h, w) of a rollout that appends, evicts and switches its prompt."""
    return torch.cat([chunk.latents for chunk in generate(shot, model)])


def ready(model: Denoiser) -> Denoiser:
    """The model, compiled by what counts; all tests share one warm-up."""
    return compiled(model, COUNTING)


def assert_equal(model: Denoiser, shot: RolloutSettings) -> None:
    ours = ready(model)
    graphs, calls = COUNTING.graphs, COUNTING.calls
    torch.testing.assert_close(latents(ours, shot), latents(model, shot), rtol=1e-5, atol=1e-5)
    assert COUNTING.graphs == graphs == 3, "a graph was compiled in the middle of a shot"
    assert COUNTING.calls >= calls + 4 * TINY.num_layers * LEAST_PASSES


@pytest.mark.some_cases(4)
@pytest.mark.parametrize("kind", KINDS)
def test_every_history_and_schedule_runs_in_the_same_three_graphs(kind: str) -> None:
    assert_equal(MODEL, settings(**{"length": 12, **KINDS[kind]}))


@pytest.mark.parametrize(
    "cache", [WINDOW, TempCache(5), MemoryBank(5, 1, 1, 1)], ids=lambda cache: type(cache).__name__
)
def test_queries_and_keys_are_turned_by_compiled_code(cache: CachePolicy) -> None:
    model, shot = ready(MODEL), settings(length=12, cache=cache)
    plainly = replace(model, arithmetic=replace(model.arithmetic, turn=rotate_plain))
    before = COUNTING.calls
    expected, middle = latents(plainly, shot), COUNTING.calls
    torch.testing.assert_close(latents(model, shot), expected, rtol=1e-5, atol=1e-5)
    turned = (COUNTING.calls - middle) - (middle - before)
    assert turned >= 2 * TINY.num_layers * LEAST_PASSES, "a query and a key in every layer"


@pytest.mark.parametrize(
    ("cache", "storage"),
    [(WindowSink(9, 1), Packed(INT8, 2)), (TetherCache(6, 1, 2), DENSE), (DummyHeads(6, 1), DENSE)],
)
def test_keys_are_turned_by_compiled_code_wherever_they_are_read_from(
    cache: CachePolicy, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where some steps and layers read the near past alone."""
    compiled_turn, turns = ready(MODEL).arithmetic.turn, set[Turn]()

    def record(x: Tensor, by: Rotation, tokens: slice | None = None) -> Tensor:
        turns.add(by.turn)
        return rotate_part(x, by, tokens)

    rotate_part = rope._rotate_part
    monkeypatch.setattr(rope, "_rotate_part", record)
    far = MemoryRules(far=FarReading(3, last_steps=1, last_layers=0.5))
    latents(ready(MODEL), settings(length=15, cache=cache, storage=storage, memory=far))
    assert turns == {compiled_turn}


@pytest.mark.parametrize("camera", CAMERAS)
def test_every_camera_runs_in_the_same_three_graphs(camera: Camera) -> None:
    shot = settings(length=12, cache=WINDOW, camera=path(BASE), guidance=cfg(2.0))
    assert_equal(model(camera), shot)


@pytest.mark.parametrize("passes", [LowNoise(0.7), Commits()], ids=lambda use: type(use).__name__)
def test_both_sets_of_weights_run_in_the_same_three_graphs(passes: LowNoise | Commits) -> None:
    second = SecondWeights(local_denoiser(random_dit(seed=1), TINY), passes)
    assert_equal(replace(MODEL, second=second), SHOT)


def test_frames_of_other_sizes_need_no_other_graph() -> None:
    assert_equal(MODEL, settings(length=12, rows=2, columns=2))
    assert_equal(MODEL, settings(length=12, rows=6, columns=10))


def test_weights_in_half_precision_are_compiled_apart_and_equal() -> None:
    tree, compiler = random_dit().bfloat16(), CountingCompiler()
    tree.patch_embedding.float()
    half = Denoiser(LocalHost(tree), TINY, dtype=torch.bfloat16)
    assert torch.equal(latents(compiled(half, compiler)), latents(half))
    assert compiler.graphs == 3


def test_without_a_compiler_nothing_is_said_or_compiled() -> None:
    watcher, run = Watcher(), ModelOfRun(MODEL)
    assert run.ready(watcher, watcher.notify) is MODEL
    assert not watcher.notes and run.summary is None and not is_compiled(run.current)


def test_a_run_compiles_once_and_says_what_ran() -> None:
    model = replace(MODEL, compiler=CountingCompiler())
    watcher, run = Watcher(), ModelOfRun(model)
    assert run.summary is None and not is_compiled(run.current)
    first, second = (run.ready(watcher, watcher.notify) for _ in range(2))
    assert first is second is run.current and is_compiled(first)
    assert watcher.notes == ["compiles", "done"]
    assert run.summary is not None and run.summary.startswith("yes: 3 graphs in ")
    ModelOfRun(model).ready(watcher, watcher.notify)
    assert watcher.notes == ["compiles", "done", "done"], "the second run has nothing to wait for"


def test_a_compiler_that_fails_is_one_sentence_and_the_shot_goes_on() -> None:
    watcher = Watcher()
    run = ModelOfRun(replace(MODEL, compiler=FailingCompiler(OSError("cc1plus is missing"))))
    plain = run.ready(watcher, watcher.notify)
    assert watcher.notes == ["compiles", "done", "The model runs uncompiled: cc1plus is missing."]
    assert run.summary == "no: cc1plus is missing" and not is_compiled(plain)
    assert torch.equal(latents(plain), latents(MODEL))


def test_a_recurrent_model_has_nothing_to_compile() -> None:
    sizes = RecurrentConfig(dim=8, num_layers=2, text_dim=8)
    model: Any = replace(local_denoiser(RecurrentNetwork(sizes), sizes), compiler=COUNTING)
    watcher = Watcher()
    ModelOfRun(model).ready(watcher, watcher.notify)
    assert watcher.notes[-1] == (
        "The model runs uncompiled: it is recurrent and has no transformer blocks."
    )


@needs_compiler
@torch_deprecates
@pytest.mark.slow
def test_a_shot_by_torchs_own_compiler_equals_a_plain_one() -> None:
    ours = compiled(MODEL, inductor)
    torch.testing.assert_close(latents(ours), latents(MODEL), rtol=1e-5, atol=1e-5)
