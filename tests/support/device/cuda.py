"""Makes a process of its own believe that it has CUDA, with tensors of the stand-in.

Our code, and ComfyUI's, says `cuda` and gets those tensors. Torch's hook for devices in Python
makes it possible; the hook stays for the life of the process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration

from longtake.tests.support.device.queues import DEVICE, Event, Stream
from longtake.tests.support.device.tensors import (
    KIND,
    DeviceTensor,
    aten,
    create,
    is_pinned,
    launch,
)

GPUS = 2
NAMES = str, torch.device
WHOLE = {F.scaled_dot_product_attention, F.linear, torch.matmul, Tensor.matmul}
"""Functions that torch composes in another way for a device that is not a CPU."""
EFFICIENT = aten._scaled_dot_product_efficient_attention.default


class CudaMode(TorchFunctionMode):
    """Sends what is asked of `cuda` to the stand-in."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ == "__get__":  # a property, as every third call
            return func(*args)
        kwargs = kwargs or {}
        if func is torch.device:
            return _named(*args, **kwargs)
        if any(isinstance(x, NAMES) for x in args):
            args = tuple(inner_device(x) if isinstance(x, NAMES) else x for x in args)
        if "device" in kwargs:
            kwargs = {**kwargs, "device": inner_device(kwargs["device"])}
        if "generator" in kwargs:
            _check_generator(args, kwargs)
        if func in READERS:
            return READERS[func](*args, **kwargs)
        if kwargs.get("pin_memory") and kwargs.get("device") in (None, torch.device("cpu"), "cpu"):
            return _pin(func(*args, **{**kwargs, "pin_memory": False}))
        if func in WHOLE and _are_ours((*args, *kwargs.values())):
            return launch(func, args, kwargs)
        return func(*args, **kwargs)


def _are_ours(given: Any) -> bool:
    """Whether tensors are of the stand-in; others, such as quantised ones, compute as they do."""
    kinds = {type(x) for x in given if isinstance(x, Tensor)}
    return DeviceTensor in kinds and kinds <= {DeviceTensor, Tensor, nn.Parameter}


def _named(kind: Any, *args: Any, **kwargs: Any) -> torch.device:
    """A device; a number alone is one of CUDA's."""
    return torch.device(*(("cuda", kind) if isinstance(kind, int) else (kind, *args)), **kwargs)


def _same_memory(one: Tensor, other: Tensor) -> bool:
    """Whether a module may fill its own tensor `one` with `other`: both are in main memory."""
    return {type(x) is not DeviceTensor and x.device.type for x in (one, other)} == {"cpu"}


def _tensor(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
    """`torch.tensor`, which torch makes in main memory first."""
    return torch.tensor(*args, **kwargs).to(device)


def _range(make: Any) -> Any:
    """A function that torch lets fill a tensor of another size than it asked for."""
    return lambda *args, device=None, **kwargs: make(*args, **kwargs).to(device)


def _new_tensor(like: Tensor, data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    return torch.tensor(data, dtype=dtype or like.dtype).to(device or like.device)


def _cuda_copy(x: Tensor, device: Any = "cuda", **kwargs: Any) -> Tensor:
    return x.to(inner_device(device), **kwargs)


def inner_device(device: Any) -> Any:
    """The device of the stand-in for one that is called `cuda`."""
    if device is None or (isinstance(device, str) and not device.startswith("cuda")):
        return device
    asked = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    return torch.device(KIND, asked.index or 0) if asked.type == "cuda" else asked


def _pin(x: Tensor) -> Tensor:
    """A copy in memory that counts as pinned."""
    if isinstance(x, DeviceTensor):
        raise RuntimeError("cannot pin a tensor that is not in main memory")
    if is_pinned(x):
        return x
    pinned = x.detach().clone()
    pinned.untyped_storage().longtake_pinned = True  # type: ignore[attr-defined]
    return pinned


def _get(x: Tensor, index: Any) -> Tensor:
    return x[_as_tensors(index)]


def _set(x: Tensor, index: Any, values: Any) -> None:
    x[_as_tensors(index)] = values


def _as_tensors(index: Any) -> Any:
    """An index with tensors in place of lists, which torch would send to a device of its own."""
    if isinstance(index, tuple):
        return tuple(map(_as_tensors, index))
    if not isinstance(index, list):
        return index
    return torch.tensor(index, dtype=None if index else torch.long)


def _bmm(a: Tensor, b: Tensor, out_dtype: torch.dtype | None = None) -> Tensor:
    """Products of 16-bit factors in float32, which a CPU's kernel does not give."""
    if out_dtype is None:
        return launch(torch.bmm, (a, b), {}) if type(a) is DeviceTensor else torch.bmm(a, b)
    return torch.bmm(a.to(out_dtype), b.to(out_dtype))


READERS: dict[Any, Any] = {
    torch._has_compatible_shallow_copy_type: _same_memory,
    torch.tensor: _tensor,
    **{make: _range(make) for make in (torch.arange, torch.linspace, torch.eye)},
    Tensor.__getitem__: _get,
    Tensor.__setitem__: _set,
    torch.bmm: _bmm,
    Tensor.new_tensor: _new_tensor,
    Tensor.cuda: _cuda_copy,
    Tensor.pin_memory: _pin,
    Tensor.is_pinned: is_pinned,
}
"""Functions that torch binds to its own devices below what a subclass sees."""


def _efficient(  # noqa: PLR0913, PLR0917
    q: Tensor, k: Tensor, v: Tensor, mask: Any, lse: bool, dropout: float = 0.0,  # noqa: FBT001
    causal: bool = False, *, scale: float | None = None,  # noqa: FBT001, FBT002
) -> Any:  # fmt: skip
    """CUDA's kernel, by that of a CPU."""
    kernel = aten._scaled_dot_product_flash_attention_for_cpu
    return *kernel(q, k, v, dropout, causal, attn_mask=mask, scale=scale), q[:0], q[:0]


def _check_generator(args: Any, kwargs: dict[str, Any]) -> None:
    """Refuse random numbers of another device."""
    generator = kwargs["generator"]
    if generator is None:
        return
    device = kwargs.get("device")
    on_cuda = type(args[0]) is DeviceTensor if device is None else device.type == KIND
    if on_cuda != generator.on_cuda:
        raise RuntimeError("Expected a generator of the device of the tensor")


class StandInGenerator(torch.Generator):
    """A generator of a CPU, or one that counts as CUDA's and gives a CPU's numbers."""

    on_cuda: bool

    def __new__(cls, device: Any = "cpu") -> StandInGenerator:
        made: StandInGenerator = super().__new__(cls)
        made.on_cuda = torch.device(device).type == "cuda"
        return made

    def __init__(self, device: Any = "cpu") -> None:
        """Take what `__new__` takes."""


def begin() -> None:
    """Let this process have CUDA from now on."""
    backend_registration._setup_privateuseone_for_python_backend(KIND)
    fallback = torch.library.Library("_", "IMPL")
    fallback.fallback(lambda op, *args, **kwargs: create(op, args, kwargs), "PrivateUse1")
    begin.libraries = [fallback]  # type: ignore[attr-defined]  # as long as the function
    standin = torch.library.Library("aten", "IMPL")
    standin.impl(EFFICIENT, _efficient, "CPU")
    begin.libraries.append(standin)  # type: ignore[attr-defined]
    for name, value in _cuda().items():
        setattr(torch.cuda, name, value)
    torch.cuda.memory.memory_summary = lambda *_, **__: "stand-in"
    torch.Generator = StandInGenerator  # type: ignore[misc]
    run = threading.Thread.run

    def run_with_mode(thread: threading.Thread) -> None:
        with CudaMode():
            run(thread)

    threading.Thread.run = run_with_mode  # type: ignore[method-assign]
    CudaMode().__enter__()


def _index(device: Any) -> int:
    inner = inner_device(device)
    return CHOSEN.index if inner is None else inner.index or 0


def _limit(fraction: float, device: Any = None) -> None:
    """As torch, take no device without a number."""
    if isinstance(device, torch.device) and device.index is None:
        raise ValueError(f"Expected a torch.device with a specified index, but got: {device}")


class Chosen(threading.local):
    """The current device of a thread."""

    index = 0


CHOSEN = Chosen()


@contextmanager
def _device(device: Any) -> Iterator[None]:
    before, CHOSEN.index = CHOSEN.index, _index(device)
    try:
        yield
    finally:
        CHOSEN.index = before


def _cuda() -> dict[str, Any]:
    """What `torch.cuda` offers, as far as somebody uses it."""
    capacity = DEVICE.capacity_bytes
    facts = SimpleNamespace(total_memory=capacity, name="stand-in", major=8, minor=6)

    def held(device: Any = None) -> int:
        return DEVICE.held[_index(device)]

    return {
        "Stream": Stream,
        "Event": Event,
        "stream": lambda stream: nullcontext() if stream is None else DEVICE.use(stream),
        "current_stream": lambda device=None: DEVICE.current(_index(device)),
        "default_stream": lambda device=None: DEVICE.current(_index(device)),
        "synchronize": lambda device=None: DEVICE.wait_for_all(),
        "device": _device,
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: GPUS,
        "current_device": lambda: CHOSEN.index,
        "set_device": lambda device: None,
        "set_per_process_memory_fraction": _limit,
        "mem_get_info": lambda device=None: (
            DEVICE.capacity_bytes - held(device),
            DEVICE.capacity_bytes,
        ),
        "memory_stats": lambda device=None: {
            "active_bytes.all.current": held(device),
            "reserved_bytes.all.current": held(device),
        },
        "get_allocator_backend": lambda: "native",
        "memory_allocated": held,
        "max_memory_allocated": lambda device=None: DEVICE.peak[_index(device)],
        "reset_peak_memory_stats": lambda device=None: None,
        "empty_cache": lambda: None,
        "ipc_collect": lambda: None,
        "get_device_properties": lambda device=None: facts,
        "get_device_name": lambda device=None: facts.name,
        "get_device_capability": lambda device=None: (facts.major, facts.minor),
        "is_bf16_supported": lambda *_, **__: True,
    }
