"""Measures the memory of streaming through a VAE: the stream runs over modules without weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..memory import META, peak_bytes
from .decoder_memory import DecoderMemory
from .protocol import StreamingCoder

ATTENTION = "optimized_attention"  # what the host chose for a block, by asking the device
CONVOLUTION = torch.ops.aten.convolution.default
BLOCK = 16  # channels that oneDNN lays side by side
ONE_DNN = (torch._C._ConvBackend.Mkldnn, torch._C._ConvBackend.MkldnnEmpty)  # type: ignore[attr-defined]


def rehearse(
    tree: nn.Module,
    dtype: torch.dtype,
    opened: Callable[[Any], StreamingCoder],
    parts: Sequence[Sequence[int]],
    device: torch.device,
) -> DecoderMemory:
    """Memory of the stream that `opened` starts over a tree.

    The stream is fed float32 tensors with the shapes of `parts`. They are counted; the weights, in
    `dtype`, are not.
    """
    stream = opened(twin(tree, dtype))

    def run() -> None:
        for shape in parts:
            stream.feed(torch.empty(*shape, device=META))

    with torch.inference_mode(False), torch.no_grad(), _Cudnn():
        most = peak_bytes(run, beside_on_cpu if device.type == "cpu" else None)
    return DecoderMemory(stream.state_bytes, most - stream.state_bytes)


def twin(tree: nn.Module, dtype: torch.dtype, seen: dict[nn.Module, Any] | None = None) -> Any:
    """Copy modules without their weights; the tree stays unchanged."""
    seen = {} if seen is None else seen
    if tree in seen:
        return seen[tree]
    clone = seen[tree] = copy.copy(tree)
    for kind in ("_parameters", "_buffers"):
        own: Mapping[str, Tensor | None] = getattr(tree, kind)
        setattr(clone, kind, {name: _shape_of(one, dtype) for name, one in own.items()})
    clone._modules = {
        name: None if one is None else twin(one, dtype, seen) for name, one in tree._modules.items()
    }
    if hasattr(clone, ATTENTION):
        setattr(clone, ATTENTION, _attention)
    return clone


def _shape_of(value: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if value is None:
        return None
    blank = torch.empty(value.shape, dtype=dtype, device=META)
    return nn.Parameter(blank, requires_grad=False) if isinstance(value, nn.Parameter) else blank


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Allocates what fused kernels do: copies of their inputs (b, c, h, w), and the output."""
    copies = [tensor.clone(memory_format=torch.contiguous_format) for tensor in (q, k, v)]
    return torch.empty_like(copies[0])


def beside_on_cpu(func: Any, args: Sequence[Any], output: Any) -> int:
    """Bytes of a convolution on the processor beside its output.

    oneDNN copies input, weights and output into layouts of blocked channels. torch's own kernel
    unfolds the input.
    """
    if func is not CONVOLUTION:
        return 0
    x, weight = args[:2]
    backend = torch._C._select_conv_backend(_alike(x), _alike(weight), None, *args[3:])
    if backend not in ONE_DNN:
        places = output.nbytes // len(weight)
        return int(places * weight[0].numel()) if weight[0, 0].numel() > 1 else 0
    into, out = (BLOCK * -(-tensor.shape[1] // BLOCK) / tensor.shape[1] for tensor in (x, output))
    of_input = into * x.nbytes if x.shape[1] >= BLOCK else 0  # a few channels are read as they lie
    copies = of_input + into * out * weight.nbytes
    return int(out * output.nbytes + max(0, copies - output.nbytes))


def _alike(meta: Tensor) -> Tensor:
    """A tensor of that shape on the processor, without memory."""
    return torch.empty(1, dtype=meta.dtype).expand(meta.shape)


class _Cudnn(TorchFunctionMode):
    """Gives a shape function to a convolution that hosts call by its kernel's name."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func is not torch.cudnn_convolution:
            return func(*args, **(kwargs or {}))
        x, weight, padding, stride, dilation, groups = args
        none = [0] * len(stride)
        return torch.convolution(x, weight, None, stride, padding, dilation, False, none, groups)
