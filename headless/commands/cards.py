"""Which form of a model's KV cache fits which graphics card, as `longtake inspect` prints it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ...attention.storage.dense import DENSE, Storage
from ...attention.storage.packed import Packed
from ...attention.storage.quantize import INT4, INT8
from ...model.config import PATCH
from ...model.families.memory import COMPUTE, FULL_LENGTH, MemoryPlan, largest_weight_bytes
from ...model.families.recognise import Recognition
from ...model.preset_cache import preset_cache
from ...samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from ...samplers.guidance import Guidance, cfg
from ...samplers.planning.memory import RolloutMemory, rollout_memory
from ...samplers.schedule.options import preset_schedule
from ...samplers.settings import RolloutSettings
from ...units import byte_size

CARDS_GB = (8, 12, 16, 24)
RESERVED_BYTES = 2**29
"""What a card's driver, display and allocator take, about."""
CUDA = torch.device("cuda")


@dataclass(frozen=True, slots=True)
class CacheForm:
    """One way to keep the KV cache, and what the model takes with it beside the card's reserve.

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


def cache_forms(model: Recognition, plan: MemoryPlan) -> list[CacheForm]:
    """Every form at the size of `plan`, with the family's schedule, window and guidance."""
    settings, config = _settings(model, plan), model.config
    config = replace(config, in_channels=config.out_channels)  # a reference picture is little
    newest = settings.schedule.chunk_frames
    choices: tuple[tuple[str, Storage, bool], ...] = (
        ("as computed", DENSE, True),
        ("keys rotated in every pass", DENSE, False),
        ("int8", Packed(INT8, newest), False),
        ("int4", Packed(INT4, newest), False),
    )
    forms = []
    for name, storage, hold in choices:
        shot = replace(settings, storage=storage, hold_rotated=hold)
        memory = rollout_memory(shot, config, COMPUTE, CUDA)
        forms.append(_form(name, memory, model, plan))
    return forms


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


def _form(name: str, memory: RolloutMemory, model: Recognition, plan: MemoryPlan) -> CacheForm:
    beside = memory.total_bytes + plan.vae_bytes
    return CacheForm(
        name,
        memory.kv_bytes,
        beside + plan.weight_bytes,
        beside + largest_weight_bytes(model),
    )


def _settings(model: Recognition, plan: MemoryPlan) -> RolloutSettings:
    preset = model.family.preset
    text = torch.zeros(preset.text_len, model.config.text_dim)
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
