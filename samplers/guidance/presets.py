"""Published guidance formulas by name, and how they add up.

Scale 1 is always the conditional branch alone, bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ...errors import BadInput
from .skipped_layers import SkippedLayers
from .terms import Branch, Guidance, GuidanceTiming, merge_branches
from .views import ALL, DROP, NOISE, View, last, noisy

MAGI_INTERVAL = (0.7, 1.0)  # MAGI-1 guides while its t, the clean share, is below 0.3


def cfg(scale: float) -> Guidance:
    """Classifier-free guidance.

    Scale times the prompt's prediction, 1 - scale times the negative prompt's.
    """
    return _guidance(scale, Branch(scale), Branch(1 - scale, "negative"))


def vanilla(scale: float, none: View = NOISE, *, drop_prompt: bool = False) -> Guidance:
    """HG-v: scale times the whole history, 1 - scale times none.

    `drop_prompt` gives the branch without history the negative prompt, as DFoT drops its other
    conditions there. One scale then guides history and text at the cost of one extra branch.
    """
    without = Branch(1 - scale, "negative" if drop_prompt else "positive", none)
    return _guidance(scale, Branch(scale), without)


def temporal(short_weight: float, short: View | None = None, *, scale: float = 1.0,
             none: View = NOISE) -> Guidance:  # fmt: skip
    """HG-t: long and short history share `scale` as `1 - short_weight` and `short_weight`.

    Scale 1 needs no branch without history: a mean of two cannot overshoot. DFoT's Minecraft
    setting is half and half with 4 short latent frames.
    """
    return _guidance(
        scale,
        Branch(scale * (1 - short_weight)),
        Branch(scale * short_weight, view=short or last(4)),
        Branch(1 - scale, view=none),
    )


def fractional(scale: float, level: float, none: View = NOISE) -> Guidance:
    """HG-f: the whole history + (scale - 1) (history at noise `level` - none).

    Level 0 is HG-v; level 1 is the whole history alone.
    """
    masked = none if level == 1 else noisy(level)
    return _guidance(
        scale, Branch(1.0), Branch(scale - 1, view=masked), Branch(1 - scale, view=none)
    )


def magi(history: float = 1.5, text: float = 7.5, none: View = DROP) -> Guidance:
    """MAGI-1's three branches: (1 - a) none + (a - w) history + w (history and text).

    All branches read one history, committed without text. The sum acts while the noise level is
    above 0.7; below it the base, history without text, is used alone.
    """
    textless = View(commit_prompt="negative")
    sums = _guidance(
        history + text,
        Branch(1 - history, "negative", none),
        Branch(history - text, "negative"),
        Branch(text, "positive", textless),
    )
    return replace(sums, base="negative", timing=GuidanceTiming(MAGI_INTERVAL))


def without_layers(scale: float, skipped: SkippedLayers) -> Guidance:
    """Skip-layer guidance: all + scale (all - all without the layers)."""
    return _guidance(1 + scale, Branch(1 + scale), Branch(-scale, skipped=skipped))


def skip_in_negative(guidance: Guidance, skipped: SkippedLayers) -> Guidance:
    """Let branches of the negative prompt that `guidance` pushes away from leave out layers.

    Takes no evaluation more. BadInput if there is no such branch, or one leaves out layers already.
    """
    chosen = [b for b in guidance.branches if b.prompt == "negative" and b.weight < 0]
    if not chosen:
        raise BadInput(
            "Skip-layer guidance is to skip layers in the negative prompt's pass, and there is "
            "none: set a text guidance above 1 first, or give it a pass of its own."
        )
    if any(branch.skipped for branch in chosen):
        raise BadInput(
            "The negative prompt's pass leaves out layers already: name all layers together, or "
            "leave the others out in a pass of their own."
        )
    changed = (
        replace(branch, skipped=skipped) if branch in chosen else branch
        for branch in guidance.branches
    )
    return replace(guidance, branches=merge_branches(changed))


def stabilise(guidance: Guidance, level: float) -> Guidance:
    """Show generated latent frames at a small noise level; given frames stay clean.

    DFoT uses 0.02 on its own schedule.
    """
    return replace(guidance, stabilise=level)


def extend(guidance: Guidance, addition: Guidance) -> Guidance:
    """Add to `guidance` what `addition` does beyond its base; weights still sum to 1.

    Where `addition` has default settings, those of `guidance` stay.
    """
    beyond = (*addition.branches, Branch(-1.0, addition.base, ALL))
    plain = Guidance()
    return replace(
        guidance,
        branches=merge_branches((*guidance.branches, *beyond)),
        timing=guidance.timing if addition.timing == plain.timing else addition.timing,
        limits=guidance.limits if addition.limits == plain.limits else addition.limits,
        stabilise=max(guidance.stabilise, addition.stabilise),
        weighted_scores=(*guidance.weighted_scores, *addition.weighted_scores),
        in_one_pass=guidance.in_one_pass and addition.in_one_pass,
        normalized_attention=addition.normalized_attention or guidance.normalized_attention,
    )


def _guidance(scale: float, *branches: Branch) -> Guidance:
    if not math.isfinite(scale) or not all(math.isfinite(b.weight) for b in branches):
        raise BadInput(f"The guidance scale must be a number; got {scale}.")
    return Guidance(merge_branches(branches))
