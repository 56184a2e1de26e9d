"""The branches of a rollout while it is hot: the claimed module tree, the KV cache they see the
past through, their projected prompts, and the one evaluation that serves them all.

Denoising only reads the cache; `commit` alone writes to it, and every branch stores the same
composed latents.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..attention.kv_cache import CacheShape, KVCache
from ..errors import NotFinite
from ..model.config import PATCH, DiTConfig
from ..model.dit import Prediction, TextKV, predict, project_text
from .denoiser import Denoiser
from .noise import frame_noise
from .prompts import TimedPrompt
from .settings import RolloutSettings


def cache_shape(settings: RolloutSettings, config: DiTConfig, dtype: torch.dtype) -> CacheShape:
    """The shape of this rollout's KV cache."""
    return CacheShape(
        layers=config.num_layers,
        batch=len(settings.guidance.branches),
        heads=config.num_heads,
        head_dim=config.head_dim,
        rows=settings.rows // PATCH,
        columns=settings.columns // PATCH,
        chunk_frames=settings.active_frames,
        dtype=dtype,
        hold_rotated=settings.hold_rotated,
    )


class Branches:
    """Evaluates the model for all branches; `settings` and `prompt` are those in force."""

    def __init__(self, settings: RolloutSettings, model: Denoiser) -> None:
        self.settings, self.model = settings, model
        self.prompt = settings.prompts.entries[0]
        self.evals = 0
        self._tree: Any = None
        self._cache: KVCache | None = None
        self._text: TextKV | None = None

    @property
    def cache(self) -> KVCache:
        """The history; it exists from the first claim on."""
        assert self._cache is not None
        return self._cache

    def claim(self) -> None:
        """Claim the model; the first time with the KV cache's bytes, which are allocated then."""
        if self._cache is not None:
            self._tree = self.model.claim(0)
            return
        s = self.settings
        shape = cache_shape(s, self.model.config, self.model.dtype)
        self._tree = self.model.claim(shape.planned_bytes(s.cache, s.length))
        self._cache = KVCache(shape, s.cache, s.length, self.model.device)

    def use(self, settings: RolloutSettings, prompt: TimedPrompt) -> None:
        """Put `settings` in force, and `prompt`, which is projected if it is another one."""
        self.settings = settings
        if self._text is None or prompt is not self.prompt:
            self._text, self.prompt = self._projected(prompt.embedding), prompt

    def velocity(self, frames: range, x: Tensor, levels: tuple[float, ...]) -> Tensor:
        """The composed velocity of the active latent `frames` x (f, c, h, w) at `levels`, in
        float32.
        """
        predictions = self._evaluate(frames, x.to(self.model.dtype), levels, keep=False).velocity
        return self.settings.guidance.combine(predictions.float())

    def commit(self, first: int, clean: Tensor) -> None:
        """Pass finished latents (f, c, h, w) once more, at the context noise level, and store them.

        Every branch stores the same composed latents: guidance and solver never see this pass.
        """
        level, clean = self.settings.context_noise, clean.to(self.model.dtype)
        frames = range(first, first + len(clean))
        if level > 0:
            noise = self.noise(frames, 0, "context")
            clean = (1 - level) * clean + level * noise.to(clean.dtype)
        prediction = self._evaluate(frames, clean, (level,) * len(clean), keep=True)
        self.cache.commit(prediction.keys_values)

    def check_finite(self, latents: Tensor, first: int) -> None:
        """Raise NotFinite, naming the layer, unless the latents from frame `first` are finite."""
        if torch.isfinite(latents).all():
            return
        frames = range(first, first + len(latents))
        noise = self.noise(frames, 0, "start").to(self.model.dtype)
        layers = self._evaluate(frames, noise, (1.0,) * len(latents), keep=True).keys_values
        bad = (
            f"layer {i}" for i, kv in enumerate(layers) if not all(x.isfinite().all() for x in kv)
        )
        raise NotFinite(
            f"the model produced values that are not finite at latent frame {first}, first seen in "
            f"{next(bad, 'its output')}, in {self.model.dtype}; earlier chunks are kept: "
            "try float32 or bfloat16 weights, or a lower guidance scale."
        )

    def nothing(self) -> Tensor:
        """No active latent frames."""
        s, c = self.settings, self.model.config.out_channels
        return torch.empty(0, c, s.rows, s.columns, device=self.model.device)

    def noise(self, frames: range, step: int, purpose: str) -> Tensor:
        """Addressed noise (f, c, h, w) of latent `frames`, on the model's device."""
        s = self.settings
        shape = (self.model.config.out_channels, s.rows, s.columns)
        return frame_noise(s.seed, frames, step, purpose, shape).to(self.model.device)

    @torch.no_grad()
    def _projected(self, positive: Tensor) -> TextKV:
        texts = {"positive": positive, "negative": self.settings.prompts.negative}
        rows = [texts[branch.prompt] for branch in self.settings.guidance.branches]
        context = torch.stack(rows).unsqueeze(1)  # (b, 1, l, c)
        return project_text(self._tree, context.to(self.model.device, self.model.dtype))

    @torch.no_grad()
    def _evaluate(
        self, frames: range, x: Tensor, levels: tuple[float, ...], *, keep: bool
    ) -> Prediction:
        self.model.check()
        assert self._text is not None
        branches = len(self.settings.guidance.branches)
        t = 1000 * torch.tensor(levels, dtype=torch.float64).expand(branches, -1)
        attention = self.cache.attention(len(frames), self.settings.visible(frames))
        self.evals += branches
        return predict(
            self._tree,
            x.expand(branches, -1, -1, -1, -1),
            t,
            self._text,
            attention,
            keep=keep,
            cast=self.model.cast,
        )
