"""Runs of one rollout at the same time: a graph may hold a shot and its continuation."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from longtake.errors import BadInput
from longtake.samplers.loop import Chunk
from longtake.stream.rollout.observer import SilentObserver
from longtake.stream.rollout.run import Run
from longtake.stream.rollout.shared_lock import SharedLock
from longtake.tests.support.stream.rollouts import assert_same_bits, rollout


class Counts(SilentObserver):
    """Notes which chunks a run makes."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def on_chunk(self, chunk: Chunk) -> None:
        self.made.append(chunk.index)


def two(folder: Path) -> tuple[tuple[Run, Counts], tuple[Run, Counts]]:
    """A shot of three chunks, and one of five that begins the same."""
    short, long = (rollout(folder, length=length).spec for length in (9, 15))
    assert short.id == long.id
    first, second = Counts(), Counts()
    return (Run(short, first), first), (Run(long, second), second)


def test_two_runs_in_turns_make_each_chunk_once_and_have_the_bits_of_one(tmp_path: Path) -> None:
    (short, made), (long, also_made) = two(tmp_path / "together")
    streams = iter(long.chunks), iter(short.chunks)
    chunks: tuple[list[Chunk], list[Chunk]] = ([], [])
    for turn in range(5):  # the short one ends before
        for stream, seen in zip(streams, chunks, strict=True):
            seen.extend([] if (chunk := next(stream, None)) is None else [chunk])
        assert turn or len(chunks[1]) == 1
    alone = list(rollout(tmp_path / "alone", length=15).chunks)
    assert_same_bits(chunks[0], alone)
    assert_same_bits(chunks[1], alone[:3])
    assert sorted(made.made + also_made.made) == [*range(5)]


def test_two_threads_make_each_chunk_once(tmp_path: Path) -> None:
    (short, made), (long, also_made) = two(tmp_path)
    threads = [threading.Thread(target=lambda run=run: list(run.chunks)) for run in (short, long)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made.made + also_made.made) == [*range(5)]
    assert torch.equal(list(short.chunks)[2].latents, list(long.chunks)[2].latents)


def test_the_last_run_releases_the_lock_against_other_processes(tmp_path: Path) -> None:
    journal = rollout(tmp_path).spec.journal
    first, second = SharedLock(journal, "x"), SharedLock(journal, "x")
    for lock in (first, first, second):
        with pytest.raises(BadInput, match="is already running in process"):
            journal.lock("x")
        lock.release()
    journal.lock("x").release()


def test_a_run_that_must_be_alone_is_refused_beside_another(tmp_path: Path) -> None:
    journal = rollout(tmp_path).spec.journal
    for first, second in ((False, True), (True, False)):
        lock = SharedLock(journal, "x", alone=first)
        SharedLock(journal, "y").release()
        with pytest.raises(BadInput, match="is already running in process"):
            SharedLock(journal, "x", alone=second)
        lock.release()
