"""What a rehearsal leaves out changes no byte, and its work does not grow with the shot."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch

from longtake.attention.cache.by_layer.dummy_heads import DummyHeads
from longtake.attention.cache.by_layer.tether import TetherCache
from longtake.attention.cache.policy import (
    AveragingSink,
    FullHistory,
    MemoryBank,
    MostAttended,
    RebuiltWindow,
    WindowSink,
)
from longtake.attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.placement import InMainMemory
from longtake.attention.storage.quantize import INT4, INT8
from longtake.attention.temp_cache.policy import REDUNDANT, TempCache
from longtake.model import memory as model_memory
from longtake.model.config import DiTConfig
from longtake.samplers import noise
from longtake.samplers.conditioning.known_frames import KnownFrames, from_latents, merge
from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from longtake.samplers.guidance import View, last
from longtake.samplers.guidance.presets import cfg, fractional, temporal, vanilla
from longtake.samplers.guidance.views import AgeRange
from longtake.samplers.planning.length_samples import shorter_shots
from longtake.samplers.planning.memory import rollout_memory
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import (
    asynchronous,
    causal_chunks,
    full_sequence,
    pyramid,
    rolling,
    trapezoid,
)
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.model.calls import CallsOfTorch
from longtake.tests.support.samplers.memory_walk import Counter, whole_rehearsals

A_DAY = 345_600  # latent frames at 16 frames a second
SIZES = DiTConfig(192, 768, 4, 5, 64)
LARGE = {"rows": 48, "columns": 64}  # tokens enough for several pieces
LADDER = flow_ladder(2, 3.0)


def shot(**changes: Any) -> RolloutSettings:
    text = torch.zeros(32, SIZES.text_dim)
    prompts = PromptTimeline((TimedPrompt(0, text, "nothing"),), text)
    chosen = {"rows": 12, "columns": 16, "length": 60, "cache": WindowSink(21), **changes}
    return RolloutSettings(prompts, **{"schedule": causal_chunks(LADDER, 3), **chosen})


def clip(first: int, count: int, **more: Any) -> KnownFrames:
    return from_latents(torch.zeros(count, 16, 12, 16), first, **more)


def sparse(order: str) -> Sparsity:
    return Sparsity(SparseSelf(0.3, 0.3, (), 0.5, min_keys=0, order=order))


CASES: dict[str, dict[str, Any]] = {
    "window": LARGE,
    "sink": {"cache": WindowSink(21, 3), **LARGE},
    "full": {"cache": FullHistory(), **LARGE},
    "int8": {"cache": FullHistory(), "storage": Packed(INT8, 3), **LARGE},
    "main memory": {"placement": InMainMemory(), "storage": Packed(INT4, 2)},
    "not held": {"hold_rotated": False, **LARGE},
    "averaging": {"cache": AveragingSink(12, 3)},
    "rebuilt": {"cache": RebuiltWindow(20, 3), **LARGE},
    "rebuilt behind a clip": {"cache": RebuiltWindow(20, 3), "known_frames": clip(0, 4)},
    "attended": {"cache": MostAttended(21, 1)},
    "per head": {"cache": MostAttended(21, 1, per_head=True)},
    "memories": {"cache": TetherCache(21, 3)},
    "heads apart": {"cache": DummyHeads(21, 1)},
    "bank": {"cache": MemoryBank(21, 3, 2, 3)},
    "TempCache": {"cache": TempCache(20, sink_frames=1), **LARGE},
    "redundant": {"cache": TempCache(20, eviction=REDUNDANT), **LARGE},
    "TempCache int8": {"cache": TempCache(20, index="int8"), "storage": Packed(INT8)},
    "TempCache lsh": {"cache": TempCache(20, index="lsh")},
    "sparse": {"sparsity": sparse("time"), **LARGE},
    "sparse lsh": {"sparsity": sparse("lsh"), **LARGE},
    "sparse prompt": {"sparsity": Sparsity(None, SparseCross(from_tokens=0))},
    "rolling": {"schedule": rolling(flow_ladder(3, 3.0), 1)},
    "pyramid": {"schedule": pyramid(flow_ladder(4, 3.0), 0.5)},
    "cfg": {"guidance": cfg(2.5)},
    "noise": {"guidance": vanilla(1.5)},
    "exact": {"guidance": temporal(0.5, last(7, exact=True))},
    "cut": {"guidance": temporal(0.5, View(AgeRange(3, 9)))},
    "fractional": {"guidance": fractional(1.5, 0.4)},
    "made anew": {"context_noise": ContextNoise(0.1, fresh=True), "cache": FullHistory()},
    "flush": {"on_prompt_change": "flush"},
    "known": {"known_frames": clip(0, 4)},
    "no end": {"length": None},
}
COSTLY = {
    "TempCache", "TempCache int8", "TempCache lsh", "int8", "main memory", "rebuilt", "made anew",
    "sparse",
}  # fmt: skip
LONG: dict[str, dict[str, Any]] = {
    "full": {"cache": FullHistory()},
    "odd": {"cache": FullHistory(), "length": 701},
    "int8": {"cache": FullHistory(), "storage": Packed(INT8, 3)},
    "made anew": {"context_noise": ContextNoise(0.1, fresh=True), "cache": FullHistory(),
                  "length": 300, "rows": 24, "columns": 32},
    "cfg": {"cache": FullHistory(), "guidance": cfg(2.5)},
    "exact": {"cache": FullHistory(), "guidance": temporal(0.5, last(7, exact=True))},
    "rolling": {"cache": FullHistory(), "schedule": rolling(flow_ladder(3, 3.0), 1)},
    "sequence": {"schedule": full_sequence(LADDER)},
    "trapezoid": {"schedule": trapezoid(flow_ladder(4, 3.0), 0.5)},
    "all at once": {"schedule": asynchronous(LADDER, 3, 0)},
    "seen ahead": {"cache": FullHistory(), "known_frames": merge([
        clip(0, 4), clip(650, 3, spacing=2, lookahead=9)])},
}  # fmt: skip


def marked(names: Iterable[str], slow: set[str]) -> list[Any]:
    """Parameters, of which those in `slow` only run with `-m slow`."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in slow)) for name in names]


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("name", marked(CASES, slow=COSTLY))
def test_a_rehearsal_takes_what_a_whole_one_takes(name: str) -> None:
    settings = shot(**CASES[name])
    planned = rollout_memory(settings, SIZES, torch.float32)
    with whole_rehearsals():
        whole = rollout_memory(settings, SIZES, torch.float32)
    if name == "bank":  # its frames stand at fewer different times: one row of a table
        assert abs(planned.working_bytes - whole.working_bytes) <= 128
        whole = replace(whole, working_bytes=planned.working_bytes)
    if name == "heads apart":  # the second chunk alone measures a share for each head and frame
        assert 0 <= whole.working_bytes - planned.working_bytes <= 2048
        whole = replace(whole, working_bytes=planned.working_bytes)
    assert planned == whole


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("name", marked(LONG, slow={"int8", "made anew"}))
def test_two_shorter_shots_tell_what_a_long_one_takes(name: str) -> None:
    settings = shot(**{"length": 700, **LONG[name]})
    assert shorter_shots(settings) is not None
    planned = rollout_memory(settings, SIZES, torch.float32)
    with whole_rehearsals():
        assert planned == rollout_memory(settings, SIZES, torch.float32)


@pytest.mark.some_cases(2)
@pytest.mark.parametrize(
    "name", marked([*LONG, "window", "TempCache"], slow={"int8", "odd", "made anew", "trapezoid"})
)
def test_the_work_of_a_rehearsal_does_not_grow_with_the_shot(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in operations on tensors; and the frames of a day are never in memory together."""

    def operations(**larger: Any) -> int:
        chosen = {**(LONG | CASES)[name], **larger}
        chosen.pop("known_frames", None)
        counter = Counter(model_memory._LiveBytes.__torch_dispatch__)
        with monkeypatch.context() as patch:
            patch.setattr(
                model_memory._LiveBytes, "__torch_dispatch__", lambda *a, **k: counter(*a, **k)
            )
            rollout_memory(shot(**chosen), SIZES, torch.float32)
        return counter.calls

    minute = operations(length=2400, **LARGE)
    tracemalloc.start()
    day = operations(length=A_DAY, **LARGE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert day <= 1.05 * minute
    assert operations(length=2400, rows=512, columns=512) <= 1.1 * minute
    assert peak < 2**23


@pytest.mark.parametrize("name", ["window", "TempCache int8", "sparse lsh"])
def test_the_rehearsals_of_a_shot_infer_each_shape_once(name: str) -> None:
    with CallsOfTorch() as calls:
        rollout_memory(shot(**CASES[name]), SIZES, torch.float32)
    aliasing = "_unsafe_view", "lift_fresh"  # results in the storages of arguments
    again = [call for call, count in calls.counts.items() if count > 1]
    assert [call for call in again if not any(part in call[0] for part in aliasing)] == []


def test_a_rehearsal_draws_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "addressed_noise", Counter(None))
    rollout_memory(shot(**CASES["made anew"]), SIZES, torch.float32)
    rollout_memory(shot(**CASES["fractional"]), SIZES, torch.float32)


def test_the_user_can_stop_a_rehearsal() -> None:
    stops = Counter(lambda: None)
    rollout_memory(shot(), SIZES, torch.float32, check_interrupted=stops)
    assert stops.calls >= 4  # a step and a commit, at two depths each

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        rollout_memory(shot(), SIZES, torch.float32, check_interrupted=stop)
