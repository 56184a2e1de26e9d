"""Guidance as a weighted sum of branches: v = sum_i w_i v_i with sum_i w_i = 1.

Branches differ in their prompt, in the history they see, and in layers that they leave out. Because
the weights sum to 1, velocities, clean estimates, noise and scores combine alike. The base, the
whole history under one prompt, is the reference: strength 0 is the base alone, strength 1 the sum
as set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from ...errors import BadInput
from .normalized import NormalizedAttention
from .prompt import OwnPrompt, Prompt, describe_prompt, order
from .score import WeightedScore
from .skipped_layers import SkippedLayers
from .views import ALL, View

V = TypeVar("V", bound=Hashable)

Inputs = tuple[Prompt, View, SkippedLayers | None]
"""The prompt of a branch, the history it sees, and the layers it leaves out."""

ROUNDING = 1e-9
"""Weights that should cancel add up to at most this."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One model evaluation in the weighted sum."""

    weight: float
    prompt: Prompt = "positive"
    view: View = ALL
    skipped: SkippedLayers | None = None

    @property
    def inputs(self) -> Inputs:
        """What is evaluated and seen, without the weight."""
        return self.prompt, self.view, self.skipped

    def __str__(self) -> str:
        skipped = "" if self.skipped is None else str(self.skipped)
        parts = f"{self.weight:g} x {self.view}", describe_prompt(self.prompt), skipped
        return ", ".join(filter(None, parts))

    def by_layers(
        self, weights: Sequence[float], levels: Sequence[float]
    ) -> list[tuple[Branch, list[float]]]:
        """The branch with its weights per frame, or two: where it skips layers, and elsewhere."""
        if self.skipped is None:
            return [(self, [*weights])]
        acts = [self.skipped.acts_at(level) for level in levels]
        by_frame = [*zip(weights, acts, strict=True)]
        skipping = [weight if skips else 0.0 for weight, skips in by_frame]
        plain = [0.0 if skips else weight for weight, skips in by_frame]
        return [(self, skipping), (replace(self, skipped=None), plain)]


@dataclass(frozen=True, slots=True)
class GuidanceTiming:
    """The guidance strength by noise level, step and chunk.

    Guidance acts at noise levels inside `interval` (0..1, both included). `per_step` holds a factor
    for each step of a chunk; the last one repeats. `first_chunk` is a factor while there is no
    history.
    """

    interval: tuple[float, float] = (0.0, 1.0)
    per_step: tuple[float, ...] = ()
    first_chunk: float = 1.0

    def __post_init__(self) -> None:
        low, high = self.interval
        if not 0 <= low <= high <= 1:
            raise BadInput(
                f"The guidance interval goes from a lower to a higher noise level, 0 to 1; got "
                f"{low} to {high}."
            )
        if not all(math.isfinite(factor) for factor in (*self.per_step, self.first_chunk)):
            raise BadInput("Guidance strengths per step and of the first chunk must be numbers.")

    def factor(self, level: float, step: int, *, started: bool) -> float:
        """The factor at a noise level and step; `started` means that there is a history."""
        low, high = self.interval
        if not low <= level <= high:
            return 0.0
        of_step = self.per_step[min(step, len(self.per_step) - 1)] if self.per_step else 1.0
        return of_step if started else of_step * self.first_chunk


@dataclass(frozen=True, slots=True)
class Limits:
    """Non-linear bounds on the sum, off by default.

    `rescale` (0..1) moves the standard deviation per latent frame towards the base's (Lin et al.,
    arXiv 2305.08891). `norm_cap` bounds each token's velocity to that multiple of the base's.
    """

    rescale: float = 0.0
    norm_cap: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.rescale <= 1:
            raise BadInput(f"Guidance rescale is from 0 to 1; got {self.rescale}.")
        if self.norm_cap is not None and not 0 < self.norm_cap < math.inf:
            raise BadInput(f"The guidance norm cap must be above 0; got {self.norm_cap}.")

    @property
    def need_base(self) -> bool:
        """Whether a limit compares with the base, which must then be evaluated."""
        return self.rescale > 0 or self.norm_cap is not None


@dataclass(frozen=True)
class Guidance:
    """The branches to evaluate, all different; their weights sum to 1 and none is 0.

    `base` is the prompt of the base branch. `stabilise` is the noise level at which views of level
    0 see generated latent frames; given frames stay clean. `in_one_pass` evaluates all branches
    together: more memory than one by one, equal results up to rounding. `normalized_attention`
    pushes attention to prompts from that to the negative prompt, at this strength and timing.
    """

    branches: tuple[Branch, ...] = (Branch(1.0),)
    base: Prompt = "positive"
    strength: float = 1.0
    timing: GuidanceTiming = GuidanceTiming()
    limits: Limits = Limits()
    stabilise: float = 0.0
    weighted_scores: tuple[WeightedScore, ...] = ()
    in_one_pass: bool = True
    normalized_attention: NormalizedAttention | None = None

    def __post_init__(self) -> None:
        total = sum(branch.weight for branch in self.branches)
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise BadInput(f"Guidance weights must sum to 1; got {total}.")
        if any(branch.weight == 0 for branch in self.branches):
            raise BadInput("A guidance branch of weight 0 must be left out.")
        if len({branch.inputs for branch in self.branches}) < len(self.branches):
            raise BadInput("Guidance branches of equal prompt and view must be merged into one.")
        if not math.isfinite(self.strength):
            raise BadInput(f"The guidance strength must be a number; got {self.strength}.")
        if not 0 <= self.stabilise < 1:
            raise BadInput(f"stabilise is a noise level from 0 to below 1; got {self.stabilise}.")

    @cached_property
    def all_branches(self) -> tuple[Branch, ...]:
        """The branches, plus the base with weight 0 if it is needed and missing."""
        known = any(map(self.is_base, self.branches))
        always = (
            self.strength == 1 and self.timing == GuidanceTiming() and not self.limits.need_base
        )
        return self.branches if known or always else (*self.branches, self.base_branch)

    @property
    def base_branch(self) -> Branch:
        """The base, with weight 0."""
        return Branch(0.0, self.base)

    def is_base(self, branch: Branch) -> bool:
        """Whether a branch sees the whole history under the base's prompt, with all layers."""
        return branch.inputs == self.base_branch.inputs

    @property
    def summed(self) -> tuple[Branch, ...]:
        """The branches with their weights at this strength, without those of weight 0."""
        weights = zip(self._weights(self.strength), self.all_branches, strict=True)
        return merge_branches(replace(branch, weight=weight) for weight, branch in weights)

    @property
    def text_scale(self) -> float:
        """The equivalent CFG scale of the prompt; 1 is no text guidance."""
        return 1 - sum(branch.weight for branch in self.summed if branch.prompt == "negative")

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """All prompts needed, including those that histories are committed with."""
        used = {b.prompt for b in self.all_branches}
        used |= {b.view.commit_prompt for b in self.branches if b.view.commit_prompt}
        used |= {"negative"} if self.normalized_attention else set()
        return tuple(sorted(used, key=order))

    @property
    def own_prompts(self) -> tuple[OwnPrompt, ...]:
        """The fixed prompts of single branches."""
        return tuple(prompt for prompt in self.prompts if isinstance(prompt, OwnPrompt))

    @property
    def inputs(self) -> tuple[object, ...]:
        """What is evaluated and seen, without weights; equal inputs can share KV caches."""
        seen = tuple(branch.inputs for branch in self.all_branches)
        return self.base, self.stabilise, seen, self.normalized_attention

    @property
    def work(self) -> tuple[object, ...]:
        """What its passes evaluate, without weights; guidances of equal work cost the same."""
        summed = tuple(branch.inputs for branch in self.summed)
        scores = tuple(type(weighted.score) for weighted in self.weighted_scores)
        return self.inputs, summed, self.timing, self.limits, scores, self.in_one_pass

    def scale_by(self, strength: float) -> Guidance:
        """The same branches at another strength."""
        return replace(self, strength=strength)

    def factor(self, level: float, step: int, *, started: bool) -> float:
        """The strength at a noise level and step; `started` means that there is a history."""
        return self.strength * self.timing.factor(level, step, started=started)

    def weights(self, level: float, step: int, *, started: bool) -> tuple[float, ...]:
        """The weight of each of `all_branches` at a noise level and step of the chunk."""
        return self._weights(self.factor(level, step, started=started))

    def _weights(self, strength: float) -> tuple[float, ...]:
        if strength == 1:
            return tuple(branch.weight for branch in self.all_branches)
        base = [float(self.is_base(branch)) for branch in self.all_branches]
        return tuple(
            weight + strength * (branch.weight - weight)
            for weight, branch in zip(base, self.all_branches, strict=True)
        )


def merge_branches(branches: Iterable[Branch]) -> tuple[Branch, ...]:
    """Sum the weights of equal branches and leave out branches of weight 0."""
    sums: dict[Inputs, float] = {}
    for branch in branches:
        sums[branch.inputs] = sums.get(branch.inputs, 0.0) + branch.weight
    return tuple(Branch(w, *key) for key, w in sums.items() if abs(w) > ROUNDING)


def weights_by_view(
    guidance: Guidance,
    weights: Sequence[Sequence[float]],
    levels: Sequence[float],
    view_of: Callable[[Branch], V],
) -> dict[V, list[float]]:
    """The views to evaluate, each with its weight per frame; `weights` is (f, branches).

    At those of the `levels` (f,) at which a branch skips no layers, a plain one takes its place.
    Branches for which `view_of` is equal share a view. A view whose weights cancel is left out,
    unless it is the base's and a limit compares with that.
    """
    sums: dict[V, list[float]] = {}
    by_branch = zip(*weights, strict=True)
    pairs = zip(guidance.all_branches, by_branch, strict=True)
    parts = (part for branch, of_branch in pairs for part in branch.by_layers(of_branch, levels))
    for branch, frame_weights in parts:
        if any(frame_weights):
            total = sums.setdefault(view_of(branch), [0.0] * len(frame_weights))
            total[:] = [a + b for a, b in zip(total, frame_weights, strict=True)]
    sums = {view: total for view, total in sums.items() if any(abs(w) > ROUNDING for w in total)}
    if guidance.limits.need_base:
        sums.setdefault(view_of(guidance.base_branch), [0.0] * len(weights))
    return sums
