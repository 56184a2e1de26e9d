"""Laws of a saved rollout: a complete file from which any machine continues with the same bits."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from longtake.attention.cache.policy import MemoryBank, MostAttended
from longtake.attention.recall.window import RecallWindow
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT8
from longtake.attention.temp_cache.policy import REDUNDANT, TempCache
from longtake.errors import BadInput, LongtakeError, StorageError
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import pyramid
from longtake.samplers.solvers.multistep import UniPC2
from longtake.stream.journal.chain import ModelHistory
from longtake.stream.journal.journal import Journal
from longtake.stream.metrics import Report
from longtake.stream.rollout.fork import Fork, extend
from longtake.stream.rollout.hot_states import HotStates
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.stream.rollout_file.file import SUFFIX, RolloutExtras, RolloutFile, save_rollout
from longtake.tests.support.model_hosts import model_with_hooks
from longtake.tests.support.stream.rollouts import MODEL, Words, assert_same_bits
from longtake.tests.support.tiny_model import TINY, random_dit, settings

KINDS: dict[str, dict[str, Any]] = {
    "causal": {"length": 9},
    "pyramid": {"schedule": pyramid(flow_ladder(3, 3.0)), "solver": UniPC2(), "length": 8},
}
STATES: dict[str, dict[str, Any]] = {
    "memory bank": {"cache": MemoryBank(5, 1, 2, 2)},
    "memory bank, int8": {"cache": MemoryBank(5, 1, 2, 2), "storage": Packed(INT8, 1)},
    "merged": {"cache": TempCache(5, 0.9)},
    "merged, int8": {"cache": TempCache(5, 0.9, sink_frames=1), "storage": Packed(INT8)},
    "what differs": {"cache": TempCache(5, eviction=REDUNDANT)},
    "recalled": {"cache": RecallWindow(5, 1, 2, by="content")},
    "each head its own": {"cache": MostAttended(5, 1, per_head=True)},
}
EXTRAS = RolloutExtras(Report(rollout_id="r", frames=33), b"\x89PNG odd", "scaled", 24.0)


def rollout(folder: Path, **changes: Any) -> Rollout:
    return Rollout(
        RolloutSpec(settings(**changes), MODEL, "model", Journal(folder), prompter=Words())
    )


def saved(folder: Path, count: int | None = None, **changes: Any) -> tuple[Path, Rollout]:
    """Save the first chunks of a rollout."""
    made, path = rollout(folder / "here", **changes), folder / f"a{SUFFIX}"
    chunks = list(made.chunks)
    save_rollout(path, made.run.state, len(chunks) if count is None else count, EXTRAS)
    return path, made


def loaded(path: Path, folder: Path, **changes: Any) -> Rollout:
    """Load the rollout of a file into a journal of its own."""
    file = RolloutFile(path)
    made = Rollout(RolloutSpec(file.settings(), MODEL, file.models, Journal(folder), **changes))
    assert file.keep_in(made.spec.journal, made.spec.chain) == len(file.metas)
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_loaded_rollout_continues_with_the_same_bits(
    tmp_path: Path, kind: str, count: int
) -> None:
    path, source = saved(tmp_path, count, **KINDS[kind])
    there = loaded(path, tmp_path / "there")
    assert there.spec.stored_chunks() == count and there.id == source.id
    assert_same_bits(list(there.chunks), list(source.chunks))
    assert there.resumed_from == (count if count < (source.chunk_count or 0) else None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_state_continues_without_replay_and_with_the_same_bits(
    tmp_path: Path, kind: str
) -> None:
    source = rollout(tmp_path / "here", **{**KINDS[kind], "length": 18})
    chunks = iter(source.chunks)
    whole = [next(chunks) for _ in range(5)]
    state, passes = source.run.state_after(5), dict[bool, int]()
    assert state is not None and source.run.state_after(2) is None
    for with_state in (True, False):
        path = tmp_path / f"{with_state}{SUFFIX}"
        extras = replace(EXTRAS, state=state if with_state else None)
        save_rollout(path, source.run.state, 5, extras)
        there, counted = loaded(path, tmp_path / str(with_state)), list[int]()
        counting = model_with_hooks(MODEL, on_check=partial(counted.append, 1))
        there = Rollout(replace(there.spec, model=counting))
        assert_same_bits(list(there.chunks)[:5], whole)
        passes[with_state] = len(counted)
    assert passes[True] == passes[False] - 4  # of five commits one is due anyway
    assert_same_bits(list(there.chunks), [*whole, *chunks])


@pytest.mark.parametrize("kind", STATES)
@pytest.mark.parametrize("count", [1, 3])
def test_a_file_with_the_state_of_any_cache_is_loaded(
    tmp_path: Path, kind: str, count: int
) -> None:
    """Also of one that holds frames nobody has written, or scores nobody knows yet."""
    source = rollout(tmp_path / "here", **{"length": 12, **STATES[kind]})
    chunks, path = iter(source.chunks), tmp_path / f"a{SUFFIX}"
    whole = [next(chunks) for _ in range(count)]
    extras = replace(EXTRAS, state=source.run.state_after(count))
    assert extras.state is not None
    save_rollout(path, source.run.state, count, extras)
    there = loaded(path, tmp_path / "there")
    assert_same_bits(list(there.chunks), [*whole, *chunks])


def test_a_state_is_not_used_for_another_model(tmp_path: Path) -> None:
    """The state holds the first model's keys, so the second model must commit again."""
    hot = HotStates(lambda: 10**9)
    first = Rollout(replace(rollout(tmp_path, length=6).spec, hot=hot, snapshot_chunks=1))
    list(first.chunks)
    other = local_denoiser(random_dit(seed=9), TINY)
    makers = ModelHistory("model").then(6, "other")
    ours = Rollout(RolloutSpec(settings(length=12), other, makers, Journal(tmp_path), hot=hot))
    plain = rollout(tmp_path / "plain", length=6)
    list(plain.chunks)
    theirs = Rollout(RolloutSpec(settings(length=12), other, makers, Journal(tmp_path / "plain")))
    assert_same_bits(list(ours.chunks), list(theirs.chunks))


def test_a_loaded_rollout_makes_no_chunk_again(tmp_path: Path) -> None:
    path, source = saved(tmp_path, **KINDS["causal"])
    idle = local_denoiser(None, MODEL.config)  # evaluating it would fail
    file = RolloutFile(path)
    there = Rollout(RolloutSpec(file.settings(), idle, file.models, Journal(tmp_path / "there")))
    file.keep_in(there.spec.journal, there.spec.chain)
    assert_same_bits(list(there.chunks), list(source.chunks))
    assert file.keep_in(there.spec.journal, there.spec.chain) == 0  # a second time


def test_a_loaded_rollout_forks_and_continues_like_its_source(tmp_path: Path) -> None:
    path, source = saved(tmp_path, **KINDS["causal"])
    there = loaded(path, tmp_path / "there")
    for change in (Fork(6, seed=11).apply, lambda s: extend(s, 9, 3)):
        ours = Rollout(
            RolloutSpec(change(there.settings), MODEL, there.spec.chain.models, there.spec.journal)
        )
        theirs = Rollout(
            RolloutSpec(change(source.settings), MODEL, "model", Journal(tmp_path / "new"))
        )
        assert_same_bits(list(ours.chunks), list(theirs.chunks))


def test_report_and_thumbnail_survive(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, **KINDS["causal"])
    assert RolloutFile(path).extras == EXTRAS


def test_live_edits_are_saved(tmp_path: Path) -> None:
    made = rollout(tmp_path / "here", length=9)
    chunks = iter(made.chunks)
    first = next(chunks)
    made.controls.set_prompt("77")
    edited = [first, *chunks]
    save_rollout(tmp_path / f"a{SUFFIX}", made.run.state, 3, EXTRAS)
    there = loaded(tmp_path / f"a{SUFFIX}", tmp_path / "there")
    assert [entry.text for entry in there.settings.prompts.entries] == ["prompt 0", "77"]
    assert_same_bits(list(there.chunks), edited)


def test_a_file_records_all_models(tmp_path: Path) -> None:
    makers = ModelHistory("model", ((3, "other"), (6, "model")))
    made = Rollout(RolloutSpec(settings(length=9), MODEL, makers, Journal(tmp_path / "here")))
    list(made.chunks)
    save_rollout(tmp_path / f"a{SUFFIX}", made.run.state, 3, EXTRAS)
    assert RolloutFile(tmp_path / f"a{SUFFIX}").models == makers


def test_other_tools_can_read_the_file(tmp_path: Path) -> None:
    path, source = saved(tmp_path, **KINDS["causal"])
    tensors = load_file(path)
    whole = torch.cat([tensors[f"chunk.{i}.latents"] for i in range(3)])
    assert torch.equal(whole, torch.cat([chunk.latents for chunk in source.chunks]))
    with safe_open(str(path), "pt") as file:
        assert json.loads(file.metadata()["recipe"])["is"] == "RolloutSettings"


@pytest.mark.parametrize("version", ["2", "4", "x"], ids=["older", "newer", "unknown"])
def test_another_format_is_refused_in_one_sentence(tmp_path: Path, version: str) -> None:
    path, _ = saved(tmp_path, **KINDS["causal"])
    other = f'"longtake_rollout": "{version}"'.encode()
    path.write_bytes(path.read_bytes().replace(b'"longtake_rollout": "3"', other))
    with pytest.raises(BadInput, match=f"has format {version} and this Longtake reads format 3"):
        RolloutFile(path)


def test_a_truncated_or_changed_file_is_refused(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, **KINDS["causal"])
    whole, dice = path.read_bytes(), random.Random(0)
    places = [0, 4, 8, 100, *(dice.randrange(len(whole)) for _ in range(40)), len(whole) - 1]
    for at in places:
        for broken in (whole[:at], whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]):
            path.write_bytes(broken)
            with pytest.raises(LongtakeError):
                RolloutFile(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(BadInput, match="is not a saved rollout; choose a file"):
        RolloutFile(path)
    with pytest.raises(BadInput, match="cannot be read as a rollout"):
        RolloutFile(tmp_path / "none.safetensors")


def test_a_failed_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = rollout(tmp_path / "here", length=9)
    list(made.chunks)
    path = tmp_path / f"a{SUFFIX}"

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        save_rollout(path, made.run.state, 3, EXTRAS)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
