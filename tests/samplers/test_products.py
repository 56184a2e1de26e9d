"""Every history is read in the dtype in which the model's layers multiply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention import layout
from longtake.attention.cache.placed_windows import SharedWindow
from longtake.attention.cache.policy import FullHistory, MemoryBank, WindowSink
from longtake.attention.kernels.biased import attend_biased
from longtake.model.arithmetic.layers import Layers
from longtake.model.arithmetic.packed import PackedWeights
from longtake.samplers.denoiser import Denoiser, local_denoiser
from longtake.samplers.guidance import AgeRange, View, temporal
from longtake.samplers.loop import generate
from longtake.tests.support.tiny_model import TINY, random_dit, settings

MODEL = local_denoiser(random_dit(), TINY)
HALF = replace(MODEL, layers=Layers(packed=PackedWeights(torch.bfloat16)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[torch.dtype]:
    """In which dtypes dense attention was asked to multiply."""
    dtypes = set[torch.dtype]()

    def recorded(q: Tensor, k: Tensor, v: Tensor, bias: Any, products: torch.dtype) -> Tensor:
        dtypes.add(products)
        return attend_biased(q, k, v, bias, products)

    monkeypatch.setattr(layout, "attend_biased", recorded)
    return dtypes


SHOTS: dict[str, dict[str, Any]] = {
    "all": {"cache": FullHistory()},
    "window": {"cache": WindowSink(4, 1)},
    "bank": {"cache": MemoryBank(5, 1, 1, 1)},
    "window of chosen frames": {"cache": SharedWindow(4, 1)},
    "part": {"guidance": temporal(0.5, View(AgeRange(2, 4)))},
}


@pytest.mark.parametrize("shot", SHOTS)
@pytest.mark.parametrize(
    ("model", "products"), [(MODEL, torch.float32), (HALF, torch.bfloat16)], ids=["full", "half"]
)
def test_attention_multiplies_as_the_layers_do(
    asked: set[torch.dtype], model: Denoiser, products: torch.dtype, shot: str
) -> None:
    list(generate(settings(**{"length": 12, **SHOTS[shot]}), model))
    assert asked == {products}
