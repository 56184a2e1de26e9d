"""Plans a rollout's memory beside the model's weights.

The plan is a rehearsal: the sampling loop's own code on a model without weights. What a long shot
takes grows evenly with its length, so two shorter shots tell it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from ...attention.ann.buckets import GATHERED
from ...attention.cache.policy import capacity
from ...machine.rehearsed_device import simulate_device
from ...model.camera.modules import CAMERA_MODULES
from ...model.config import DiTConfig
from ...model.forward import ModelConfig
from ...model.memory import META, Peaks, Place, peak_bytes, shape_only
from ...model.recurrent.config import RecurrentConfig
from ...model.shape_memo import ShapeMemo
from ..guidance.score import SCORE_LOOKBACK_FRAMES, on_device, slope_of
from ..history.plan import cache_plans, planned_bytes
from ..settings import RolloutSettings
from . import recurrent
from .length_samples import extrapolate, shorter_shots
from .rehearsal import CheckInterrupted, Rehearsal

DEEPEST = 3  # layers of the deepest rehearsal: a first, a last, and one like all between
LAST = "last, attention"

CPU = torch.device("cpu")
FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class RolloutMemory:
    """Exact bytes of the KV caches, which stay, and peak bytes of steps and commits."""

    kv_bytes: int
    working_bytes: int

    @property
    def total_bytes(self) -> int:
        """KV caches and working memory together."""
        return self.kv_bytes + self.working_bytes


def rollout_memory(
    settings: RolloutSettings,
    config: ModelConfig,
    dtype: torch.dtype,
    device: torch.device = CPU,
    check_interrupted: CheckInterrupted = lambda: None,
    shapes: ShapeMemo | None = None,
) -> RolloutMemory:
    """Plan a rollout on `device`; an endless full history counts only as it starts.

    `working_bytes` = max(steps, commit, score gradient, first-frame re-encoding). Steps and commit
    are measured in the worst case: prompts projected, history full, keys not yet rotated (as after
    a resume). `check_interrupted` is called before every pass. `shapes` saves operations that
    another plan has rehearsed.
    """
    memo = shapes or ShapeMemo()
    if isinstance(config, RecurrentConfig):
        rehearse = recurrent.rehearsals(config, dtype, check_interrupted, memo)
        measures = _of_whole_passes(rehearse)
    else:
        measures = _of_layers(config, dtype, check_interrupted, memo)
    with simulate_device(device):
        passes = [_at_any_length(settings, measure) for measure in measures]
    scores = _scores_at_any_length(settings, config)
    kv_bytes = planned_bytes(settings, config, dtype)
    return RolloutMemory(kv_bytes, max(_beginning(settings), scores, *passes))


Measure = Callable[[RolloutSettings], Peaks]
"""Bytes of a step or of a commit of a shot, by place."""

PARTS = Rehearsal.step, Rehearsal.later_steps, Rehearsal.commit, Rehearsal.commit_after_step


def _of_whole_passes(rehearse: Callable[[RolloutSettings], Rehearsal]) -> list[Measure]:
    """Steps and commit of a model that is rehearsed with all of its layers."""

    def measure(part: Callable[[Rehearsal], Peaks]) -> Measure:
        return lambda shot: part(rehearse(shot))

    return [measure(part) for part in PARTS]


def _of_layers(
    config: DiTConfig, dtype: torch.dtype, check: CheckInterrupted, memo: ShapeMemo
) -> list[Measure]:
    """Steps and commit of a transformer, of which a few layers are rehearsed."""
    with memo:
        tree = shape_only(config.first_layers(min(config.num_layers, DEEPEST)), dtype)

    def rehearsal(shot: RolloutSettings, size: DiTConfig) -> Rehearsal:
        return Rehearsal(shot, tree, size, dtype, check, memo)

    def measure(part: Callable[[Rehearsal], Peaks]) -> Measure:
        return lambda shot: _of_all_layers(shot, config, lambda size: part(rehearsal(shot, size)))

    return [measure(part) for part in PARTS]


def _of_all_layers(
    settings: RolloutSettings, config: DiTConfig, measure: Callable[[DiTConfig], Peaks]
) -> Peaks:
    """Bytes of passes through all layers by place, from rehearsals of the first two and three.

    `measure` takes sizes. A control block's hint is computed in turn with its layer, so only its
    keys of the prompt add up, at every place alike.
    """
    blocks = min(1, config.control_blocks) if settings.control else 0
    first = replace(config, control_blocks=blocks)
    shallow = peaks = measure(first.first_layers(min(config.num_layers, DEEPEST - 1)))
    if not shallow:  # a shot of one chunk has no later steps, and commits nothing
        return {}
    if config.num_layers >= DEEPEST:
        peaks = _of_more_layers(first, shallow, measure)
    if blocks and config.control_blocks > 1:
        two = replace(config.first_layers(DEEPEST - 1), control_blocks=2)
        each = max(measure(two).values()) - max(shallow.values())
        added = (config.control_blocks - 1) * each
        peaks = {place: count + added for place, count in peaks.items()}
    return peaks


def _of_more_layers(
    config: DiTConfig, shallow: Peaks, measure: Callable[[DiTConfig], Peaks]
) -> Peaks:
    """Bytes by place from those of two layers.

    Layers that take keys and a mouse come first. The last one takes none, so that rehearsals end
    with one that takes none.
    """
    layers, action = config.num_layers, config.action
    if action is None or action.blocks == layers:
        deep = measure(config.first_layers(DEEPEST))
        return _grow(deep, shallow, deep, layers - DEEPEST)
    few, plain = (measure(config.first_layers(count, 1)) for count in (DEEPEST - 1, DEEPEST))
    rehearsed = min(action.blocks, DEEPEST - 1)
    deep = plain if rehearsed == 1 else measure(config.first_layers(DEEPEST, rehearsed))
    more = action.blocks - rehearsed
    return _grow(_grow(deep, few, deep, more), few, plain, layers - DEEPEST - more)


def _grow(peaks: Peaks, less: Peaks, more: Peaks, times: int) -> Peaks:
    """`peaks` grown so many `times` by the difference of two rehearsals.

    Layers between the first and the last one grow as the last one does.
    """

    def growth(place: Place) -> int:
        alike = place if place in less else (place[0], LAST)
        return more[alike] - less[alike]

    return {place: count + times * growth(place) for place, count in peaks.items()}


def max_bytes(settings: RolloutSettings, config: ModelConfig, dtype: torch.dtype) -> int:
    """An upper bound of the plan without a rehearsal."""
    if isinstance(config, RecurrentConfig):
        branches = len(settings.guidance.all_branches)
        values = branches * recurrent.max_values(settings, config)
    else:
        values = _max_values(settings, config, dtype)
    return (
        _scores_at_any_length(settings, config)
        + _beginning(settings)
        + planned_bytes(settings, config, dtype)
        + FLOAT32_BYTES * values
    )


def _max_values(settings: RolloutSettings, config: DiTConfig, dtype: torch.dtype) -> int:
    """An upper bound of the float32 values that a pass of a transformer holds.

    Counts the float32 values that a pass may hold per token: of active latent frames, of the
    rotated or cut history, of prompts, and of the candidates that an index examines at once.
    """
    plans = cache_plans(settings, config, dtype)
    shapes = [plan.shape for plan in plans]
    branches = max(len(settings.guidance.all_branches), *(shape.batch for shape in shapes))
    active = settings.pass_frames * shapes[0].frame_tokens
    waiting = settings.pass_frames if settings.cache.keeps_leavers else 0
    frames = capacity(settings.cache, settings.length) + settings.cache.extra_frames + waiting
    history = frames * shapes[0].frame_tokens
    words = settings.prompts_at_once * settings.prompts.negative.shape[0]
    of_layers = 2 * config.num_layers * (active + words)
    tokens = of_layers + 32 * (active + words) + 12 * history
    tokens += 3 * active if settings.feature_caching else 0
    candidates = 2 * config.num_heads * GATHERED if settings.cache.remembers else 0
    values = branches * (tokens * config.dim + 2 * active * config.ffn_dim + candidates)
    if config.camera != "none":
        module = CAMERA_MODULES[config.camera]
        read = branches * (active + history) if module.reads_history else active
        values += read * module.max_values_per_token(config)
    if settings.control is not None:
        text = 2 * config.control_blocks * words
        values += branches * ((text + 32 * active) * config.dim + 2 * active * config.ffn_dim)
    return values


def _at_any_length(settings: RolloutSettings, measure: Callable[[RolloutSettings], Peaks]) -> int:
    """The largest part that `measure` finds, or would find where the shot is too long for that."""
    shots = shorter_shots(settings)
    if shots is None:
        return max(measure(settings).values(), default=0)
    (shorter, fewer), (longer, more) = ((shot.length or 0, measure(shot)) for shot in shots)
    length = settings.length or 0
    samples = ([(shorter, fewer.get(at, count)), (longer, count)] for at, count in more.items())
    return max((extrapolate(sample, length) for sample in samples), default=0)


def _scores_at_any_length(settings: RolloutSettings, config: ModelConfig) -> int:
    return _at_any_length(settings, lambda shot: {(0, "score"): _score_bytes(shot, config)})


def _beginning(settings: RolloutSettings) -> int:
    """Bytes of the VAE that re-encodes the oldest latent frame, between passes."""
    return settings.reencoded_first_frame.room_bytes if settings.reencoded_first_frame else 0


def _score_bytes(settings: RolloutSettings, config: ModelConfig) -> int:
    """Bytes of the largest score gradient, beside the predictions that it is added to.

    Measured in the middle of a video, where the decoder looks back, unless all frames are made at
    once.
    """
    pulls = settings.guidance.weighted_scores
    if not pulls:
        return 0
    shape = settings.active_frames, config.out_channels, settings.rows, settings.columns
    x = torch.empty(shape, device=META)
    finished = SCORE_LOOKBACK_FRAMES if settings.length is None else settings.length - len(x)
    before = x.new_empty(min(finished, SCORE_LOOKBACK_FRAMES), *shape[1:])
    beside = (len(settings.guidance.all_branches) + 3) * x.nbytes + before.nbytes
    scores = [on_device(pull.score, META) for pull in pulls]
    slopes = (partial(slope_of, score, x, before, 0) for score in scores)
    return max(beside + peak_bytes(slope) for slope in slopes)
