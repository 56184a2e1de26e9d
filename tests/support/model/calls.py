"""Counts the operations that torch carries out on tensors without content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from longtake.model.shape_memo import tensors_in


class CallsOfTorch(TorchDispatchMode):
    """Counts, while active, calls that make tensors, by operation and form of the arguments.

    Views and empty tensors are not counted: their shape is given.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no annotations
        self.counts: Counter[Hashable] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        without_content = all(x.is_meta for x in tensors_in((args, result)))
        if without_content and not func.is_view and "aten.empty" not in str(func):
            self.counts[str(func), repr(_form((args, kwargs or {})))] += 1
        return result

    def of(self, name: str) -> int:
        """The calls of operations whose name contains `name`."""
        return sum(count for (func, _), count in self.counts.items() if name in func)  # type: ignore[misc]


def _form(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.device.type, value.dtype, value.shape, value.stride()
    if isinstance(value, list | tuple):
        return [_form(part) for part in value]
    if isinstance(value, dict):
        return [(name, _form(part)) for name, part in value.items()]
    return value
