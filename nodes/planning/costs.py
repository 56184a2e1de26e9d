"""Sentences about what a rollout costs: the KV cache, guidance and a memory budget."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from ...attention.storage.dense import DENSE
from ...attention.storage.placement import ON_DEVICE, InMainMemory, OnDisk
from ...attention.temp_cache.policy import TempCache
from ...samplers.history.plan import bytes_of, planned_bytes
from ...samplers.history.settings import CacheSettings
from ...samplers.planning.cost import cost, describe_branches, peak_evaluations, without_guidance
from ...samplers.settings import RolloutSettings
from ...units import byte_size, count_of
from .. import host
from ..advice import less_memory
from .footprint import RolloutFootprint


def describe_cache(footprint: RolloutFootprint) -> str:
    """The size of the KV cache on the device and elsewhere, and what its storage saves."""
    settings = footprint.settings
    on_device = footprint.histories * bytes_of(footprint.cache_plans, settings.length)
    parts = [f"KV cache {byte_size(on_device)}"]
    if footprint.histories > 1:
        parts.append(f"(of {footprint.histories} models)")
    if footprint.offloaded_bytes:
        where = "on disk" if isinstance(settings.placement, OnDisk) else "in main memory"
        parts.append(f"and {byte_size(footprint.offloaded_bytes)} {where}")
    if settings.storage != DENSE:
        parts.append(_describe_saving(footprint))
    return " ".join(parts)


def describe_lean_keys(footprint: RolloutFootprint) -> str:
    """What a cache saves that keeps no rotated copy of its keys, a sentence."""
    full = RolloutFootprint(replace(footprint.settings, hold_rotated=True), footprint.model)
    return (
        "To fit, keys are rotated in every pass and not kept rotated: "
        f"{byte_size(full.copied_bytes)} less KV cache, a little slower, the same video."
    )


def describe_guidance_cost(footprint: RolloutFootprint) -> str | None:
    """What guidance adds to the prompt alone, one sentence; None where that is nothing."""
    settings, model = footprint.settings, footprint.model
    kind = model.config, model.dtype, model.histories
    unguided = RolloutFootprint(without_guidance(settings), model)
    shots = settings, unguided.settings
    guided, plain = (cost(shot, *kind).evaluations for shot in shots)
    most, plain_most = (peak_evaluations(shot, *kind) for shot in shots)
    added = footprint.kv_bytes - unguided.kv_bytes  # also for a guidance that begins later
    if (guided, most) == (plain, plain_most) and not added:
        return None
    dearest = f", up to {most} in the dearest chunk" if most > guided else ""
    return (
        f"{guided} model evaluations per chunk ({plain} without guidance)"
        f"{dearest}, including cache fills; "
        + (f"+{byte_size(added)} KV cache." if added else "no more KV cache.")
    )


def describe_guidance(footprint: RolloutFootprint) -> str:
    """The branches of the first guidance, and what they add to the shot."""
    settings = footprint.settings
    branches = describe_branches(settings.at(settings.origin).guidance)
    added = describe_guidance_cost(footprint)
    return f"{branches} This shot: {added or 'no extra cost.'}"


def describe_budget(requested: CacheSettings, settings: RolloutSettings) -> str | None:
    """What the memory budget made of the history that was requested; None without a budget."""
    if requested.budget_bytes is None:
        return None
    budget, window = f"KV cache budget of {byte_size(requested.budget_bytes)}", settings.cache.limit
    if window is None:
        return f"The full history fits the {budget}."
    fits = window == requested.policy.limit
    if isinstance(settings.cache, TempCache):
        history = f"entries for {count_of(window, 'latent frame')}"
        return f"The {history} fit the {budget}." if fits else f"The {budget} allows {history}."
    history = f"window of {count_of(window, 'latent frame')}"
    return f"The {history} fits the {budget}." if fits else f"The {budget} allows a {history}."


def offload_shortage(footprint: RolloutFootprint) -> str | None:
    """Say why the offloaded part of the KV cache does not fit; None if it does."""
    match footprint.settings.placement:
        case InMainMemory():
            free, where = host.free_memory_bytes(), "in main memory"
        case OnDisk(folder):
            free, where = shutil.disk_usage(_nearest_existing(folder)).free, f"in {folder}"
        case _:  # an archive, if the history has one
            free, where = host.free_memory_bytes(), "in main memory"
    needed = footprint.offloaded_bytes
    if needed <= free:
        return None
    return (
        f"The KV cache needs {byte_size(needed)} {where}, but only {byte_size(free)} is available; "
        f"{less_memory(footprint.settings.cache)}."
    )


def _describe_saving(footprint: RolloutFootprint) -> str:
    """The share of the unquantized size, counting the frames that stay unquantized."""
    config, dtype = footprint.model.config, footprint.model.dtype
    coded = replace(footprint.settings, placement=ON_DEVICE)
    dense = planned_bytes(replace(coded, storage=DENSE), config, dtype)
    share = planned_bytes(coded, config, dtype) / dense
    return f"({share:.0%} of {byte_size(dense)} unquantized)"


def _nearest_existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
