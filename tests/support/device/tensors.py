"""Tensors of a stand-in for CUDA: each has its content in a tensor of main memory.

What CUDA refuses is refused here. A copy that does not wait reads and writes main memory late: its
destination has no content before somebody waits, and its source may not change until then.
"""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from longtake.model.shape_memo import tensors_in
from longtake.tests.support.device.queues import DEVICE, Accesses, freed, place

KIND = "phantom"
aten = torch.ops.aten
COPIES = aten.copy_.default, aten._to_copy.default
NUMBER = aten._local_scalar_dense.default
TO = {aten.to, aten.cpu, aten.type_as}
"""What torch makes of copies; inference mode lets a device see it."""
WAITS = {NUMBER, aten.equal.default, aten.nonzero.default, aten.masked_select.default}
INDEXED = {
    aten.index.Tensor, aten.index_put_.default, aten.index_put.default,
    aten._index_put_impl_.default,
}  # fmt: skip
NOT_OF_NONE = frozenset({
    torch.ops.aten._upsample_bicubic2d_aa, torch.ops.aten._upsample_bilinear2d_aa,
})  # fmt: skip
TAKES_NUMBERS = {
    aten.where.self, aten.fill_.Tensor, aten.masked_fill.Tensor, aten.masked_fill_.Tensor,
    *INDEXED,
}  # fmt: skip
GARBAGE = 85


class DeviceTensor(Tensor):
    """A tensor whose `content` is in main memory and which says that it is on CUDA."""

    content: Tensor
    index: int
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, content: Tensor, index: int) -> DeviceTensor:
        if content.dtype is torch.float64 and not DEVICE.has_float64:
            raise TypeError("This device does not support float64")
        inference = content.is_inference()
        alike = inference == torch.is_inference_mode_enabled()
        with nullcontext() if alike else torch.inference_mode(inference):
            made: DeviceTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls, content.size(), strides=content.stride(),
                storage_offset=content.storage_offset(), dtype=content.dtype,
                device=torch.device(KIND, index),
            )  # fmt: skip
        made.content, made.index = content, index
        accesses_of(made)
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", self.index)

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def __repr__(self, **_: Any) -> str:
        return f"DeviceTensor({self.content})"

    def __tensor_flatten__(self) -> tuple[list[str], int]:
        return ["content"], self.index

    @staticmethod
    def __tensor_unflatten__(inner: Any, index: int, *_: Any) -> DeviceTensor:
        return DeviceTensor(inner["content"], index)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def data_ptr(self) -> int:
        return self.content.data_ptr()

    def record_stream(self, stream: Any) -> None:
        accesses_of(self).recorded.add(stream.number)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not all(issubclass(DeviceTensor, kind) or kind is nn.Parameter for kind in types):
            return NotImplemented  # for a tensor that holds others, such as a quantised one
        return launch(func, args, dict(kwargs or {}))


def accesses_of(tensor: DeviceTensor) -> Accesses:
    """The accesses to a tensor's memory; noted on it as long as it exists."""
    storage: Any = tensor.content.untyped_storage()
    accesses: Accesses | None = getattr(storage, "longtake_accesses", None)
    if accesses is None:
        DEVICE.hold(tensor.index, storage.nbytes())
        home = DEVICE.current(tensor.index)
        accesses = storage.longtake_accesses = Accesses(home, storage.nbytes())
        weakref.finalize(storage, freed, accesses).atexit = False
    return accesses


def launch(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation as a device does."""
    if func in COPIES:
        return copy(func, args, kwargs)
    if getattr(func, "overloadpacket", None) in TO:
        return func.decompose(*args, **kwargs)
    tensors = tensors_in((*args, *kwargs.values()))
    own = [x for x in tensors if isinstance(x, DeviceTensor)]
    if not own:
        return create(func, args, kwargs)
    index = own[0].index
    if not is_view(func):
        check_devices(func, tensors, index)
        check_sizes(func, tensors)
        written = {id(x) for x in outputs(func, args, kwargs)}
        reads = [accesses_of(x) for x in own if id(x) not in written]
        DEVICE.current(index).queue(reads, [accesses_of(x) for x in own if id(x) in written])
    if func in WAITS or (func in INDEXED and any(x.dtype == torch.bool for x in tensors[1:])):
        DEVICE.current(index).synchronize()
    given = {id(x.content): x for x in own}
    kwargs.pop("device", None)
    result = func(*map(content_of, args), **{name: content_of(x) for name, x in kwargs.items()})
    if any(x.shape != x.content.shape for x in own):
        raise NotImplementedError(f"{func} gave a tensor of the stand-in another shape")

    def own_of(x: Any) -> Any:
        own = given.get(id(x))
        return wrap(x, index, is_view(func)) if own is None else own

    return own_of(result) if isinstance(result, Tensor) else tree_map(own_of, result)


def wrap(x: Any, index: int, view: bool = False) -> Any:  # noqa: FBT001, FBT002
    """A new tensor of the device, which the current stream has written."""
    if not isinstance(x, Tensor):
        return x
    made = DeviceTensor(x, index)
    if not view:
        DEVICE.current(index).queue([], [accesses_of(made)])
    return made


def create(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """A tensor made on the device; what nobody wrote holds no numbers."""
    device = torch.device(kwargs.pop("device", KIND))
    kwargs.pop("pin_memory", None)
    made = func(*args, **kwargs, device="cpu")
    if "empty" in str(func):
        spoil(made)
    return wrap(made, device.index or 0)


def copy(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """A copy within the device or between it and main memory."""
    if func is aten._to_copy.default:
        return convert(args[0], kwargs)
    into, source, *rest = args
    waits = not (rest[0] if rest else kwargs.get("non_blocking", False))
    if isinstance(into, DeviceTensor):
        upload(into, source, waits)
    else:
        download(into, source, waits)
    return into


def convert(source: Tensor, kwargs: dict[str, Any]) -> Tensor:
    """Another dtype, device or order in memory."""
    device, waits = kwargs.pop("device", None), not kwargs.pop("non_blocking", False)
    kwargs.pop("pin_memory", None)
    kwargs.pop("layout", None)
    content = source.content if isinstance(source, DeviceTensor) else source
    shape = aten._to_copy.default(content, **kwargs)
    kind = (device or torch.device(KIND, getattr(source, "index", 0))).type
    if kind == "cpu":
        result = spoil(shape) if not waits and DEVICE.late else shape
        download(result, source, waits)
        return result
    index = source.index if device is None or device.index is None else device.index  # type: ignore[attr-defined]
    made = DeviceTensor(shape, index)
    upload(made, source, waits)
    return made


def upload(into: DeviceTensor, source: Tensor, waits: bool) -> None:  # noqa: FBT001
    """Copy to the device. From pinned memory a copy is queued, and reads when its turn comes."""
    stream = DEVICE.current(into.index)
    if isinstance(source, DeviceTensor):
        if source.index != into.index:  # torch orders both devices' streams around such a copy
            stream.wait_stream(DEVICE.current(source.index))
        stream.queue([accesses_of(source)], [accesses_of(into)])
        into.content.copy_(source.content)
        DEVICE.current(source.index).wait_stream(stream)
        return
    stream.queue([], [accesses_of(into)])
    into.content.copy_(source)
    if waits:
        stream.synchronize()
    elif is_pinned(source) and DEVICE.late:
        before, where = source.detach().clone(), place()
        DEVICE.later(stream, lambda: check_unchanged(source, before, where))


def check_unchanged(source: Tensor, before: Tensor, where: str) -> None:
    """The source of a queued copy must be as it was when the copy was queued."""
    now, then = (x.reshape(-1).contiguous().view(torch.uint8) for x in (source, before))
    if not torch.equal(now, then):
        DEVICE.fault(f"pinned memory was written before the device read it ({where}), until a wait")


def download(into: Tensor, source: DeviceTensor, waits: bool) -> None:  # noqa: FBT001
    """Copy to main memory, which holds garbage until somebody waits."""
    stream = DEVICE.current(source.index)
    stream.queue([accesses_of(source)], [])
    if waits or not DEVICE.late:
        stream.synchronize()
        into.copy_(source.content)
        return
    numbers = source.content.clone()
    spoil(into)
    DEVICE.later(stream, lambda: void(into.copy_(numbers)))


def void(_: object) -> None:
    """Return nothing."""


def spoil(x: Tensor) -> Tensor:
    """Fill with what memory may hold: no numbers."""
    floats = x.dtype.is_floating_point or x.dtype.is_complex
    if x.dtype.itemsize == 1:
        x.view(torch.uint8).fill_(127 if floats else GARBAGE % 2 if x.dtype == torch.bool else 85)
    else:
        x.fill_(torch.nan if floats else GARBAGE)
    return x


def is_pinned(x: Tensor) -> bool:
    """Whether `pin_memory` made the memory of x."""
    return getattr(x.untyped_storage(), "longtake_pinned", False)


def check_sizes(func: Any, tensors: list[Tensor]) -> None:
    """Refuse to enlarge no picture with a filter against aliasing, as CUDA does."""
    if getattr(func, "overloadpacket", None) in NOT_OF_NONE and tensors[0].numel() == 0:
        raise RuntimeError("CUDA error: invalid argument")


def check_devices(func: Any, tensors: list[Tensor], index: int) -> None:
    """Refuse tensors of two devices, as CUDA does; numbers of main memory are allowed in places."""
    tags = getattr(func, "tags", ())
    numbers = torch.Tag.pointwise in tags or func in TAKES_NUMBERS
    for position, x in enumerate(tensors):
        if isinstance(x, DeviceTensor):
            if x.index != index:
                raise RuntimeError(f"{func}: tensors on cuda:{index} and cuda:{x.index}")
            continue
        is_index = func in INDEXED and position > 0 and x.dtype in (torch.int64, torch.bool)
        if not (is_index or (x.ndim == 0 and numbers)):
            raise RuntimeError(f"{func}: expected all tensors on cuda:{index}, found cpu")


@cache
def is_view(func: Any) -> bool:
    """Whether an operation only looks at memory in another way."""
    schema = getattr(func, "_schema", None)
    if schema is None:
        return False
    written = any(x.alias_info is not None and x.alias_info.is_write for x in schema.arguments)
    return not written and any(x.alias_info is not None for x in schema.returns)


def outputs(func: Any, args: Any, kwargs: dict[str, Any]) -> list[Any]:
    """The arguments that an operation writes."""
    schema = getattr(func, "_schema", None)
    if schema is None:
        return []
    named = [(x.name, x.alias_info) for x in schema.arguments]
    values = [*args, *(kwargs.get(name) for name, _ in named[len(args) :])]
    pairs = zip(named, values, strict=True)
    written = [value for (_, alias), value in pairs if alias is not None and alias.is_write]
    return tensors_in(written)


def content_of(x: Any) -> Any:
    """What is in main memory for x, or for what it holds."""
    if isinstance(x, DeviceTensor):
        return x.content
    return type(x)(map(content_of, x)) if type(x) in {list, tuple} else x
