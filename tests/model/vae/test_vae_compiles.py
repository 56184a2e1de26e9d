"""A decoder's state is an argument and a result, so that a compiler takes it as one graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.tests.support.model.vaes import VAE
from longtake.tests.support.tiny_model import randn

CHUNK, ROWS, COLUMNS = 3, 2, 3


@pytest.fixture
def traced() -> Iterator[list[object]]:
    torch._dynamo.reset()
    yield []
    torch._dynamo.reset()


def traced_as_one(function: Callable[..., Any], traced: list[object]) -> Callable[..., Any]:
    """`function` as torch traces it: one graph for each order of inputs, else an error."""

    def note(graph: Any, inputs: list[Tensor]) -> Callable[..., Any]:
        traced.append(graph)
        forward: Callable[..., Any] = graph.forward
        return forward

    return torch.compile(function, backend=note, fullgraph=True, dynamic=False)


def test_a_decoder_is_one_graph_for_all_chunks_after_the_first(traced: list[object]) -> None:
    compiled = traced_as_one(VAE.decode_groups, traced)
    memory = plain_memory = VAE.start(VAE.decoder)
    graphs = []
    with torch.no_grad():
        for _ in range(4):
            latents = randn(1, CHUNK, 16, ROWS, COLUMNS)
            ours, memory = compiled(latents, memory)
            expected, plain_memory = VAE.decode_groups(latents, plain_memory)
            assert torch.equal(ours, expected)
            graphs.append(len(traced))
    assert graphs == [1, 2, 2, 2]
