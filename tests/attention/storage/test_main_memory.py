"""Pinned blocks: torch's allocator takes a power of two for each, and layers fill almost all."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.storage.codec import Part
from longtake.attention.storage.main_memory import block_bytes, divide, pinned_parts
from longtake.attention.storage.placement import parts_in_main_memory
from longtake.tests.support.laws import examples

PARTS = [Part((3, 5), torch.int8), Part((7,), torch.float32), Part((3, 2), torch.bfloat16)]


@examples(60)
@given(layer_bytes=st.integers(1, 2**34), layers=st.integers(30, 48))
def test_all_blocks_take_at_most_an_eighth_more_than_their_layers(
    layer_bytes: int, layers: int
) -> None:
    together = divide(layers, layer_bytes)
    taken = sum(block_bytes(count * layer_bytes) for count in together)
    assert sum(together) == layers
    assert layers * layer_bytes <= taken <= 1.125 * layers * layer_bytes


@pytest.mark.parametrize("slots", [0, 1, 4])
@pytest.mark.parametrize("layers", [1, 3, 30])
def test_layers_share_pinned_blocks_and_no_bytes(
    layers: int, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = list[Tensor]()

    def pin(block: Tensor) -> Tensor:
        blocks.append(block)
        return block

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    memory = pinned_parts(layers, PARTS, (slots, 2))
    assert len(memory) == layers and len(blocks) < max(2, layers)
    for i, layer in enumerate(memory):
        for part, planned in zip(layer, PARTS, strict=True):
            assert part.shape == (slots, 2, *planned.size) and part.dtype == planned.dtype
            assert part.is_contiguous()
            part.fill_(i)
    assert all((part == i).all() for i, layer in enumerate(memory) for part in layer)


def test_frames_for_a_cuda_device_are_in_such_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a placement and of the archive, which take their memory from here."""
    monkeypatch.setattr(Tensor, "pin_memory", lambda block: block)
    near, far = (parts_in_main_memory(4, PARTS, (4, 1), torch.device(d)) for d in ("cpu", "cuda"))
    assert len({part.untyped_storage().data_ptr() for layer in near for part in layer}) == 12
    assert len({part.untyped_storage().data_ptr() for layer in far for part in layer}) < 4
    assert [[p.shape for p in layer] for layer in near] == [[p.shape for p in x] for x in far]
