"""Whether a MODEL can go on with a shot that another one may have made."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ...attention.ann.choice import BY_BUCKETS, index_unavailable_reason
from ...attention.kernels.choice import TRITON, kernel_unavailable_reason
from ...attention.sparse.thresholds import apply_measurements
from ...attention.temp_cache.policy import TempCache
from ...errors import BadInput
from ...samplers.denoiser import Denoiser
from ...samplers.settings import RolloutSettings


def check_compatible(settings: RolloutSettings, channels: int | None, engine: Denoiser) -> None:
    """Refuse (BadInput) a model of another shape than the shot with these `settings` was made by,
    and a device that cannot store its KV cache or lacks what its attention needs.

    `channels` are those of the shot's latents, None where it has none yet.
    """
    config, prompts = engine.config, settings.prompts.negative.shape[-1]
    if prompts != config.text_dim:
        raise BadInput(
            f"The shot's prompts are {prompts} wide and the model takes {config.text_dim}; connect "
            "a model of the family that made it."
        )
    if channels not in (None, config.out_channels):
        raise BadInput(
            f"The shot has {channels} latent channels and the model {config.out_channels}; connect "
            "a model of the family that made it."
        )
    picture = 0 if settings.reference is None else settings.reference.channels.shape[1]
    takes = config.in_channels - config.out_channels
    if picture != takes:
        made, family = ("from", "image-to-video") if picture else ("without", "text-to-video")
        raise BadInput(
            f"The shot was made {made} a picture ({picture} channels beside the noise) and the "
            f"model takes {takes}; connect the {family} model that made it, or one of its family."
        )
    reason = settings.storage.unsupported_reason(engine.device)
    if reason is not None:
        raise BadInput(
            f"The shot's KV cache cannot be stored here as it was: {reason}; go on where it was "
            "made, or make it anew with another storage in KV Cache Settings."
        )
    for what, name, reason in _needed(settings, engine.device):
        if reason is not None:
            raise BadInput(
                f"The shot's {what} {name} cannot be used here: {reason}; install it, go on where "
                "the shot was made, or make it anew with `auto` in ANN-Sparse Attention."
            )


def _needed(
    settings: RolloutSettings, device: torch.device
) -> Iterator[tuple[str, str, str | None]]:
    """What the shot's attention asks for by name, and why that cannot be used, or None."""
    cache, self_sparsity = (
        settings.cache,
        apply_measurements(settings.sparsity, device).self_sparsity,
    )
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
