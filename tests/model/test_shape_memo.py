"""A result from memory has the form and the storage that torch would give it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from longtake.model.shape_memo import ShapeMemo, tensors_in
from longtake.tests.support.model.calls import CallsOfTorch

Operation = Callable[[Tensor, Tensor], Any]
OPERATIONS: dict[str, Operation] = {
    "sum": lambda x, y: x + y,
    "broadcast": lambda x, y: x[:, None] + y,
    "type": lambda x, y: x.to(torch.int16) * 2,
    "type of a number": lambda x, y: (x > 0) * 2.0,
    "clamp": lambda x, y: x.clamp(min=0),
    "strides": lambda x, y: x.mT * 2,
    "product": lambda x, y: x @ y.mT,
    "top": lambda x, y: x.topk(2, dim=-1),
    "order": lambda x, y: x.sort(dim=0, stable=True),
    "extremes": lambda x, y: torch.aminmax(x, dim=0),
    "in place": lambda x, y: x.add_(y),
    "fill": lambda x, y: x.zero_(),
    "scatter": lambda x, y: x.scatter_(0, y.long(), 1),
    "out": lambda x, y: torch.minimum(x, y, out=x),
    "out, resized": lambda x, y: torch.minimum(x, y, out=x.new_empty(0)),
    "view": lambda x, y: x.flatten(),
    "copy of a view": lambda x, y: x.mT.flatten(),
    "pieces": lambda x, y: x.split(2),
    "linear": lambda x, y: F.linear(x, y),
    "joined": lambda x, y: torch.cat([x, y], 1),
    "padded": lambda x, y: F.pad(x, (0, 3)),
    "empty": lambda x, y: x.new_empty(2, 3),
    "resized": lambda x, y: x.resize_(7, 9),
    "moved": lambda x, y: x.cpu() if not x.is_meta else x.to("meta"),
}


def result_of(operation: Operation) -> list[Any]:
    """Form, bytes and sharing of storages of what an operation makes."""
    x, y = (torch.empty(4, 6, device="meta") for _ in range(2))
    own = [part.untyped_storage()._cdata for part in (x, y)]
    result = operation(x, y)
    return [type(result)] + [
        (part.shape, part.stride(), part.dtype, part.device.type, part.storage_offset(),
         part.untyped_storage().nbytes(), [part.untyped_storage()._cdata == at for at in own])
        for part in [*tensors_in(result), x, y]
    ]  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_result_from_memory_is_as_torch_gives_it(name: str) -> None:
    expected = result_of(OPERATIONS[name])
    with ShapeMemo():
        results = [result_of(OPERATIONS[name]) for _ in range(3)]
    assert results == [expected] * 3


def test_equal_shapes_are_inferred_once_and_others_anew() -> None:
    x = torch.empty(4, 6, device="meta")
    with CallsOfTorch() as calls, ShapeMemo():
        for _ in range(5):
            x.clamp(min=0)
        assert sum(calls.counts.values()) == 1
        x.clamp(min=1), x.mT.clamp(min=0), x.double().clamp(min=0), x[:2].clamp(min=0)
    assert sum(calls.counts.values()) - calls.of("to") == 5


def test_1_and_1_0_give_different_types() -> None:
    x = torch.empty(3, dtype=torch.int32, device="meta")
    with ShapeMemo():
        assert [(x * 1).dtype, (x * 1.0).dtype] == [torch.int32, torch.float32]


def test_what_has_content_is_computed_every_time() -> None:
    with ShapeMemo():
        for number in range(3):
            x = torch.full((2,), float(number))
            assert (x + 1).tolist() == [number + 1.0] * 2
            assert (torch.empty(2, device="meta") * x[0]).is_meta
