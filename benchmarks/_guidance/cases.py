"""The guidance settings that the guidance benches compare."""

from __future__ import annotations

from dataclasses import replace

from ...samplers.guidance import (
    Guidance,
    GuidanceTiming,
    Limits,
    SkippedLayers,
    cfg,
    extend,
    fractional,
    last,
    skip_in_negative,
    stabilise,
    temporal,
    vanilla,
    without_layers,
)
from ...samplers.schedule.context_noise import ContextNoise
from ...training.evaluation.kit import GUIDED_SCALE, Recipe
from .findings import PLAIN, TRUTH

TEXT = cfg(GUIDED_SCALE)
MORE_STEPS = 8
DEMO_LAYERS = 6
EARLY = 0.7  # "early steps" have this noise level or a higher one


def cases() -> dict[str, Recipe]:
    """Return rendered truth, and every guidance setting under comparison.

    In a shot without known frames, stabilising equals context noise.
    """
    recipes = {TRUTH: Recipe(), "none": Recipe(guidance=Guidance()), PLAIN: Recipe(guidance=TEXT)}

    def add(name: str, guidance: Guidance) -> None:
        recipes[name] = Recipe(guidance=guidance)

    for scale in (1.2, 1.5, 2.0, 3.0):
        add(f"vanilla {scale:g}", extend(TEXT, vanilla(scale)))
    strong = extend(TEXT, vanilla(2.0))
    add("vanilla 2, rescaled", replace(strong, limits=Limits(rescale=1.0)))
    add(
        "vanilla 2, early steps",
        extend(TEXT, replace(vanilla(2.0), timing=GuidanceTiming((EARLY, 1.0)))),
    )
    for level in (0.02, 0.05, 0.1):
        add(f"vanilla 2, stabilised {level:g}", stabilise(strong, level))
    add("temporal", extend(TEXT, temporal(0.5, last(4))))
    add("temporal and none 2", extend(TEXT, temporal(0.5, last(4), scale=2.0)))
    for scale, level in ((2.0, 0.6), (2.0, 0.75), (2.0, 0.85), (3.0, 0.75)):
        add(f"fractional {scale:g} at {level:g}", extend(TEXT, fractional(scale, level)))
    for level in (0.02, 0.05, 0.1, 0.2, 0.3):
        recipes[f"context noise {level:g}"] = Recipe(guidance=TEXT, noise=ContextNoise(level))
    for layer in range(DEMO_LAYERS):
        skipped = SkippedLayers((layer,))
        add(f"layer {layer} skipped, negative", skip_in_negative(TEXT, skipped))
        add(f"layer {layer} skipped, own pass", extend(TEXT, without_layers(0.5, skipped)))
    recipes[f"cfg, {MORE_STEPS} steps"] = Recipe(guidance=TEXT, steps=MORE_STEPS)
    recipes[f"vanilla 2, {MORE_STEPS} steps"] = Recipe(guidance=strong, steps=MORE_STEPS)
    return recipes
