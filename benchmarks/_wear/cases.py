"""The cases of `bench wear`: situations in which a shot wears out, and memory rules against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from ...attention.cache.policy import CachePolicy, WindowSink
from ...model.preset import DEMO
from ...model.vae.latent_format import SPATIAL_FACTOR
from ...samplers.guidance import cfg, extend, vanilla
from ...samplers.rules.anchor import Anchor
from ...samplers.rules.memory import MemoryRules
from ...samplers.rules.positions import TopAligned
from ...samplers.rules.reading import FarReading, NewestFrames, RecencyBias
from ...training.batches import TASKS
from ...training.evaluation.kit import GUIDED_SCALE, Recipe

CHUNK = DEMO.chunk_frames
SHIPPED, TWIN = "shipped model", "teacher-forced twin"
GUIDED, TURNING = "strong guidance", "short window, far turns"
DEFAULT, SINK, LONG = "default", "sink", "long window"
TWIN_REACH = max(TASKS["narrow"].windows)  # with the chunk in work


@dataclass(frozen=True, slots=True)
class Situation:
    """A recipe of a plain window without rules, and how much of it the bench measures by default.

    `trained_frames` is the model's trained range, the chunk in work included. `long_window` is the
    history of the far-reading rule. The camera turns every `turn_every` latent frames (0: never).
    """

    recipe: Recipe
    rollouts: int
    latents: int
    trained_frames: int = DEMO.trained_reach + CHUNK
    long_window: int = DEMO.trained_reach // CHUNK * CHUNK
    turn_every: int = 0

    @property
    def window(self) -> int:
        """Latent frames of the recipe's window."""
        assert self.recipe.cache.limit is not None
        return self.recipe.cache.limit


DEMO_WINDOW = Recipe(cache=WindowSink(DEMO.window_frames))
SITUATIONS: Mapping[str, Situation] = {
    SHIPPED: Situation(DEMO_WINDOW, 4, 2001),
    TWIN: Situation(
        Recipe(
            steps=2,  # where the twin drifts: docs/measurements/endurance.md
            cache=WindowSink(TWIN_REACH - CHUNK),
            columns=TASKS["narrow"].pool.width // SPATIAL_FACTOR,
        ),
        8, 240, TWIN_REACH, 2 * (TWIN_REACH - CHUNK),
    ),
    GUIDED: Situation(
        replace(DEMO_WINDOW, guidance=extend(cfg(GUIDED_SCALE), vanilla(2.0))), 8, 240
    ),
    TURNING: Situation(Recipe(cache=WindowSink(9)), 8, 240, turn_every=24),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RuleCase:
    """The rules of one case. `control` is the case that differs from it by the rule alone."""

    memory: MemoryRules = MemoryRules()
    anchor: Anchor | None = None
    cache: CachePolicy | None = None
    control: str = DEFAULT

    def apply(self, recipe: Recipe) -> Recipe:
        """Return `recipe` with the rules."""
        cache = self.cache or recipe.cache
        return replace(recipe, memory=self.memory, anchor=self.anchor, cache=cache)

    def join(self, other: RuleCase) -> RuleCase:
        """Return the rules of both cases; where both set the same thing, `other` counts."""
        mine, more = self.memory, other.memory
        memory = MemoryRules(
            more.commit or mine.commit,
            more.recency or mine.recency,
            more.past or mine.past,
            more.far or mine.far,
            more.positions or mine.positions,
        )
        return RuleCase(memory, other.anchor or self.anchor, other.cache or self.cache)


def rules_of(situation: Situation, together: Sequence[str] = ()) -> dict[str, RuleCase]:
    """Return the default, every rule alone, its control, and the rules `together` as one case.

    Top-aligned positions are absent where the window fills the trained range, so that they change
    nothing.
    """
    window, long = situation.window, situation.long_window
    sink, far = WindowSink(window, CHUNK), WindowSink(long)
    rules = {
        DEFAULT: RuleCase(),
        SINK: RuleCase(cache=sink),
        LONG: RuleCase(cache=far),
        "commit forcing": RuleCase(MemoryRules(commit=NewestFrames()), cache=sink, control=SINK),
        "recency": RuleCase(MemoryRules(recency=RecencyBias())),
        "anchor 0.3": RuleCase(anchor=Anchor(0.3)),
        "top-aligned": RuleCase(
            MemoryRules(positions=TopAligned(situation.trained_frames)), cache=sink, control=SINK
        ),
        "far read": RuleCase(MemoryRules(far=FarReading(window)), cache=far, control=LONG),
        "half sink": RuleCase(cache=WindowSink(window, window // 2)),
    }
    if situation.trained_frames <= window + CHUNK:
        del rules["top-aligned"]
    if together:
        joined = (rules[name] for name in together if name in rules)
        rules[" + ".join(together)] = reduce(RuleCase.join, joined, RuleCase())
    return rules


RULES = tuple(rules_of(SITUATIONS[SHIPPED]))
