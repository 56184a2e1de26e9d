"""A model's own memory, and the plain window that replaces it beside some other settings."""

from __future__ import annotations

from collections.abc import Iterator

from ...samplers.guidance import Guidance
from ...samplers.history.settings import CacheSettings
from ...samplers.schedule.context_noise import ContextNoise


def compatible(
    cache: CacheSettings, guidance: Guidance, noise: ContextNoise
) -> tuple[CacheSettings, str | None]:
    """The history that goes with the other settings, and a note if that is not the model's own.

    A history that fetches past frames keeps them as they were committed, so no setting may commit
    them again. A policy that the user chose stays, and the engine refuses what does not go with it.
    """
    if not (cache.gives_way and cache.policy.recall_frames):
        return cache, None
    reasons = [*_obstacles(cache, guidance, noise)]
    if not reasons:
        return cache, None
    return cache.plain(), (
        "The model's own memory, which fetches past latent frames again, does not go with "
        f"{' and '.join(reasons)}; a plain window takes its place."
    )


def _obstacles(cache: CacheSettings, guidance: Guidance, noise: ContextNoise) -> Iterator[str]:
    """The settings that a history with fetched frames does not go with, by name."""
    if cache.on_prompt_change == "re-cache":
        yield "prompt_switch re-cache"
    if any(branch.view.rebuilt for branch in guidance.branches):
        yield "an exact view of the guidance"
    if noise.recommits:
        yield "this kind of context noise"
    if cache.memory.positions is not None:
        yield "top-aligned positions"
