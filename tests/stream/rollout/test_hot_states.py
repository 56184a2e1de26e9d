"""Laws of hot states: the next run resumes from them with the same bits wherever the last one
ended, they share a budget, and a loss is always logged.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import WindowSink
from longtake.attention.snapshot import Snapshot
from longtake.samplers.loop import Chunk, Loop
from longtake.stream.journal.journal import Journal
from longtake.stream.journal.snapshots import Snapshots
from longtake.stream.rollout.hot_states import HotState, HotStates
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.model_hosts import model_with_hooks
from longtake.tests.support.stream.rollouts import (
    KINDS,
    MODEL,
    Raises,
    Words,
    assert_same_bits,
    edit_fork,
)
from longtake.tests.support.tiny_model import settings


class Cancelled(BaseException):
    """A host's interrupt."""


def rollout(folder: Path, hot: HotStates | None, model: Any = MODEL, **changes: Any) -> Rollout:
    own = {name: changes.pop(name) for name in ("snapshot_chunks",) if name in changes}
    made = settings(**{"length": 12, **changes})
    journal = Journal(folder)
    return Rollout(RolloutSpec(made, model, "model", journal, prompter=Words(), hot=hot, **own))


def plenty() -> HotStates:
    return HotStates(lambda: 10**9)


def made_until(rollout: Rollout) -> list[Chunk]:
    """Collect the chunks before the run is cancelled."""
    chunks = []
    with pytest.raises(Cancelled):
        for chunk in rollout.chunks:
            chunks.append(chunk)
    return chunks


def counted(folder: Path, hot: HotStates | None, **given: Any) -> tuple[list[Chunk], int]:
    """Collect all chunks of a run and count the model's passes."""
    passes: list[int] = []
    model = model_with_hooks(MODEL, on_check=lambda: passes.append(1))
    return list(rollout(folder, hot, model, **given).chunks), len(passes)


@pytest.mark.some_cases(4)
@pytest.mark.each_value
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("third", range(3))
def test_a_run_cancelled_anywhere_resumes_from_its_state(
    tmp_path: Path, kind: str, third: int
) -> None:
    """Cancels before many passes: within a chunk, within a commit, between a commit's caches."""
    whole, passes = counted(tmp_path / "whole", None, **KINDS[kind])
    for at in range(2, passes, max(1, passes // 9))[third::3]:
        folder, hot = tmp_path / str(at), plenty()
        model = model_with_hooks(MODEL, on_check=Raises(Cancelled, at))
        made_until(rollout(folder, hot, model, **KINDS[kind]))
        again = rollout(folder, hot, **KINDS[kind])
        assert_same_bits(list(again.chunks), whole)


SEVERAL_CACHES = ("causal, noisy history", "causal, exact parts")
MADE_ANEW = ("causal, re-cached at a switch", "causal, flushed at a switch")


@pytest.mark.each_value
@pytest.mark.parametrize("kind", [*SEVERAL_CACHES, *MADE_ANEW])
@pytest.mark.parametrize("third", range(3))
def test_a_replay_cancelled_anywhere_leaves_no_half_committed_state(
    tmp_path: Path, kind: str, third: int
) -> None:
    """With several caches, a cancel can fall between their commits."""
    whole = list(rollout(tmp_path, None, **KINDS[kind]).chunks)
    last = tmp_path / f"{rollout(tmp_path, None, **KINDS[kind]).spec.key(3)}.safetensors"
    last.unlink()
    _, passes = counted(tmp_path, None, **KINDS[kind])
    for at in range(1, passes, max(1, passes // 7))[third::3]:
        last.unlink(missing_ok=True)
        hot = plenty()
        model = model_with_hooks(MODEL, on_check=Raises(Cancelled, at))
        made_until(rollout(tmp_path, hot, model, **KINDS[kind]))
        assert_same_bits(list(rollout(tmp_path, hot, **KINDS[kind]).chunks), whole)


def test_resuming_from_a_hot_state_replays_nothing(tmp_path: Path) -> None:
    hot = plenty()
    chunks = iter(rollout(tmp_path, hot).chunks)
    kept = [next(chunks) for _ in range(3)]
    del chunks
    assert len(hot) == 1
    again, passes = counted(tmp_path, hot)
    assert passes == 1 + 2 and torch.equal(again[2].latents, kept[2].latents)


def test_a_longer_run_and_a_fork_resume_from_a_hot_state_too(tmp_path: Path) -> None:
    hot, source = plenty(), settings(length=9)
    list(rollout(tmp_path, hot, length=9).chunks)
    _, passes = counted(tmp_path, hot, length=12)
    assert passes == 1 + 2
    for fork in (edit_fork(9), dataclasses.replace(edit_fork(9), guidance=None)):
        longer = dataclasses.replace(fork.apply(source), length=12)
        ours = Rollout(RolloutSpec(longer, MODEL, "model", Journal(tmp_path), hot=hot))
        fresh = Rollout(RolloutSpec(longer, MODEL, "model", Journal(tmp_path / "new")))
        assert_same_bits(list(ours.chunks), list(fresh.chunks))


@pytest.mark.parametrize("kind", [*SEVERAL_CACHES, *MADE_ANEW])
def test_a_fork_where_the_source_was_cancelled_forgets_its_prompt(
    tmp_path: Path, kind: str
) -> None:
    """The cancelled chunk began under a prompt that the fork does not have."""
    hot, given = plenty(), {**KINDS[kind], "length": 12}
    _, passes = counted(tmp_path / "count", None, **given)
    model = model_with_hooks(MODEL, on_check=Raises(Cancelled, passes - 1))
    kept = made_until(rollout(tmp_path, hot, model, **given))
    fork = dataclasses.replace(edit_fork(3 * len(kept)), guidance=None).apply(settings(**given))
    ours = Rollout(RolloutSpec(fork, MODEL, "model", Journal(tmp_path), hot=hot))
    fresh = Rollout(RolloutSpec(fork, MODEL, "model", Journal(tmp_path / "new")))
    assert_same_bits(list(ours.chunks), list(fresh.chunks))


def test_a_failed_run_leaves_no_state(tmp_path: Path) -> None:
    hot = plenty()
    model = model_with_hooks(MODEL, on_check=Raises(lambda: ValueError("broken"), 7))
    with pytest.raises(ValueError, match="broken"):
        list(rollout(tmp_path, hot, model).chunks)
    assert len(hot) == 0


def test_a_state_over_the_budget_is_not_copied_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hot = HotStates(lambda: 1000)
    with caplog.at_level(logging.INFO, logger="longtake"):
        list(rollout(tmp_path, hot).chunks)
    assert len(hot) == 0 and "dropped; the next run will replay" in caplog.text


def state(size: int, disk: Snapshots | None = None) -> HotState:
    return HotState(Snapshot({"x": torch.zeros(size)}, {}), "m", disk)


def test_states_share_a_budget_and_the_least_recently_used_is_evicted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hot, disk = HotStates(lambda: 4 * 25), Snapshots(Journal(tmp_path), "m")
    hot.keep("a", state(10, disk))
    hot.keep("b", state(10))
    assert hot.find("a", "m") is not None and hot.bytes == 80
    with caplog.at_level(logging.INFO, logger="longtake"):
        hot.keep("c", state(10))  # b was used longest ago, and had not asked for a place on disk
    assert hot.find("b", "m") is None and "dropped; the next run will replay" in caplog.text
    assert hot.find("c", "m") is not None
    hot.keep("d", state(10))  # now a gives way, to disk
    assert hot.find("a", "m") is None and disk.read("a") is not None
    assert hot.find("d", "other") is None
    hot.clear()
    assert len(hot) == hot.bytes == 0


def test_states_may_be_cleared_on_another_thread_while_one_is_kept() -> None:
    """Between the sum of the bytes and the eviction, where there is nothing left to evict."""
    hot = HotStates(lambda: 0)

    class Cleared:
        """A tensor; another thread clears the states as soon as its bytes are counted."""

        @property
        def nbytes(self) -> int:
            clearing = threading.Thread(target=hot.clear)
            if len(hot):
                clearing.start()
                clearing.join()
            return 40

    tensors: Any = {"x": Cleared()}
    hot.keep("a", HotState(Snapshot(tensors, {}), "m", None))
    assert len(hot) == hot.bytes == 0


def test_a_cleared_state_goes_to_disk_or_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hot, disk = plenty(), Snapshots(Journal(tmp_path), "m")
    hot.keep("a", state(10, disk))
    hot.keep("b", state(10))
    with caplog.at_level(logging.INFO, logger="longtake"):
        hot.clear()
    assert disk.read("a") is not None and disk.read("b") is None
    assert caplog.text.count("dropped; the next run will replay") == 1 and hot.bytes == 0


def test_nothing_is_logged_at_the_end_of_the_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hot, disk = plenty(), Snapshots(Journal(tmp_path), "m")
    hot.keep("a", state(10, disk))
    hot.keep("b", state(10))
    with caplog.at_level(logging.INFO, logger="longtake"):
        hot.clear(log=False)
    assert disk.read("a") is not None and not caplog.text and hot.bytes == 0


def test_several_rollouts_share_the_budget_and_each_resumes_with_its_bits(tmp_path: Path) -> None:
    """An evicted state is read from its snapshot or replayed; no other chunk is made again."""
    window: dict[str, Any] = {"cache": WindowSink(5, 1)}  # states of one size
    size = plenty()
    list(rollout(tmp_path / "one", size, **window).chunks)
    hot = HotStates(lambda: 3 * size.bytes)
    chunks = [0 if seed == 1 else 100 for seed in range(5)]  # 100: never by itself
    made = {
        seed: rollout(tmp_path, hot, seed=seed, snapshot_chunks=count, **window)
        for seed, count in enumerate(chunks)
    }
    for shot in made.values():
        list(shot.chunks)
    assert len(hot) == 3  # of 2, 3 and 4
    assert {path.name for path in tmp_path.glob("*.state.safetensors")} == {
        f"{made[0].spec.key(3)}.state.safetensors"
    }
    took: list[int] = []
    for seed in made:
        passes: list[int] = []
        model = model_with_hooks(MODEL, on_check=partial(passes.append, 1))
        longer = rollout(tmp_path, hot, model, length=18, seed=seed, snapshot_chunks=100, **window)
        whole = rollout(tmp_path / "whole", None, length=18, seed=seed, **window)
        assert_same_bits(list(longer.chunks), list(whole.chunks))
        took.append(len(passes))
    assert took == [took[0], took[0] + 3, *took[:1] * 3]  # of four commits one is due anyway


@pytest.mark.parametrize("in_one_session", [False, True])
def test_only_the_newest_snapshot_stays_on_disk(tmp_path: Path, in_one_session: bool) -> None:
    """A state that a session leaves at its end replaces the snapshot of the run before it."""
    hot = plenty()
    list(rollout(tmp_path, hot, snapshot_chunks=3).chunks)
    if not in_one_session:
        hot.clear()
    longer = rollout(tmp_path, hot, length=24, snapshot_chunks=3)
    list(longer.chunks)
    if not in_one_session:
        hot.clear()
    newest = longer.spec.key(5 if in_one_session else 7)
    states = {path.name for path in tmp_path.glob("*.state.safetensors")}
    assert states == {f"{newest}.state.safetensors"}


@pytest.mark.parametrize("snapshot_chunks", [0, 2])
def test_a_shot_is_whole_where_no_memory_is_left_to_keep_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    snapshot_chunks: int,
) -> None:  # fmt: skip
    hot, whole = plenty(), list(rollout(tmp_path / "whole", None, length=24).chunks)
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "snapshot", Raises(MemoryError, 1, 2, 3))
        chunks = list(rollout(tmp_path, hot, snapshot_chunks=snapshot_chunks).chunks)
    assert "No memory is left to keep the rollout's state" in caplog.text and not len(hot)
    longer = list(rollout(tmp_path, hot, length=24).chunks)
    assert_same_bits(chunks + longer[len(chunks) :], whole)


def test_whatever_fails_at_the_end_of_a_run_the_shot_can_be_made_again(tmp_path: Path) -> None:
    """The lock would be held until the process ends."""
    broken = HotStates(Raises(lambda: ValueError("no budget"), 1))
    failing = rollout(tmp_path, broken)
    with pytest.raises(ValueError, match="no budget"):
        list(failing.chunks)
    Journal(tmp_path).lock(failing.id).release()
    assert len(list(rollout(tmp_path, plenty(), length=24).chunks)) == 8
