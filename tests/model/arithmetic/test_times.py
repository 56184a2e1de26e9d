"""Time embeddings are remembered by their timesteps, and forgotten with the weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from longtake.model.arithmetic.times import MOST_KEPT, KeptTimes, embed_times
from longtake.model.dit import WanDiT
from longtake.tests.support.tiny_model import random_dit

LIKE = torch.zeros(1)


@pytest.fixture
def dit() -> WanDiT:
    return random_dit()


@pytest.fixture
def embedded(dit: WanDiT) -> list[Tensor]:
    """What went into the model's own layers."""
    inputs = list[Tensor]()
    dit.time_embedding.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    return inputs


def timesteps(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


@torch.no_grad()
def test_equal_timesteps_are_embedded_once(dit: WanDiT, embedded: list[Tensor]) -> None:
    keep, sets = KeptTimes(), [(999.0, 999.0), (500.25, 500.25), (999.0, 500.25), (999.0,)]
    for _ in range(3):
        for values in sets:
            ours = keep(dit, timesteps(*values), LIKE)
            assert torch.equal(ours, embed_times(dit, timesteps(*values), LIKE))
    assert len(embedded) == len(sets) + 3 * len(sets)  # those to compare with


@torch.no_grad()
def test_shapes_and_dtypes_are_told_apart(dit: WanDiT) -> None:
    keep = KeptTimes()
    assert keep(dit, timesteps(1.0, 2.0), LIKE).shape[:2] == (1, 2)
    assert keep(dit, timesteps(1.0, 2.0).T, LIKE).shape[:2] == (2, 1)
    assert keep(dit.double(), timesteps(1.0, 2.0), LIKE.double()).dtype is torch.float64


@torch.no_grad()
def test_forgotten_times_are_embedded_by_the_weights_of_now(dit: WanDiT) -> None:
    keep, t = KeptTimes(), timesteps(250.0)
    before = keep(dit, t, LIKE).clone()
    dit.time_embedding[2].bias.add_(1)
    assert torch.equal(keep(dit, t, LIKE), before)
    keep.forget()
    torch.testing.assert_close(keep(dit, t, LIKE), before + 1)


@torch.no_grad()
def test_a_schedule_without_end_takes_no_memory_without_end(dit: WanDiT) -> None:
    keep = KeptTimes()
    for step in range(3 * MOST_KEPT):
        keep(dit, timesteps(float(step)), LIKE)
        assert len(keep._kept) <= MOST_KEPT
