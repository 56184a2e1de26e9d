"""Reads a host's Wan decoder as our layers, if every module in it is of a kind that is known."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from .wan_layers import Attention, Block, Causal, Head, Layer, Norm, Residual, Upsample

DECODER = {"conv1", "middle", "upsamples", "head"}


def decoder_layers(decoder: Any) -> tuple[Layer, ...] | None:
    """The layers of a decoder, or None if its structure is another one."""
    if _parts(decoder) != DECODER or not _is_causal(decoder.conv1):
        return None
    layers = _read_all([*decoder.middle, *decoder.upsamples])
    if layers is None or not _are(decoder.head, _is_norm, _is_silu, _is_causal):
        return None
    norm, _, convolution = decoder.head
    return (Causal(decoder.conv1), *layers, Head(Norm(norm), Causal(convolution)))


def _read_all(modules: Iterable[Any]) -> tuple[Layer, ...] | None:
    layers = [_read(module) for module in modules]
    known = tuple(layer for layer in layers if layer is not None)
    return known if len(known) == len(layers) else None


def _read(module: Any) -> Layer | None:
    for parts, read in READERS:
        if _parts(module) == parts:
            return read(module)
    return None


def _residual(module: Any) -> Layer | None:
    inner, shortcut = module.residual, module.shortcut
    kinds = _is_norm, _is_silu, _is_causal, _is_norm, _is_silu, _is_dropout, _is_causal
    if not _are(inner, *kinds) or not (isinstance(shortcut, nn.Identity) or _is_causal(shortcut)):
        return None
    norms, convolutions = (Norm(inner[0]), Norm(inner[3])), (Causal(inner[2]), Causal(inner[6]))
    return Residual(norms, convolutions, shortcut)


def _attention(module: Any) -> Layer | None:
    known = _is_norm(module.norm) and hasattr(module, "optimized_attention")
    return Attention(Norm(module.norm), module) if known else None


def _upsample_in_space(module: Any) -> Layer | None:
    return Upsample(module, None) if getattr(module, "mode", "") == "upsample2d" else None


def _upsample(module: Any) -> Layer | None:
    known = getattr(module, "mode", "") == "upsample3d" and _is_causal(module.time_conv)
    return Upsample(module, Causal(module.time_conv)) if known else None


def _block(module: Any) -> Layer | None:
    layers, shortcut = _read_all(module.upsamples), module.avg_shortcut
    repeats = all(hasattr(shortcut, name) for name in ("factor_t", "factor_s", "repeats"))
    return Block(layers, shortcut) if layers and (shortcut is None or repeats) else None


READERS: Sequence[tuple[set[str], Callable[[Any], Layer | None]]] = (
    ({"residual", "shortcut"}, _residual),
    ({"norm", "to_qkv", "proj"}, _attention),
    ({"resample"}, _upsample_in_space),
    ({"resample", "time_conv"}, _upsample),
    ({"upsamples", "avg_shortcut"}, _block),
    ({"upsamples"}, _block),
)
"""What reads a module with these parts."""


def _parts(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}


def _are(modules: Iterable[Any], *kinds: Callable[[Any], bool]) -> bool:
    """Whether there is one module of each kind, in this order."""
    parts = [*modules]
    return len(parts) == len(kinds) and all(
        is_kind(part) for is_kind, part in zip(kinds, parts, strict=True)
    )


def _is_causal(module: Any) -> bool:
    """Whether a module convolves frames and those before them, which it is handed."""
    convolves = len(getattr(module, "kernel_size", ())) == 3 and hasattr(module, "_padding")
    return convolves and "cache_x" in inspect.signature(module.forward).parameters


def _is_norm(module: Any) -> bool:
    """Whether a module norms the channels on axis 1 and adds nothing."""
    gamma = getattr(module, "gamma", None)
    if gamma is None or not getattr(module, "channel_first", False):
        return False
    return module.bias is None and module.scale == gamma.numel() ** 0.5


def _is_silu(module: Any) -> bool:
    return isinstance(module, nn.SiLU)


def _is_dropout(module: Any) -> bool:
    return isinstance(module, nn.Dropout)
