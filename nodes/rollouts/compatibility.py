"""Check that a MODEL can continue a shot that another model may have made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ...attention.ann.choice import BY_BUCKETS, index_unavailable_reason
from ...attention.kernels.choice import TRITON, kernel_unavailable_reason
from ...attention.sparse.thresholds import apply_measurements
from ...attention.temp_cache.policy import TempCache
from ...errors import BadInput, Unsupported
from ...samplers.denoiser import Denoiser
from ...samplers.history.state_reading import check_state
from ...samplers.rules.coarse_past import check_coarse_model
from ...samplers.settings import RolloutSettings
from ..models.identity import identity
from ..models.model_facts import product_dtype


def check_compatible(settings: RolloutSettings, channels: int | None, engine: Denoiser) -> None:
    """Raise BadInput if the model has another shape than the shot's model, or the device cannot
    store the shot's KV cache or run its attention.

    `channels` counts the latent channels of the shot, None if it has no chunks yet.
    """
    config, prompts = engine.config, settings.prompts.negative.shape[-1]
    if prompts != config.text_dim:
        raise BadInput(
            f"The shot's prompts are {prompts} wide, but the model takes {config.text_dim}; "
            "connect a model of the family that made the shot."
        )
    if channels not in (None, config.out_channels):
        raise BadInput(
            f"The shot has {channels} latent channels, but the model has {config.out_channels}; "
            "connect a model of the family that made the shot."
        )
    picture = 0 if settings.reference is None else settings.reference.channels.shape[1]
    takes = config.in_channels - config.out_channels
    if picture != takes:
        how, family = ("from", "image-to-video") if picture else ("without", "text-to-video")
        raise BadInput(
            f"The shot was made {how} a picture ({picture} extra channels), but the model takes "
            f"{takes}; connect the {family} model that made it, or a model of its family."
        )
    _check_past(settings, engine)
    reason = settings.storage.unsupported_reason(engine.device)
    if reason is not None:
        raise BadInput(
            f"The shot's KV cache cannot be stored on this device: {reason}; continue it where it "
            "was made, or make a new shot with another storage in KV Cache Settings."
        )
    for what, name, reason in _requirements(settings, engine.device):
        if reason is not None:
            raise BadInput(
                f"The shot's {what} {name} cannot be used here: {reason}; install it, continue the "
                "shot where it was made, or make a new one with `auto` in ANN-Sparse Attention."
            )


def _check_past(settings: RolloutSettings, engine: Denoiser) -> None:
    """Refuse a model without the layers that read the shot's KV cache."""
    try:
        check_state(settings, engine.config)
        check_coarse_model(settings.cache, engine.config)
    except Unsupported as error:
        raise BadInput(
            f"{error.problem}; connect a model of the family that made the shot."
        ) from error


def describe_other_model(model: Any, saved: str) -> str:
    """What differs between a MODEL and the one of a file, which has the identity `saved`."""
    here = product_dtype(model)
    there = torch.float32 if here is torch.bfloat16 else torch.bfloat16
    if identity(model, there)[0] == saved:
        return (
            f"The file was made with this model and products in {_format(there)}, and this machine "
            f"multiplies in {_format(here)}; the loaded chunks stay as they are, and new ones "
            "round differently."
        )
    return (
        "The file was made with another model or LoRA; the loaded chunks stay as they are, and new "
        "ones are made with this model."
    )


def _format(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _requirements(
    settings: RolloutSettings, device: torch.device
) -> Iterator[tuple[str, str, str | None]]:
    """List what the shot's attention needs by name, each with the reason why it is unusable."""
    cache = settings.cache
    self_sparsity = apply_measurements(settings.sparsity, device).self_sparsity
    if isinstance(cache, TempCache):
        yield "index", cache.effective_index, index_unavailable_reason(cache.effective_index)
        if cache.effective_index in BY_BUCKETS and cache.kernel == TRITON:
            yield "kernel", TRITON, kernel_unavailable_reason(TRITON, device)
    if self_sparsity is not None:
        yield (
            "kernel",
            self_sparsity.kernel,
            kernel_unavailable_reason(self_sparsity.kernel, device),
        )
