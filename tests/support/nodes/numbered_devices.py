"""Accelerators that do not exist, `phantom:0` and `phantom:1`, with numbers that do.

Their tensors compute on the processor. Each is of one device: an operation on tensors of several
devices fails, as on real ones, and so does one on a device and main memory unless it copies. The
devices count the bytes of their tensors and note which threads compute on them. Torch keeps such a
kind of device for the life of a process, so use them in a process of their own.
"""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

KIND = "phantom"
COPY = torch.ops.aten.copy_.default
SHARES = torch.ops.aten._has_compatible_shallow_copy_type.default
LIBRARY = torch.library.Library("aten", "IMPL")


class Usage:
    """What one device holds and who computes on it."""

    def __init__(self) -> None:
        self.bytes = self.peak_bytes = 0
        self.threads = set[str]()
        self._users = defaultdict[int, int](int)
        self._lock = threading.Lock()

    def hold(self, inner: Tensor, outer: Tensor) -> None:
        """Count the memory of `inner` for as long as `outer` lives."""
        storage = inner.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        with self._lock:
            self._users[place] += 1
            if self._users[place] == 1:
                self.bytes += size
                self.peak_bytes = max(self.peak_bytes, self.bytes)
        weakref.finalize(outer, self._release, place, size)

    def _release(self, place: int, size: int) -> None:
        self._users[place] -= 1
        if not self._users[place]:
            self.bytes -= size


USAGES = defaultdict[int, Usage](Usage)


class OnDevice(Tensor):
    """A tensor on one of the devices; `inner` has its numbers in main memory."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor, device: torch.device) -> OnDevice:
        outer = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=device,
        )  # fmt: skip
        outer.inner = inner
        USAGES[device.index or 0].hold(inner, outer)
        return outer

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnDevice({self.inner}, {self.device})"

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is SHARES:
            return False  # modules then take new parameters instead of filling the old ones
        named = dict(kwargs or {})
        values = tree_leaves((args, named))
        here = [value.device for value in values if isinstance(value, OnDevice)]
        for device in here:
            USAGES[device.index or 0].threads.add(threading.current_thread().name)
        if func is COPY:
            _content(args[0]).copy_(_content(args[1]))
            return args[0]
        targets = [value for value in values if isinstance(value, torch.device)]
        _check(func, values)
        result = func(*tree_map(_content, args), **tree_map(_content, named))
        if func._schema.is_mutable:
            changed = {id(value.inner): value for value in values if isinstance(value, OnDevice)}
            return tree_map_only(Tensor, lambda inner: changed[id(inner)], result)
        target = targets[0] if targets else here[0]
        if target.type == "cpu":
            return tree_map_only(Tensor, Tensor.clone, result)
        return tree_map_only(Tensor, lambda inner: OnDevice(inner, target), result)


def _content(value: Any) -> Any:
    """What stands for a tensor of a device, and for the device, in main memory."""
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.inner if isinstance(value, OnDevice) else value


def _check(func: Any, values: Sequence[Any]) -> None:
    """Refuse tensors of several devices; a single number may be in main memory."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    devices = {value.device for value in tensors if value.ndim or value.device.type != "cpu"}
    if len(devices) > 1:
        raise RuntimeError(f"{func} takes tensors of {sorted(map(str, devices))}")


def _empty(size: Sequence[int], **options: Any) -> Tensor:
    device = torch.device(options.pop("device"))
    options.pop("pin_memory", None)
    return OnDevice(torch.empty(size, **options), device)


def _empty_strided(size: Sequence[int], stride: Sequence[int], **options: Any) -> Tensor:
    device = torch.device(options.pop("device"))
    options.pop("pin_memory", None)
    return OnDevice(torch.empty_strided(size, stride, **options), device)


def install() -> tuple[torch.device, torch.device]:
    """Make the devices known to torch, and return both."""
    backend_registration._setup_privateuseone_for_python_backend(KIND)
    LIBRARY.impl("empty.memory_format", _empty, "PrivateUse1")
    LIBRARY.impl("empty_strided", _empty_strided, "PrivateUse1")
    return torch.device(KIND, 0), torch.device(KIND, 1)
