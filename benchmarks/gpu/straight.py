"""Self-Forcing's published loop on the same weights: what a user would pick instead of us."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...model.config import PATCH
from ...model.families.presets import FEW_STEP
from ...samplers.schedule.levels import few_step_ladder
from .._shared.device import clock, peak_in_work
from .._shared.measures import Measurement
from ..speed.plain_model import PlainCache, PlainModel
from .cases import CHUNK, WINDOW
from .shot import DECODE, FIRST, FRAMES, PEAK, TIMED, GpuBench, frames_of_chunk

LADDER = few_step_ladder((1000.0, 750.0, 500.0, 250.0), FEW_STEP.shift)


@dataclass(frozen=True, slots=True)
class StraightCase:
    """Chunks that the published loop makes, with all of `history` latent frames before them."""

    history: int = WINDOW
    budget_gb: None = None


STRAIGHT_CASES = {"Self-Forcing's loop, window 21": StraightCase()}


@dataclass(frozen=True, slots=True)
class StraightBench:
    """The published loop over the weights and on the device of `ours`."""

    ours: GpuBench

    @torch.inference_mode()
    def measure(self, case: StraightCase) -> Measurement:
        """Seconds of a case's chunks, and its peak of memory; the loop plans nothing."""
        device = self.ours.device
        model, now = PlainModel(self.ours.model.tree, self.ours.config), clock(device)
        peak = peak_in_work(lambda: self._chunk(model, self._cache(case), case.history), device)
        empty, began = self._cache(case), now()
        self._chunk(model, empty, 0)
        figures = {PEAK: float(peak), FIRST: now() - began, FRAMES: frames_of_chunk()}
        del empty
        cache, seconds, chunks = self._cache(case), list[float](), list[Tensor]()
        for _ in range(TIMED + 1):
            began = now()
            chunks.append(self._chunk(model, cache, case.history))
            seconds.append(now() - began)
        figures[DECODE] = self.ours.decoding_s(chunks)
        return Measurement(figures, np.array([seconds[1:]]))

    def _cache(self, case: StraightCase) -> PlainCache:
        """A cache whose keys and values of the history are random."""
        rows, columns = self.ours.model.clip.shape[-2:]
        tokens = (case.history + CHUNK) * rows * columns // PATCH**2
        like = self.ours.model.clip.to(self.ours.model.dtype)
        cache = PlainCache.of(self.ours.config, tokens, like)
        for tensor in (*cache.keys, *cache.values):
            tensor.normal_()
        return cache

    def _chunk(self, model: PlainModel, cache: PlainCache, first: int) -> Tensor:
        """Latents (f, c, h, w) of the chunk from latent frame `first` on."""
        dtype, words = self.ours.model.dtype, self.ours.words
        context = words.to(self.ours.device, dtype)[None]
        x = torch.randn_like(self.ours.model.clip[:CHUNK], dtype=dtype).transpose(0, 1)[None]
        for level, after in zip(LADDER, LADDER[1:], strict=False):
            t = torch.full((CHUNK,), 1000 * level, dtype=torch.float64, device=x.device)
            flow = model(x, t, context, cache, first)
            x = (x.double() - level * flow.double()).type_as(x)
            if after:
                x = (1 - after) * x + after * torch.randn_like(x)
        model(x, torch.zeros(CHUNK, device=x.device), context, cache, first)  # a clean cache
        return x[0].transpose(0, 1)
