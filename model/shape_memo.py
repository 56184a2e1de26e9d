"""Infers the result of an operation on tensors without content once for all equal shapes.

Torch infers many shapes in Python, in a large part of a millisecond. A rehearsal repeats the same
operations for every layer, frame and piece, so their results are remembered by shape.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Arguments = tuple[Any, ...]
Named = Mapping[str, Any]
Make = Callable[[Arguments, Named], Any]
"""Makes the result of an operation from its arguments."""

SEQUENCES = list, tuple


class DispatchMode(TorchDispatchMode):
    """A mode whose calls torch does not guard against its compiler: nothing compiles here.

    The guard takes a quarter of a rehearsal's time.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class ShapeMemo(DispatchMode):
    """While active, operations on `meta` tensors give what they gave to equal shapes before.

    A result has the shape, strides, type and storage that the operation would give it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no annotations
        self._makes: dict[tuple[Hashable, ...], Make] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Arguments = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return self.call(func, args, kwargs or {})

    def call(self, func: Any, args: Arguments, kwargs: Named) -> Any:
        """The result of an operation of torch's dispatcher."""
        repeated = self.repeat(func, args, kwargs)
        return self.record(func, args, kwargs) if repeated is None else repeated

    def repeat(self, func: Any, args: Arguments, kwargs: Named) -> Any | None:
        """The result, if equal shapes gave one before: in storages of its own, or an argument."""
        key = None if func.is_view else _key_of_call(func, args, kwargs)
        make = None if key is None else self._makes.get(key)
        return None if make is None else make(args, kwargs)

    def record(self, func: Any, args: Arguments, kwargs: Named) -> Any:
        """The result by torch, remembered where it can be repeated."""
        key = None if func.is_view else _key_of_call(func, args, kwargs)
        result = func(*args, **kwargs)
        if key is not None and (make := _repetition(key, result, args, kwargs)):
            self._makes[key] = make
        return result


def tensors_in(values: object) -> list[Tensor]:
    """The tensors among nested arguments or results of an operation."""
    if isinstance(values, Tensor):
        return [values]
    if not isinstance(values, SEQUENCES):
        return []
    tensors: list[Tensor] = []
    for value in values:  # a plan looks at a hundred thousand values
        if isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, SEQUENCES):
            tensors += tensors_in(value)
    return tensors


def _key_of_call(func: Any, args: Arguments, kwargs: Named) -> tuple[Hashable, ...] | None:
    parts = (func, *map(_key_of, args), *map(_key_of, kwargs.items()))
    return None if None in parts else parts


def _key_of(value: Any) -> Hashable | None:
    """All of an argument that a result's shape depends on; None for a tensor that has content."""
    if isinstance(value, Tensor):
        return (value.shape, value.stride(), value.dtype) if value.is_meta else None
    if isinstance(value, SEQUENCES):
        parts = tuple(map(_key_of, value))
        return None if None in parts else parts
    return type(value), value  # 1 and 1.0 give different types


def _repetition(
    key: Sequence[Hashable], result: Any, args: Arguments, kwargs: Named
) -> Make | None:
    """How to make such a result again from the arguments; None for one that shares a storage."""
    if args and result is args[0]:
        return _first_argument if _key_of(result) == key[1] else None
    if "out" in kwargs and result is kwargs["out"]:
        return _named_out if _key_of(("out", result)) in key else None
    tensors = tensors_in(result)
    of_arguments = {_storage(x) for x in tensors_in((args, *kwargs.values()))}
    storages = {_storage(x) for x in tensors}
    if len(storages) < len(tensors) or storages & of_arguments or not all(map(_is_whole, tensors)):
        return None
    forms = [(x.shape, x.stride(), x.dtype) for x in tensors]
    if isinstance(result, Tensor):
        return lambda *_: _empty(*forms[0])
    if isinstance(result, tuple) and len(result) == len(tensors):
        return lambda *_: tuple(_empty(*form) for form in forms)
    return None


def _first_argument(args: Arguments, _: Named) -> Any:
    """The result of an operation in place."""
    return args[0]


def _named_out(_: Arguments, kwargs: Named) -> Any:
    """The result of an operation that writes into a tensor that is given to it."""
    return kwargs["out"]


def _storage(x: Tensor) -> int:
    address: int = x.untyped_storage()._cdata
    return address


def _is_whole(x: Tensor) -> bool:
    """Whether an empty tensor of this form has an equal storage."""
    if not x.is_meta or x.storage_offset():
        return False
    alike = _empty(x.shape, x.stride(), x.dtype)
    return x.untyped_storage().nbytes() == alike.untyped_storage().nbytes()


def _empty(shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(shape, stride, dtype=dtype, device="meta")
