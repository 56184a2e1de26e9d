"""Laws of resuming: snapshot and replay give the same bits, and running out of memory once or twice
loses no chunk.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.snapshot import Snapshot
from longtake.errors import NotFinite, OutOfMemory, StorageError
from longtake.samplers.guidance import cfg
from longtake.samplers.loop import Chunk
from longtake.stream.journal import disk_sync
from longtake.stream.journal import snapshots as snapshots_module
from longtake.stream.journal.journal import Journal
from longtake.stream.journal.records import records
from longtake.stream.journal.snapshots import ENDING, Snapshots
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.model_hosts import model_with_hooks
from longtake.tests.support.stream.rollouts import (
    KINDS,
    MODEL,
    WINDOW,
    Raises,
    assert_same_bits,
    cut_after,
    edit_fork,
    rollout,
)


def evals(chunks: list[Chunk]) -> int:
    return sum(chunk.model_evals for chunk in chunks)


def states(folder: Path) -> list[str]:
    return [path.name for path in folder.glob(f"*{ENDING}")]


@pytest.mark.some_cases(4)
@pytest.mark.each_value
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_resume_by_snapshot_and_by_replay_equals_the_uninterrupted_run(
    tmp_path: Path, kind: str, count: int
) -> None:
    whole = list(rollout(tmp_path / "whole", **KINDS[kind]).chunks)
    for name, every in (("snapshot", 1), ("both", 2), ("replay", 0)):
        folder = tmp_path / name
        made = rollout(folder, snapshot_chunks=every, **KINDS[kind])
        cut_after(made, count)
        assert len(states(folder)) == (1 if every and count >= every else 0)
        again = rollout(folder, **KINDS[kind])
        assert_same_bits(list(again.chunks), whole)
        assert again.resumed_from == count


def test_every_chunk_is_synced_even_if_the_reader_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced, plain = list[str](), disk_sync.force

    def noted(path: Path) -> None:
        plain(path)
        forced.append(path.stem)

    monkeypatch.setattr(disk_sync, "force", noted)
    made = rollout(tmp_path)
    cut_after(made, 2)
    assert forced == [made.spec.key(0), made.spec.key(1)]
    assert len(list(made.chunks)) == 4
    assert forced == [made.spec.key(index) for index in range(4)]


def test_a_snapshot_replaces_the_replay(tmp_path: Path) -> None:
    def evaluations(**given: Any) -> int:
        """Count the rows that the model evaluates for the last chunk alone."""
        counted: list[int] = []
        folder = tmp_path / str(given)
        cut_after(rollout(folder, length=30, **given), 9)
        model = model_with_hooks(MODEL, on_check=lambda: counted.append(1))
        assert len(list(rollout(folder, model, length=30).chunks)) == 10
        return len(counted)

    replayed, spared = evaluations(), evaluations(snapshot_chunks=1)
    assert (replayed, spared) == (9 + 2, 1 + 2)  # commits, then the steps of one chunk


def test_only_the_newest_snapshot_is_kept(tmp_path: Path) -> None:
    made = rollout(tmp_path, snapshot_chunks=2)
    assert len(list(made.chunks)) == 4
    assert states(tmp_path) == [f"{made.spec.key(3)}{ENDING}"]


def test_a_fork_uses_its_sources_snapshot_only_if_it_fits(tmp_path: Path) -> None:
    """Other branches need caches of their own; another prompt or seed does not."""
    source = rollout(tmp_path, snapshot_chunks=1, guidance=cfg(2.0))
    cut_after(source, 3)
    for fork in (edit_fork(9), dataclasses.replace(edit_fork(9), guidance=cfg(1.0))):
        forked = Rollout(
            RolloutSpec(fork.apply(source.settings), MODEL, "model", Journal(tmp_path))
        )
        fresh = Rollout(
            RolloutSpec(fork.apply(source.settings), MODEL, "model", Journal(tmp_path / "new"))
        )
        assert_same_bits(list(forked.chunks), list(fresh.chunks))


def test_a_damaged_snapshot_is_replayed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = list(rollout(tmp_path / "whole").chunks)
    cut_after(rollout(tmp_path, snapshot_chunks=1), 3)
    [path] = tmp_path.glob(f"*{ENDING}")
    content = path.read_bytes()
    middle = len(content) // 2
    for damaged in (
        content[:middle],
        b"",
        content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        content.replace(
            f'"longtake_state": "{snapshots_module.VERSION}"'.encode(), b'"longtake_state": "x"'
        ),
    ):
        path.write_bytes(damaged)
        again = rollout(tmp_path)
        assert_same_bits(cut_after(again, 4), whole)
        assert "replaying" in caplog.text
        caplog.clear()
        (tmp_path / f"{again.spec.key(3)}.safetensors").unlink()


def test_another_chunk_s_snapshot_is_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = Snapshot({"x": torch.ones(2)}, {"index": 1})
    kept = Snapshots(Journal(tmp_path), "m")
    kept.keep("a", state)
    shutil.copy(tmp_path / f"a{ENDING}", tmp_path / f"b{ENDING}")
    assert kept.read("a") is not None and kept.read("b") is None
    assert "it is another chunk's state" in caplog.text


def test_a_snapshot_that_does_not_fit_on_the_disk_says_how_to_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> int:
        raise StorageError("there is no room.")

    monkeypatch.setattr(snapshots_module, "write", full)
    made = rollout(tmp_path, snapshot_chunks=2)
    with pytest.raises(StorageError, match="Set snapshot_chunks to 0 to continue without"):
        list(made.chunks)
    assert made.spec.stored_chunks() == 2
    assert len(list(rollout(tmp_path).chunks)) == 4


OUT = {
    "accelerator": lambda: torch.OutOfMemoryError("CUDA out of memory"),
    "main memory": lambda: RuntimeError("[...] DefaultCPUAllocator: can't allocate memory"),
    "python": MemoryError,
    "DirectML": lambda: RuntimeError(
        "Could not allocate tensor with 9 bytes. There is not enough GPU video memory available!"
    ),
    "Metal": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB)."),
    "CUDA, not by torch": lambda: torch.AcceleratorError("CUDA error: out of memory"),
    "cuBLAS": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling x"),
    "C++": lambda: RuntimeError("std::bad_alloc"),
}


@pytest.mark.parametrize("kind", OUT)
def test_running_out_of_memory_once_costs_only_time(tmp_path: Path, kind: str) -> None:
    given = {"guidance": cfg(2.0), "cache": WINDOW}
    whole = list(rollout(tmp_path / "whole", **given).chunks)
    model = model_with_hooks(MODEL, on_check=Raises(OUT[kind], 5))
    made = rollout(tmp_path, model, **given)
    chunks = list(made.chunks)
    assert [chunk.index for chunk in chunks] == [0, 1, 2, 3]
    for ours, expected in zip(chunks, whole, strict=True):
        torch.testing.assert_close(ours.latents, expected.latents, rtol=1e-4, atol=1e-4)
    assert "Continuing with a smaller plan" in (made.controls.message or "")


def test_the_smaller_plan_is_smaller(tmp_path: Path) -> None:
    held: list[int] = []
    model = model_with_hooks(MODEL, on_register=lambda cache: held.append(cache.bytes),
                                on_check=Raises(OUT["python"], 5))  # fmt: skip
    list(rollout(tmp_path, model, guidance=cfg(2.0)).chunks)
    assert len(held) == 2 and held[1] < held[0]


@pytest.mark.parametrize("kind", OUT)
def test_running_out_of_memory_twice_ends_the_run_resumably(tmp_path: Path, kind: str) -> None:
    """At torch's own error of a device a host would unload its models, and drop the state."""
    model = model_with_hooks(MODEL, on_check=Raises(OUT[kind], 5, 8))
    made = rollout(tmp_path, model)
    says = "again at .* everything before is kept: free memory"
    with pytest.raises(OutOfMemory, match=says) as raised:
        list(made.chunks)
    assert not isinstance(raised.value, torch.OutOfMemoryError)
    assert made.controls.state == "stopped"
    kept = made.spec.stored_chunks()
    assert kept >= 1
    again = rollout(tmp_path)
    assert_same_bits(list(again.chunks), list(rollout(tmp_path / "whole").chunks))
    assert again.resumed_from == kept


def test_other_errors_are_not_mistaken_for_lack_of_memory(tmp_path: Path) -> None:
    model = model_with_hooks(MODEL, on_check=Raises(lambda: RuntimeError("shapes"), 3))
    with pytest.raises(RuntimeError, match="shapes"):
        list(rollout(tmp_path, model).chunks)


def test_non_finite_values_stop_the_run_before_they_are_stored(tmp_path: Path) -> None:
    """The error names layer and dtype; earlier chunks stay."""
    made = rollout(tmp_path)
    tree = MODEL.host.claim(0)
    chunks = iter(made.chunks)
    first = next(chunks)
    weight = tree.blocks[1].ffn[0].bias
    before = weight.clone()
    try:
        weight.fill_(float("nan"))
        with pytest.raises(NotFinite, match=r"layer \d|its output.*torch.float32"):
            next(chunks)
    finally:
        weight.copy_(before)
    assert made.spec.stored_chunks() == 1
    again = list(rollout(tmp_path).chunks)
    assert torch.equal(again[0].latents, first.latents) and len(again) == 4


def test_a_chunk_that_disappears_from_the_journal_is_one_sentence(tmp_path: Path) -> None:
    made = rollout(tmp_path)
    cut_after(made, 3)
    run = rollout(tmp_path).run
    (tmp_path / f"{made.spec.key(1)}.safetensors").unlink()
    with pytest.raises(StorageError, match="has just left the journal.*run again"):
        list(run.state.replay(range(3)))


def test_a_damaged_chunk_is_replaced_with_the_same_bits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = rollout(tmp_path)
    chunks = list(whole.chunks)
    path = tmp_path / f"{whole.spec.key(1)}.safetensors"
    content = path.read_bytes()
    for at in range(0, len(content), len(content) // 5):
        for broken in (content[:at], content[:at] + bytes([content[at] ^ 8]) + content[at + 1 :]):
            path.write_bytes(broken)
            with caplog.at_level(logging.WARNING):
                assert_same_bits(list(rollout(tmp_path).chunks), chunks)


@pytest.mark.parametrize("recalled", ["0-99999999999999", "3", "none"])
def test_a_chunk_that_names_impossible_past_frames_is_made_again(
    tmp_path: Path, recalled: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever sends a shot may write what he likes into it; a span could fill the memory."""
    whole = rollout(tmp_path)
    chunks, key = list(whole.chunks), whole.spec.key(1)
    tensors, meta = whole.spec.journal.read_entry(key) or ({}, {})
    whole.spec.journal.write(key, tensors, {**meta, "recalled": recalled})
    assert_same_bits(list(rollout(tmp_path).chunks), chunks)
    assert "Chunk 1 of rollout" in caplog.text and "cannot have used" in caplog.text


@pytest.mark.parametrize("holes", [(1,), (0, 2), (3,)], ids=str)
def test_only_holes_are_made_again(tmp_path: Path, holes: tuple[int, ...]) -> None:
    """What follows a hole is verified and kept."""
    whole = rollout(tmp_path, length=15)
    chunks = list(whole.chunks)
    paths = [tmp_path / f"{whole.spec.key(i)}.safetensors" for i in range(5)]
    before = [path.stat().st_mtime_ns for path in paths]
    for hole in holes:
        paths[hole].unlink()
    again = list(rollout(tmp_path, length=15).chunks)
    assert_same_bits(again, chunks)
    assert tuple(chunk.index for chunk in again if chunk.model_evals) == holes
    after = [path.stat().st_mtime_ns for path in paths]
    assert tuple(i for i in range(5) if before[i] != after[i]) == holes


def test_a_hole_is_made_again_for_a_shorter_shot(tmp_path: Path) -> None:
    """The record is that of the longer one."""
    whole = rollout(tmp_path, length=15)
    chunks = list(whole.chunks)
    (tmp_path / f"{whole.spec.key(1)}.safetensors").unlink()
    assert_same_bits(list(rollout(tmp_path, length=9).chunks), chunks[:3])
    assert len(list(rollout(tmp_path, length=15).chunks)) == 5
    [record] = records(Journal(tmp_path))
    assert list(record.keys) == [whole.spec.key(index) for index in range(5)]


def test_clocks_do_not_influence_the_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that jumps back during a run, or files from the future, change no bit."""
    import os
    import time

    whole = list(rollout(tmp_path / "whole").chunks)
    cut_after(rollout(tmp_path, snapshot_chunks=1), 2)
    for path in tmp_path.iterdir():
        if path.is_file():
            os.utime(path, (4e9, 4e9))
    now = iter(range(10**6, 0, -1))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    assert_same_bits(list(rollout(tmp_path).chunks), whole)
