"""Keys that no head reads are left out of attention, and the result is that of hiding them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention import weights as module
from longtake.attention.layout import AttentionInputs, attend_inputs
from longtake.attention.readable import KeyCounts
from longtake.attention.weights import WeightedHistory
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import randn

TOKENS, HEADS, WIDTH, LAYERS = 3, 4, 8, 3
CLOSE = {"rtol": 1e-6, "atol": 1e-6}


@dataclass(frozen=True)
class Near:
    """Frames beyond the newest `near` are not read, the sink is."""

    near: int
    next_frame: int = 20
    sink_frames: int = 2
    layers: int = LAYERS
    reads_sink: bool = True

    @property
    def horizon(self) -> int:
        return self.near + 1

    def log_weight(self, layer: int, frame: int) -> float:
        if frame < self.sink_frames:
            return 0.0 if self.reads_sink else -math.inf
        age = self.next_frame - frame
        return -0.3 * age if age <= self.near else -math.inf


class HeadKeys:
    """A history in which each head of two rows has frames of its own, some of the slots empty."""

    rows = slice(None)

    def __init__(self, slots: int, seed: int, *, holes: bool) -> None:
        generator = torch.Generator().manual_seed(seed)
        size = LAYERS, 2, HEADS, slots
        self.frames = torch.randint(0, 20, size, generator=generator)
        self.masses = torch.randint(0 if holes else 1, 4, size, generator=generator).float()
        self.slots = slots

    def key_frames(self, layer: int) -> Tensor:
        return self.frames[layer]

    def gather(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> AttentionInputs:
        keys, values = (randn(2, HEADS, self.slots, WIDTH, seed=10 * layer + i) for i in range(2))
        own = [x.transpose(1, 2) for x in (k, v)]
        return AttentionInputs(
            q.transpose(1, 2), torch.cat([keys, own[0]], 2), torch.cat([values, own[1]], 2),
            torch.cat([self.masses[layer].log(), torch.zeros(2, HEADS, k.shape[1])], 2),
            self.slots, ((slice(0, TOKENS), TOKENS), (slice(TOKENS, 2 * TOKENS), 2 * TOKENS)),
            [-1] * -(-self.slots // TOKENS), TOKENS,
        )  # fmt: skip


@examples(40)
@given(
    slots=st.integers(0, 40), near=st.integers(1, 19), seed=st.integers(0, 99),
    holes=st.booleans(), sink=st.booleans(),
)  # fmt: skip
def test_leaving_keys_out_is_hiding_them(
    slots: int, near: int, seed: int, holes: bool, sink: bool
) -> None:
    history = WeightedHistory(HeadKeys(slots, seed, holes=holes), Near(near, reads_sink=sink), 0, 2)
    qkv = [randn(2, 2 * TOKENS, HEADS, WIDTH, seed=900 + i) for i in range(3)]
    for layer in range(LAYERS):
        hidden = attend_inputs(history.gather(layer, *qkv)).transpose(1, 2)
        torch.testing.assert_close(history(layer, *qkv), hidden, **CLOSE)


def test_attention_gets_as_many_keys_as_the_head_that_reads_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lists of frames say how many; the device is asked once, whatever the steps and layers."""
    lengths, asked = list[int](), list[Tensor]()
    genuine, count = module.attend_inputs, WeightedHistory._count_read

    def spy(inputs: AttentionInputs) -> Tensor:
        lengths.append(inputs.keys.shape[2])
        return genuine(inputs)

    def counting(self: WeightedHistory, read: Tensor) -> list[int]:
        asked.append(read)
        return count(self, read)

    monkeypatch.setattr(module, "attend_inputs", spy)
    monkeypatch.setattr(WeightedHistory, "_count_read", counting)
    keys, counts = HeadKeys(60, 7, holes=False), KeyCounts()
    qkv = [randn(2, 2 * TOKENS, HEADS, WIDTH, seed=i) for i in range(3)]
    for _ in range(4):  # steps
        history = WeightedHistory(keys, Near(5), 0, 2, counts)
        for layer in range(LAYERS):
            history(layer, *qkv)
    heads = [[sum(f < 2 or 20 - f <= 5 for f in head) for row in layer for head in row]
             for layer in keys.frames.tolist()]  # fmt: skip
    assert lengths == [max(layer) + 2 * TOKENS for layer in heads] * 4
    assert max(lengths) < 60 and len(asked) == 1
    counts.clear()
    WeightedHistory(keys, Near(5), 0, 2, counts)(0, *qkv)
    assert len(asked) == 2
