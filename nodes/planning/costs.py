"""What a rollout costs, in words: memory here and elsewhere, what storage and budget made of it,
and what guidance adds.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from ...attention.storage.dense import DENSE
from ...attention.storage.placement import ON_DEVICE, InMainMemory, OnDisk
from ...attention.temp_cache.policy import TempCache
from ...samplers.denoiser import Denoiser
from ...samplers.history.plan import planned_bytes, planned_offloaded
from ...samplers.history.settings import CacheSettings
from ...samplers.planning.cost import cost, describe_branches, peak_evaluations, without_guidance
from ...samplers.settings import RolloutSettings
from ...units import byte_size
from .. import host


def cost_line(settings: RolloutSettings, model: Denoiser) -> str:
    """Memory, and what guidance adds to a chunk that has a history."""
    kv_bytes = planned_bytes(settings, model.config, model.dtype)
    memory = f"KV cache {byte_size(kv_bytes)}{_elsewhere(settings, model)}"
    saved, added = _saving(settings, model), _added(settings, model)
    if added is None:
        return f"{memory}{saved}."
    more, times = added
    return f"{memory}, {more} of it for guidance{saved}; {times}."


def guidance_line(settings: RolloutSettings, model: Denoiser) -> str:
    """What guidance is evaluated, and what that is more than the prompt alone."""
    said = describe_branches(settings.at(settings.origin).guidance)
    added = _added(settings, model)
    if added is None:
        return f"{said} In this shot as much as without guidance."
    more, times = added
    return f"{said} In this shot {times}, with those that fill the KV cache, and {more} more of it."


def choice_line(asked: CacheSettings, settings: RolloutSettings) -> str:
    """What a byte budget made of the history asked for; nothing where there is no budget."""
    if asked.budget_bytes is None:
        return ""
    budget, window = byte_size(asked.budget_bytes), settings.cache.limit
    if window is None:
        return f" The full history fits in {budget}."
    fits = window == asked.policy.limit
    if isinstance(settings.cache, TempCache):
        entries = f"entries for {window} latent frames"
        return f" The {entries} fit in {budget}." if fits else f" {budget} allow {entries}."
    if fits:
        return f" The window of {window} latent frames fits in {budget}."
    return f" {budget} allow a window of {window} latent frames."


def shortage_elsewhere(settings: RolloutSettings, model: Denoiser) -> str | None:
    """Why what lies in main memory or on disk cannot fit, or None."""
    needed = planned_offloaded(settings, model.config, model.dtype)
    match settings.placement:
        case InMainMemory():
            free, where = host.free_memory_bytes(), "in main memory"
        case OnDisk(folder):
            free, where = shutil.disk_usage(_existing(folder)).free, f"in {folder}"
        case _:
            return None
    if needed <= free:
        return None
    return (
        f"The KV cache takes {byte_size(needed)} {where} and {byte_size(free)} are free; lower "
        "window_frames, width or height, choose int8 or int4 storage, or another placement."
    )


def _added(settings: RolloutSettings, model: Denoiser) -> tuple[str, str] | None:
    """What guidance takes more than the prompt alone: of the KV cache, and of evaluations."""
    kind = model.config, model.dtype
    made, plain = cost(settings, *kind), cost(without_guidance(settings), *kind)
    most = peak_evaluations(settings, *kind)
    if made == plain and most == plain.evaluations:
        return None
    later = f", up to {most} where guidance or prompt change" if most > made.evaluations else ""
    times = f"{made.evaluations} model evaluations a chunk instead of {plain.evaluations}{later}"
    return byte_size(made.kv_bytes - plain.kv_bytes), times


def _elsewhere(settings: RolloutSettings, model: Denoiser) -> str:
    far = planned_offloaded(settings, model.config, model.dtype)
    if not far:
        return ""
    where = "on disk" if isinstance(settings.placement, OnDisk) else "in main memory"
    return f" and {byte_size(far)} {where}"


def _saving(settings: RolloutSettings, model: Denoiser) -> str:
    """All that coded storage saves, the frames that stay as computed included."""
    if settings.storage == DENSE:
        return ""
    config, dtype = model.config, model.dtype
    coded = replace(settings, placement=ON_DEVICE)
    dense = planned_bytes(replace(coded, storage=DENSE), config, dtype)
    share = planned_bytes(coded, config, dtype) / dense
    return f", {share:.0%} of the {byte_size(dense)} that it takes as computed"


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())
