"""Identifies a MODEL by its weights, every weight patch (LoRA) on them, and how it multiplies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...model.fingerprint import fingerprint, stored_parts
from .. import host
from .model_facts import product_dtype
from .pair import second_model
from .patches import live_code
from .vace import vace_of

SAMPLED_VALUES = 64  # of each tensor of a patch
MAX_NAMES = 5


def identity(model: Any, products: torch.dtype | None = None) -> tuple[str, str | None]:
    """The model's name in chunk addresses, and why that name ends with the session, if it does.

    The name of a pair tells both models and the passes of the second. `products` is the dtype in
    which layers multiply, None for that of this machine.
    """
    name, reason = _with_module(model, products)
    second = second_model(model)
    if second is None:
        return name, reason
    second_name, second_reason = _with_module(second.model, products)
    both = hashlib.sha256(f"{name} {second.passes!r} {second_name}".encode())
    return both.hexdigest()[:32], reason or second_reason


def _with_module(model: Any, products: torch.dtype | None) -> tuple[str, str | None]:
    """The name of one MODEL and of the VACE module that it may carry, and the reason."""
    name, reason = _identity(model, products or product_dtype(model))
    vace = vace_of(model)
    if vace is None:
        return name, reason
    return hashlib.sha256(f"{name} vace {vace.digest}".encode()).hexdigest()[:32], reason


def _identity(model: Any, products: torch.dtype) -> tuple[str, str | None]:
    """The name of one MODEL, and why it ends with the session, if it does.

    Patches are identified by samples of their tensors and their strengths; the host's ids of them
    are random.
    """
    stacks = host.weights_and_patches(model)
    unpatched = {name: stack[0] for name, stack in stacks.items()}
    base = fingerprint(unpatched, host.loaded_dtypes(model.model))
    suffix = "" if products is torch.float32 else f" {products}"
    chosen = model.object_patches.get(host.COMPUTE_DTYPE)
    suffix += "" if chosen is None else f" in {chosen}"
    digest = hashlib.sha256(f"{base}{suffix}".encode())
    with host.without_injections(model):
        unknown = live_code(model)
    for name, (_, *patches) in sorted(stacks.items()):
        for atom in _atoms(patches):
            if isinstance(atom, Tensor):
                digest.update(f"{name} {tuple(atom.shape)} {atom.dtype};".encode() + _sample(atom))
            elif atom is None or isinstance(atom, (bool, int, float, str)):
                digest.update(f"{name} {atom!r};".encode())
            elif host.is_own_function(atom):
                digest.update(f"{name} {atom.__module__} {atom.__qualname__};".encode())
            else:
                unknown.append((type(atom).__name__, atom))
    if not unknown:
        return digest.hexdigest()[:32], None
    digest.update(host.session_token(model, [part for _, part in unknown]).encode())
    names = sorted({name for name, _ in unknown})
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    carried = ", ".join(names[:MAX_NAMES]) + more
    reason = f"the model carries {carried}, which cannot be recognised after a restart"
    return digest.hexdigest()[:32], reason


def _atoms(value: Any) -> Iterator[Any]:
    """The parts of a patch; the host's LoRA objects keep their tensors in `weights`."""
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _atoms(part)
    elif (parts := host.method_parts(value)) is not None:
        yield from _atoms(parts)
    elif isinstance(value, Tensor):
        yield from stored_parts(value)
    elif hasattr(value, "weights"):
        yield type(value).__name__
        yield from _atoms(value.weights)
    else:
        yield value


def _sample(tensor: Tensor) -> bytes:
    flat = tensor.detach().reshape(-1)
    picked = flat[:: max(1, len(flat) // SAMPLED_VALUES)][:SAMPLED_VALUES]
    return picked.to("cpu", torch.float32).contiguous().numpy().tobytes()
