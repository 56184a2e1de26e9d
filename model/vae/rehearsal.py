"""Measures the memory of streaming through a VAE: the stream runs over modules without weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...machine.rehearsed_device import simulate_device
from ..memory import META, peak_bytes
from .decoder_memory import DecoderMemory
from .memory_order import is_by_pixel
from .protocol import StreamingCoder
from .wan_layers import CHANNELS

ATTENTION = "optimized_attention"  # what the host chose for a block, by asking the device
CONVOLUTION = torch.ops.aten.convolution.default
CONVOLUTIONS = torch.conv2d, torch.conv3d
VIDEO_AXES = 5
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

    with torch.inference_mode(False), torch.no_grad(), simulate_device(device), _Kernels(device):
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
    _copies = [tensor.clone(memory_format=torch.contiguous_format) for tensor in (q, k, v)]
    return torch.empty_like(q)


def beside_on_cpu(func: Any, args: Sequence[Any], output: Any) -> int:
    """Bytes of a convolution on the processor beside its output.

    oneDNN copies weights into a layout of blocked channels, and input and output too unless the
    channels of a pixel lie together. Then torch copies the weights into that order first. torch's
    own kernel unfolds the input.
    """
    if func is not CONVOLUTION:
        return 0
    x, weight = args[:2]
    if _backend(args) not in ONE_DNN:
        return _unfolded(x, weight, output)
    into, out = (BLOCK * -(-tensor.shape[1] // BLOCK) / tensor.shape[1] for tensor in (x, output))
    of_weights = into * out * weight.nbytes
    if is_by_pixel(x, CHANNELS):
        return int(of_weights + (0 if is_by_pixel(weight, CHANNELS) else weight.nbytes))
    of_input = into * x.nbytes if x.shape[1] >= BLOCK else 0  # a few channels are read as they lie
    return int(out * output.nbytes + max(0, of_input + of_weights - output.nbytes))


def _unfolded(x: Tensor, weight: Tensor, output: Tensor) -> int:
    """Bytes that torch's own kernel takes: the input in torch's order, and its patches."""
    reordered = x.nbytes if x.ndim == VIDEO_AXES and is_by_pixel(x, CHANNELS) else 0
    places = output.nbytes // len(weight)
    patches = places * weight[0].numel() if weight[0, 0].numel() > 1 else 0
    return int(reordered + patches)


def _backend(args: Sequence[Any]) -> Any:
    """The kernels that convolve on the processor; `args` are those of CONVOLUTION."""
    x, weight, _bias, *how = args
    return torch._C._select_conv_backend(_alike(x), _alike(weight), None, *how)


def _alike(meta: Tensor) -> Tensor:
    """A tensor of that shape on the processor, without memory."""
    return torch.empty(1, dtype=meta.dtype).expand(meta.shape)


class _Kernels(TorchFunctionMode):
    """Makes the results of convolutions as kernels do: in the order of the input.

    Shape functions lose that order. Hosts call one kernel by its name, for which torch has no shape
    function.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._on_cpu = device.type == "cpu"

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.cudnn_convolution:
            x, weight, padding, stride, dilation, groups = args
            none = [0] * len(stride)
            how = stride, padding, dilation, False, none, groups
            return _in_order(torch.convolution(x, weight, None, *how), x)
        result = func(*args, **(kwargs or {}))
        if func not in CONVOLUTIONS or (self._on_cpu and _loses_order(*args)):
            return result
        return _in_order(result, args[0])


def _loses_order(
    x: Tensor, weight: Tensor, _bias: Tensor | None, stride: Any, padding: Any, *how: Any
) -> bool:
    """Whether the processor's kernel for such a convolution knows PyTorch's order alone."""
    dilation, groups = how
    backend = (stride, padding, dilation, False, [0] * len(stride), groups)
    return x.ndim == VIDEO_AXES and _backend((x, weight, None, *backend)) not in ONE_DNN


def _in_order(result: Tensor, x: Tensor) -> Tensor:
    """The result of a convolution of x (n, c, ...) in the order of x."""
    if is_by_pixel(result, CHANNELS) or not is_by_pixel(x, CHANNELS):
        return result
    count, channels, *sides = result.shape
    return result.view(count, *sides, channels).movedim(-1, CHANNELS)
