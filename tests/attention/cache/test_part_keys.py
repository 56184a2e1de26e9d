"""Only what a pass reads of a history is fetched, in the order in which its layers read it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import CachePolicy, FullHistory, MostAttended, WindowSink
from longtake.attention.pieces import runs
from longtake.attention.storage.dense import DENSE, Storage
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.placement import (
    ON_DEVICE,
    InMainMemory,
    OffloadedTier,
    OnDisk,
)
from longtake.attention.storage.quantize import INT4, INT8
from longtake.samplers.guidance import Guidance, cfg
from longtake.samplers.loop import generate
from longtake.samplers.planning.rules import describe_rules
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.reading import FarReading, NewestFrames
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.stream.rollouts import MODEL, assert_same_bits
from longtake.tests.support.tiny_model import TINY, settings

FAR = MemoryRules(far=FarReading(3, last_steps=1, last_layers=0.5))  # the second of two layers


def shot(**changes: Any) -> RolloutSettings:
    return settings(**{"length": 15, "memory": FAR, "cache": WindowSink(9, 1), **changes})


class Fetches:
    """What is copied to the device: a layer and slots of each copy, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.copies: list[tuple[int, list[int]]] = []
        self.reads: list[tuple[int, list[int]]] = []
        start, fetch = OffloadedTier._start, OffloadedTier.fetch

        def record_start(tier: OffloadedTier, layer: int, slots: Sequence[int]) -> None:
            self.copies.append((layer, [*slots]))
            start(tier, layer, slots)

        def record_fetch(
            tier: OffloadedTier, layer: int, slots: Sequence[int], ahead: Sequence[int]
        ) -> Any:
            self.reads.append((layer, [*slots]))
            return fetch(tier, layer, slots, ahead)

        monkeypatch.setattr(OffloadedTier, "_start", record_start)
        monkeypatch.setattr(OffloadedTier, "fetch", record_fetch)

    def clear(self) -> None:
        """Forget everything so far."""
        self.copies.clear()
        self.reads.clear()


def test_most_steps_and_layers_fetch_the_near_frames_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two steps and a commit a chunk, two layers: only the last step's last layer reads far."""
    fetches = Fetches(monkeypatch)
    chunks = generate(shot(cache=FullHistory(), placement=InMainMemory()), MODEL)
    for _ in range(3):
        next(chunks)
    fetches.clear()
    next(chunks)  # commits frames 6 to 8, then makes 9 to 11
    before, near, whole = [*range(6)], [6, 7, 8], [*range(9)]
    commit = [(0, before)]  # it ends with the last layer's keys and values
    steps = [(0, near), (1, near), (0, near), (1, whole)]
    assert fetches.reads == [*commit, *steps]
    ahead = [(0, near)]  # what the next pass would begin with
    begun = (1, before)  # on its way before the commit ended
    assert fetches.copies == [*commit, begun, *steps, *ahead]


@pytest.mark.parametrize(
    ("where", "storage", "cache", "guidance"),
    [
        ("main memory", DENSE, WindowSink(9, 1), Guidance()),
        ("main memory", Packed(INT8, 2), FullHistory(), cfg(2.0)),
        ("disk", Packed(INT4), MostAttended(9, 1), Guidance()),
        ("device", Packed(INT8, 2), WindowSink(9, 1), Guidance()),
    ],
)
def test_a_shot_is_the_same_bits_however_little_is_fetched(  # noqa: PLR0913
    where: str,
    storage: Storage,
    cache: CachePolicy,
    guidance: Guidance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = {"main memory": InMainMemory(), "disk": OnDisk(tmp_path), "device": ON_DEVICE}[where]
    rules = MemoryRules(commit=NewestFrames(4), far=FAR.far)
    s = shot(cache=cache, storage=storage, placement=place, memory=rules, guidance=guidance)
    part = [*generate(s, MODEL)]
    with monkeypatch.context() as patch:
        patch.setattr("longtake.samplers.history.extent.read_part", lambda whole, _: whole)
        assert_same_bits(part, [*generate(s, MODEL)])


def test_a_layer_that_reads_otherwise_than_the_one_before_is_on_its_way_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is copied twice within a chunk, but what a commit made stale."""
    fetches = Fetches(monkeypatch)
    every_step = MemoryRules(far=FarReading(3, last_steps=2, last_layers=0.5))
    chunks = generate(shot(cache=FullHistory(), placement=InMainMemory(), memory=every_step), MODEL)
    for _ in range(3):
        next(chunks)
    fetches.clear()
    next(chunks)
    near, whole = [6, 7, 8], [*range(9)]
    assert fetches.reads[1:] == [(0, near), (1, whole)] * 2
    assert fetches.copies[2:] == [(0, near), (1, whole), (0, near), (1, whole), (0, near)]


def test_the_plan_says_what_is_fetched() -> None:
    def told(**changes: Any) -> str:
        return describe_rules(shot(**changes), TINY.num_layers) or ""

    assert "fetched" not in told()
    assert told(placement=InMainMemory()).endswith("in all, and only these are fetched.")


def test_numbers_are_a_few_runs() -> None:
    assert runs([0, 1, 4, 5, 6, 9]) == [slice(0, 2), slice(4, 7), slice(9, 10)]
    assert runs(()) == [] and runs(range(3)) == [slice(0, 3)]
    assert torch.arange(9)[runs([2, 3])[0]].tolist() == [2, 3]
