"""Attention stays dense where nothing was measured to be faster; explicit numbers apply."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from longtake.attention.dense import attend
from longtake.attention.sparse.prompt_attention import SparsePrompt
from longtake.attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from longtake.attention.sparse.thresholds import (
    MEASURED,
    MERGED,
    apply_measurements,
    min_keys,
    min_prompt_tokens,
)
from longtake.benchmarks._attention.speed_model import PADDED
from longtake.tests.support.tiny_model import randn

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_nothing_is_sparse_by_itself_where_it_was_never_measured(kind: str) -> None:
    least, reason = min_keys(None, torch.device(kind))
    assert least is None and kind in reason
    assert min_keys(0, torch.device(kind))[0] == 0


def test_what_is_sparse_by_itself_is_faster_in_a_committed_result() -> None:
    """So far nothing is: the node's recommended density with its floor is slower at any length."""
    for kind in ("cpu", *MEASURED):
        path = ROOT / "benchmarks" / "results" / f"attention-layer-{kind}.json"
        figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
        faster = [
            int(name.removesuffix(" keys").split(", ")[-1].replace(",", ""))
            for name, one in figures.items()
            if name.startswith("dense / AnnSA 0.3, ") and one["low"] > 1
        ]
        assert all(least >= MEASURED.get(kind, 0) for least in faster)
        assert kind not in MEASURED or MEASURED[kind] in faster


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_padding_is_not_merged_by_itself_where_it_was_never_measured(kind: str) -> None:
    device, by_itself = torch.device(kind), Sparsity(SparseSelf(), SparseCross())
    least, reason = min_prompt_tokens(None, device)
    assert least is None and kind in reason
    assert apply_measurements(by_itself, device) == Sparsity()
    named = Sparsity(SparseSelf(min_keys=9), SparseCross(from_tokens=0))
    assert apply_measurements(named, device) == named


@pytest.mark.parametrize("kind", [*MERGED])
def test_padding_that_is_merged_by_itself_is_faster_in_a_committed_result(kind: str) -> None:
    path = ROOT / "benchmarks" / "results" / f"attention-ablation-{kind}.json"
    figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
    for history in (64, 256):
        found = figures[f"dense, long prompt / ablation: AnnCA, padding, history {history}"]
        assert found["low"] > 1 and MERGED[kind] == PADDED


def test_prompts_shorter_than_measured_are_dense_bit_for_bit() -> None:
    k, q = randn(1, 40, 2, 12), randn(1, 5, 2, 12, seed=1)
    k[:, 9:] = k[:, -1:]
    asked = apply_measurements(Sparsity(None, SparseCross()), torch.device("cpu")).prompt_sparsity
    assert asked is not None and asked.from_tokens == MERGED["cpu"]
    sparse = SparsePrompt(asked)
    assert torch.equal(sparse(0, q, k, k), attend(q, k, k)) and sparse.share == 1
