"""Copies of weights for products are freed when a shot ends: a host may keep its results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longtake.model.arithmetic import layers
from longtake.model.arithmetic.layers import Layers
from longtake.model.arithmetic.packed import PackedWeights
from longtake.samplers.denoiser import Commits, Denoiser, SecondWeights
from longtake.stream.journal.journal import Journal
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.stream.rollouts import MODEL, Words
from longtake.tests.support.tiny_model import settings


def packing(weights: PackedWeights) -> Denoiser:
    return replace(MODEL, layers=Layers(packed=weights))


@pytest.fixture(autouse=True)
def _products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "suits_products", lambda x, *_: x.dtype is torch.float32)


def test_a_shot_that_has_ended_keeps_no_copies_of_weights(tmp_path: Path) -> None:
    first, second = PackedWeights(), PackedWeights()
    model = replace(packing(first), second=SecondWeights(packing(second), Commits()))
    spec = RolloutSpec(settings(length=9), model, "model", Journal(tmp_path), prompter=Words())
    with torch.inference_mode():
        kept = [(first.bytes, second.bytes) for _ in Rollout(spec).chunks]
    assert kept[0][0] > 0 and min(kept[1]) > 0
    assert (first.bytes, second.bytes) == (0, 0)


def test_a_shot_that_has_failed_keeps_no_copies_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its producer, whose state may be broken, has gone before."""
    weights = PackedWeights()
    journal = Journal(tmp_path)
    spec = RolloutSpec(settings(length=9), packing(weights), "model", journal, prompter=Words())
    chunks = iter(Rollout(spec).chunks)
    with torch.inference_mode():
        next(chunks)
        monkeypatch.setattr(journal, "write", lambda *_: 1 / 0)
        assert weights.bytes > 0
        with pytest.raises(ZeroDivisionError):
            next(chunks)
    assert weights.bytes == 0
