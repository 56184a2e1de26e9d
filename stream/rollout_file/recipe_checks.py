"""Bounds on the settings of a saved rollout, beyond what a sampler node could have asked for.

Opening a rollout plans its memory, addresses its chunks and compares its tensors. All that must
take no time, whatever numbers a file claims.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from ...attention.cache.policy import MemoryBank, WindowSink
from ...attention.temp_cache.policy import TempCache
from ...samplers.conditioning.blend import MAX_STEPS
from ...samplers.conditioning.embedding import MAX_DEPTH, Embedding, Mixture, Padded
from ...samplers.conditioning.prompts import PromptTimeline
from ...samplers.guidance.prompt import OwnPrompt, Prompt
from ...samplers.guidance.terms import Branch
from ...samplers.settings import RolloutSettings, guidances_of

MAX_SIDE = 4096  # latent rows or columns
MAX_FRAMES = 1_000_000  # latent frames: 46 hours at 24 frames a second
MAX_WINDOW = 100_000  # latent frames
MAX_SEED = 2**64 - 1
MAX_ROWS = 4096  # of text
MAX_ROW_WORK = 2_000_000  # latent frames times steps that are in flight at once
MAX_STRENGTH = 1e6


class Unusable(ValueError):
    """Settings that no rollout can have."""


def check_settings(settings: RolloutSettings) -> None:
    """Refuse settings that are out of range, or whose tensors do not go together."""
    _check_range("the latent rows", settings.rows, 2, MAX_SIDE)
    _check_range("the latent columns", settings.columns, 2, MAX_SIDE)
    if settings.length is not None:
        _check_range("the length in latent frames", settings.length, 1, MAX_FRAMES)
    _check_seeds(settings)
    _check_times(settings)
    _check_prompts(settings)
    _check_cache(settings)
    _check_strengths(settings)
    if settings.reference is not None:
        _check_axes("the picture's latents", settings.reference.channels, 4)
        if settings.reference.rays is not None:
            _check_axes("the picture's rays", settings.reference.rays, 4)
    for known in settings.known_frames.frames:
        if isinstance(known.latents, Tensor):
            _check_axes("known latents", known.latents, 3)
    in_flight = settings.schedule.active_frames(settings.length, settings.origin)
    work = in_flight * len(getattr(settings.schedule, "ladder", ()))
    _check_range("the schedule's latent frames in flight times steps", work, 0, MAX_ROW_WORK)


def _check_seeds(settings: RolloutSettings) -> None:
    for seed in (settings.seed, *(change.seed for change in settings.seed_changes)):
        _check_range("a seed", seed, 0, MAX_SEED)


def _check_times(settings: RolloutSettings) -> None:
    """Refuse a change outside the longest rollout."""
    starts = [change.start_frame for change in settings.guidance_changes]
    starts += [change.start_frame for change in settings.seed_changes]
    starts += [change.start_frame for change in settings.lora_changes]
    starts += [change.start_frame for change in settings.level_changes]
    known = settings.known_frames.frames
    reaches = [frame for entry in known for frame in (entry.frame, entry.lookahead)]
    turns = settings.camera.starts if settings.camera else ()
    for at in (*starts, *settings.recache_frames, *reaches, *turns):
        _check_range("a latent frame", at, 0, MAX_FRAMES)
    _check_range("the ramp of context noise", settings.context_noise.ramp_frames, 0, MAX_FRAMES)


def _check_prompts(settings: RolloutSettings) -> None:
    """Refuse prompts of several widths, and a time without a prompt."""
    timeline = settings.prompts
    width = timeline.negative.shape[-1]
    prompts: list[Prompt | None] = [branch.prompt for branch in _branches(settings)]
    prompts += [branch.view.commit_prompt for branch in _branches(settings)]
    prompts += [guidance.base for guidance in guidances_of(settings)]
    own = [prompt.embedding for prompt in prompts if isinstance(prompt, OwnPrompt)]
    for embedding in (timeline.negative, *_embeddings(timeline), *own):
        _check_axes("a prompt", embedding, 2)
        if embedding.shape[-1] != width:
            raise Unusable(f"prompts are {width} and {embedding.shape[-1]} wide")
    _check_changes(timeline)
    covered = 0
    first = sorted((line.active_from, line.active_until) for line in timeline.lines
                   if line.start_frame == 0 and line.active_until is not None)  # fmt: skip
    for start, stop in first:
        assert stop is not None
        covered = max(covered, stop) if start <= covered else covered
    always = [line.active_from for line in timeline.lines
              if line.start_frame == 0 and line.active_until is None]  # fmt: skip
    if min(always, default=0) > covered:
        raise Unusable(f"no prompt is in force at latent frame {covered}")


def _embeddings(timeline: PromptTimeline) -> list[Tensor]:
    """The numbers that the embeddings of the lines and of the second prompt are made of."""
    second = [] if timeline.mix is None else [timeline.mix.embedding]
    prompts = (*(line.embedding for line in timeline.lines), *second)
    return [part for embedding in prompts for part in _parts(embedding, MAX_DEPTH)]


def _parts(embedding: Embedding, depth: int) -> list[Tensor]:
    """The numbers that an embedding is made of, by mixtures at most `depth` inside one another."""
    if isinstance(embedding, Tensor):
        return [embedding]
    if isinstance(embedding, Padded):
        _check_axes("a prompt", embedding.rows, 2)
        _check_range("the rows of a prompt", embedding.length, len(embedding.rows), MAX_ROWS)
        return [embedding.values]
    if depth < 0 or not 0 <= embedding.share <= 1:
        raise Unusable("a prompt is mixed in a way that no shot mixes prompts")
    return [*_parts(embedding.first, depth - 1), *_parts(embedding.second, depth - 1)]


def _check_changes(timeline: PromptTimeline) -> None:
    """Refuse times out of range, and more blended prompts than a day of video has chunks."""
    shares = () if timeline.mix is None else timeline.mix.shares
    for frame in (*(line.start_frame for line in timeline.lines), *(at for at, _ in shares)):
        _check_range("a prompt's latent frame", frame, 0, MAX_FRAMES)
    if any(not 0 <= share <= 1 for _, share in shares):
        raise Unusable("a share of the second prompt is not from 0 to 1")
    if any(later <= at for (at, _), (later, _) in pairwise(shares)):
        raise Unusable("the shares of the second prompt are not in order of time")
    for blend in (line.blend for line in timeline.lines if line.blend is not None):
        for count in (blend.chunk_frames, blend.parts, blend.steps):
            _check_range("the parts of a blend", count, 1, MAX_FRAMES)
    sizes = {tuple(embedding.shape) for embedding in _embeddings(timeline)}
    are_mixed = timeline.step_count or any(
        isinstance(line.embedding, Mixture) for line in timeline.lines
    )
    if are_mixed and len(sizes) > 1:
        raise Unusable("prompts that are mixed have several sizes")
    _check_range("the number of blended prompts", timeline.step_count, 0, MAX_STEPS)


def _check_cache(settings: RolloutSettings) -> None:
    cache = settings.cache
    if isinstance(cache, WindowSink):
        _check_range("the window in latent frames", cache.window_frames, 1, MAX_WINDOW)
    if isinstance(cache, MemoryBank):
        _check_range("the memory bank in latent frames", cache.bank_frames, 1, MAX_WINDOW)
    if isinstance(cache, TempCache):
        _check_range("the entries in latent frames", math.ceil(cache.entry_frames), 1, MAX_WINDOW)


def _check_strengths(settings: RolloutSettings) -> None:
    """Refuse factors that give infinite latents, and noise levels out of range."""
    if any(not 0 <= change.level <= 1 for change in settings.level_changes):
        raise Unusable("a noise level is not from 0 to 1")
    factors = [settings.lora_factor, *(change.factor for change in settings.lora_changes)]
    for guidance in guidances_of(settings):
        timing = guidance.timing
        factors += [guidance.strength, *timing.per_step, timing.first_chunk]
        factors += [branch.weight for branch in guidance.branches]
        factors += [score.weight for score in guidance.weighted_scores]
        nag = guidance.normalized_attention
        factors += [] if nag is None else [nag.scale, nag.tau]
    if any(abs(factor) > MAX_STRENGTH for factor in factors):
        raise Unusable(f"a strength or weight is beyond {MAX_STRENGTH:g}")


def _branches(settings: RolloutSettings) -> list[Branch]:
    return [branch for guidance in guidances_of(settings) for branch in guidance.branches]


def _check_axes(what: str, tensor: Tensor, axes: int) -> None:
    if tensor.ndim != axes:
        raise Unusable(f"{what} have {tensor.ndim} axes instead of {axes}")


def _check_range(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        shown = f"{value:,}" if abs(value) < 10**20 else "a huge number"
        raise Unusable(f"{what} must be from {low:,} to {high:,}; got {shown}")
