"""A short shot is the front of a longer one, bit for bit, however its history is stored."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.cache import kv_cache
from longtake.attention.cache.by_layer.dummy_heads import DummyHeads
from longtake.attention.cache.placed_windows import (
    AnchorWindow,
    DistantSink,
    SharedWindow,
    WaveWindow,
)
from longtake.attention.cache.policy import (
    AveragingSink,
    CachePolicy,
    FullHistory,
    MemoryBank,
    MostAttended,
    RebuiltWindow,
    WindowSink,
    capacity,
)
from longtake.attention.delta.window import DeltaWindow
from longtake.attention.recall.window import RecallWindow
from longtake.attention.storage.dense import DENSE, Storage
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.placement import ON_DEVICE, InMainMemory, OnDisk
from longtake.attention.storage.quantize import INT4, INT8
from longtake.attention.storage.shape import CacheShape
from longtake.samplers.denoiser import Denoiser, local_denoiser
from longtake.samplers.guidance import cfg, last, temporal
from longtake.samplers.history.plan import planned_bytes
from longtake.samplers.loop import Chunk, Loop, generate
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks
from longtake.samplers.settings import RolloutSettings
from longtake.stream.journal.snapshots import ENDING
from longtake.tests.support.stream.rollouts import MODEL, assert_same_bits, cut_after, rollout
from longtake.tests.support.tiny_model import TINY, random_dit, settings

WITH_STATE = replace(TINY, state="delta")
STATE_MODEL = local_denoiser(random_dit(WITH_STATE), WITH_STATE)
LONG = 14
PAIRS = causal_chunks(flow_ladder(1, 3.0), 2)
POLICIES: dict[str, CachePolicy] = {
    "window": WindowSink(9),
    "window + sink": WindowSink(9, 3),
    "full": FullHistory(),
    "EMA sink": AveragingSink(7, 2),
    "rebuilt": RebuiltWindow(7, 2),
    "most attended": MostAttended(7, 2),
    "bank": MemoryBank(6, 2, 2, 1),
    "dummy heads": DummyHeads(7, 3),
    "distant sink": DistantSink(8, 3),
    "shared": SharedWindow(9, 2),
    "wave": WaveWindow(9, 2),
    "anchor": AnchorWindow(7, 2),
    "recall by view": RecallWindow(12, 0, 6),
    "recall by content": RecallWindow(12, 1, 6, by="content"),
    "state": DeltaWindow(8, 3),
}
STORAGES: dict[str, Storage] = {
    "as computed": DENSE,
    "int8": Packed(INT8),
    **{f"int4 but {count}": Packed(INT4, count) for count in (1, 2, 3, 6)},
}
RECALLED: dict[str, Any] = {"cache": RecallWindow(9, 0, 4), "storage": Packed(INT8, 3)}


def model_of(policy: CachePolicy) -> Denoiser:
    return STATE_MODEL if isinstance(policy, DeltaWindow) else MODEL


def made(chosen: RolloutSettings) -> list[Chunk]:
    """All chunks; of an endless shot those that a long one has too."""
    return list(itertools.islice(generate(chosen, model_of(chosen.cache)), LONG // 2))


@pytest.mark.some_cases(28)
@pytest.mark.each_value
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_short_shot_equals_the_front_of_a_longer_one(policy: str, storage: str) -> None:
    long = settings(PAIRS, LONG, cache=POLICIES[policy], storage=STORAGES[storage])
    whole = made(long)
    for length in (4, 6, 8, 10, None):
        short = made(long.lasting(length))
        assert_same_bits(short, whole[: len(short)])


@pytest.mark.parametrize("length", [2, 3, 5, 9])
@pytest.mark.parametrize("name", ["window + sink", "recall by view", "full"])
def test_a_short_shot_is_the_same_everywhere_and_as_large_as_planned(
    tmp_path: Path, name: str, length: int
) -> None:
    chosen = settings(PAIRS, length, cache=POLICIES[name], storage=Packed(INT8, 3))
    whole = made(chosen)
    for where in (ON_DEVICE, InMainMemory(), OnDisk(tmp_path)):
        placed = replace(chosen, placement=where)
        loop = Loop(placed, MODEL)
        assert_same_bits(list(loop.chunks()), whole)
        assert loop.branches.kv_bytes == planned_bytes(placed, TINY, torch.float32)


def test_short_parts_of_a_history_are_those_of_a_longer_shot() -> None:
    """A branch that looks at the newest frames alone has a cache of its own, as guidance may."""
    guidance = temporal(0.5, last(6, exact=True))
    long = settings(PAIRS, LONG, cache=WindowSink(9, 3), storage=Packed(INT8, 3), guidance=guidance)
    short = made(long.lasting(6))
    assert_same_bits(short, made(long)[: len(short)])


@pytest.mark.parametrize("length", [2, 3, 6])
def test_the_state_of_a_short_shot_goes_on_in_a_longer_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, length: int
) -> None:
    """Its frames fill fewer slots than the longer one has for frames as computed, or all."""
    single = causal_chunks(flow_ladder(1, 3.0), 1)
    shot: dict[str, Any] = {"schedule": single, "guidance": cfg(2.0), **RECALLED}
    list(rollout(tmp_path, length=length, snapshot_chunks=1, **shot).chunks)
    assert [*tmp_path.glob(f"*{ENDING}")]
    whole = list(rollout(tmp_path / "whole", length=9, **shot).chunks)
    assert_same_bits(list(rollout(tmp_path, length=9, **shot).chunks), whole)
    assert "replaying" not in caplog.text


def test_a_state_with_fewer_slots_as_computed_is_replaced_by_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Earlier versions had as many as the shot's own length left beside sink and recalled ones."""

    def earlier(shape: CacheShape, policy: CachePolicy, length: int | None) -> tuple[int, int]:
        held = capacity(policy, length)
        return held, max(0, held - policy.sink_frames - policy.recall_frames - 1)

    with monkeypatch.context() as patch:
        patch.setattr(kv_cache, "_slot_counts", earlier)
        cut_after(rollout(tmp_path / "state", length=6, snapshot_chunks=1, **RECALLED), 2)
    shutil.copytree(tmp_path / "state", tmp_path / "none")
    for state in (tmp_path / "none").glob(f"*{ENDING}"):
        state.unlink()
    ours, replayed = (
        list(rollout(tmp_path / name, length=12, **RECALLED).chunks) for name in ("state", "none")
    )
    assert "a snapshot of 2 + 1 latent frames does not fit a cache of 6 + 3" in caplog.text
    assert_same_bits(ours, replayed)
