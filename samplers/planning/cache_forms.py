"""The forms of a model's KV cache, what a rollout takes with each, and which cards hold that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from ...attention.storage.dense import DENSE, Storage
from ...attention.storage.packed import Packed
from ...attention.storage.quantize import INT4, INT8
from ...model.config import PATCH, DiTConfig
from ...model.families.memory import COMPUTE, FULL_LENGTH, MemoryPlan
from ...model.families.recognise import Recognition
from ...model.image_embedding import CLIP_DIM
from ...model.preset_cache import preset_cache
from ...model.shape_memo import ShapeMemo
from ...units import byte_size
from ..conditioning.prompts import PromptTimeline, TimedPrompt
from ..guidance import Guidance, cfg
from ..history.plan import planned_bytes
from ..schedule.options import preset_schedule
from ..settings import RolloutSettings
from .memory import rollout_memory

CARDS_GB = (8, 12, 16, 24)
RESERVED_BYTES = 2**29
"""What a card's driver, display and allocator take, about."""
CUDA = torch.device("cuda")
AS_COMPUTED, ROTATED, IN_INT8, IN_INT4 = "as computed", "keys rotated in every pass", "int8", "int4"


@dataclass(frozen=True, slots=True)
class CacheForm:
    """One way to keep the KV cache, and what the model takes with it beside the card's reserve.

    A pair takes turns on the card, so the weights are those of one file.
    `total_bytes` has all weights on the card, `least_bytes` only the largest one at a time.
    """

    name: str
    kv_bytes: int
    total_bytes: int
    least_bytes: int

    def cards(self) -> tuple[list[int], list[int]]:
        """The cards (GB) that hold all of it, and those that hold it with weights offloaded."""
        whole = [gb for gb in CARDS_GB if self.total_bytes + RESERVED_BYTES <= gb * 2**30]
        least = [gb for gb in CARDS_GB if self.least_bytes + RESERVED_BYTES <= gb * 2**30]
        return whole, [gb for gb in least if gb not in whole]


@dataclass(frozen=True, slots=True)
class CacheForms:
    """The forms at the size of `plan`, with the family's schedule, window and guidance.

    `dtype` and `device` are those of the computation. The forms share most operations, so `shapes`
    saves a part of each further rehearsal.
    """

    model: Recognition
    plan: MemoryPlan
    dtype: torch.dtype = COMPUTE
    device: torch.device = CUDA
    shapes: ShapeMemo = field(default_factory=ShapeMemo, repr=False)

    def all(self) -> list[CacheForm]:
        """Every form, from the largest to the smallest."""
        return [self.of(name) for name in self.shots()]

    def of(self, name: str) -> CacheForm:
        """What a rollout takes with one form; rehearses a pass in a fraction of a second."""
        memory = rollout_memory(
            self.shots()[name], self._config, self.dtype, self.device, shapes=self.shapes
        )
        kv_bytes = self.plan.histories * memory.kv_bytes
        beside = kv_bytes + memory.working_bytes + self.plan.vae_bytes
        return CacheForm(
            name,
            kv_bytes,
            beside + self.plan.weight_bytes,
            beside + self.plan.largest_weight_bytes,
        )

    def kv_bytes(self, name: str) -> int:
        """The KV cache of one form, known at once; of both models of a pair."""
        one = planned_bytes(self.shots()[name], self._config, self.dtype)
        return self.plan.histories * one

    def shots(self) -> Mapping[str, RolloutSettings]:
        """The settings of a rollout by the form's name."""
        settings = self._settings()
        newest = settings.schedule.chunk_frames
        choices: Mapping[str, tuple[Storage, bool]] = {
            AS_COMPUTED: (DENSE, True),
            ROTATED: (DENSE, False),
            IN_INT8: (Packed(INT8, newest), False),
            IN_INT4: (Packed(INT4, newest), False),
        }
        return {
            name: replace(settings, storage=storage, hold_rotated=hold)
            for name, (storage, hold) in choices.items()
        }

    @property
    def _config(self) -> DiTConfig:
        """The model's sizes without a reference picture, which is little.

        One that reads the picture in place of a prompt counts it as a prompt.
        """
        config = self.model.config
        return replace(
            config, in_channels=config.out_channels, text_dim=config.text_dim or CLIP_DIM
        )

    def _settings(self) -> RolloutSettings:
        preset, plan = self.model.family.preset, self.plan
        text = torch.zeros(preset.text_len, self._config.text_dim)
        token_side = math.isqrt(plan.width * plan.height // plan.frame_tokens)  # pixels
        rows, columns = (side // token_side * PATCH for side in (plan.height, plan.width))
        scale = preset.guidance_scale
        return RolloutSettings(
            PromptTimeline((TimedPrompt(0, text),), text),
            rows,
            columns,
            preset_schedule(preset),
            length=None if preset.window_frames else FULL_LENGTH,
            guidance=Guidance() if scale == 1 else cfg(scale),
            cache=preset_cache(preset),
        )


def describe_form(name: str, form: CacheForm) -> str:
    """One line: the picture's size, the form, what it takes and the cards that hold it."""
    whole, offloading = form.cards()
    fits = [_cards(whole)] if whole else []
    fits += [f"{_cards(offloading)} with weights offloaded"] if offloading else []
    return (
        f"{name}, {form.name}: KV cache {byte_size(form.kv_bytes)}, in all "
        f"{byte_size(form.total_bytes)}; fits {' and '.join(fits) or 'none of these cards'}"
    )


def _cards(sizes: Sequence[int]) -> str:
    return f"{', '.join(map(str, sizes))} GB"
