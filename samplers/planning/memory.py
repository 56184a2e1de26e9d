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
from ...attention.kernels.biased import simulate_device
from ...model.camera.modules import CAMERA_MODULES
from ...model.config import DiTConfig
from ...model.memory import META, peak_bytes, shape_only
from ...model.shape_memo import ShapeMemo
from ..guidance.score import SCORE_LOOKBACK_FRAMES, on_device, slope_of
from ..history.plan import bytes_of, cache_plans, planned_bytes
from ..settings import RolloutSettings
from .length_samples import extrapolate, shorter_shots
from .rehearsal import CheckInterrupted, Rehearsal

STEP_DEPTH = 1  # layers are alike: each further one adds what the next one adds
COMMIT_DEPTH = 2  # of the last layer a commit computes only keys and values

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
    config: DiTConfig,
    dtype: torch.dtype,
    device: torch.device = CPU,
    check_interrupted: CheckInterrupted = lambda: None,
    shapes: ShapeMemo | None = None,
) -> RolloutMemory:
    """Plan a rollout on `device`; an endless full history counts only as it starts.

    `working_bytes` = max(step, commit, score gradient, first-frame re-encoding). Step and commit
    are measured in the worst case: prompts projected, history full, keys not yet rotated (as after
    a resume). `check_interrupted` is called before every pass. `shapes` saves operations that
    another plan has rehearsed.
    """
    memo = shapes or ShapeMemo()
    with memo:
        deepest = min(config.num_layers, COMMIT_DEPTH + 1)
        tree = shape_only(replace(config, num_layers=deepest), dtype)

    def rehearsal(shot: RolloutSettings, layers: int, blocks: int) -> Rehearsal:
        size = replace(config, num_layers=layers, control_blocks=blocks)
        return Rehearsal(shot, tree, size, dtype, check_interrupted, memo)

    def step(shot: RolloutSettings) -> int:
        depth = COMMIT_DEPTH if _steps_commit(shot, config, dtype) else STEP_DEPTH
        return _of_all_layers(shot, config, depth, lambda *of: rehearsal(shot, *of).step())

    def commit(shot: RolloutSettings) -> int:
        return _of_all_layers(shot, config, COMMIT_DEPTH, lambda *of: rehearsal(shot, *of).commit())

    score = partial(_score_bytes, config=config)
    with simulate_device(device):  # each grows evenly with the length, the largest of them may not
        working = [_at_any_length(settings, part) for part in (step, commit, score)]
    kv_bytes = planned_bytes(settings, config, dtype)
    return RolloutMemory(kv_bytes, max(_beginning(settings), *working))


def _steps_commit(settings: RolloutSettings, config: DiTConfig, dtype: torch.dtype) -> bool:
    """Whether a cache is filled anew before a step, by passes that commit."""
    if settings.on_prompt_change == "re-cache":
        return True
    return any(plan.fill_mode != "committed" for plan in cache_plans(settings, config, dtype))


def _of_all_layers(
    settings: RolloutSettings,
    config: DiTConfig,
    depth: int,
    measure: Callable[[int, int], int],
) -> int:
    """Bytes of a pass through all layers, as `measure` gives them at `depth` and one layer deeper.

    `measure` takes numbers of layers and of blocks of a control module. A block's hint is computed
    in turn with its layer, so only its keys of the prompt add up.
    """
    blocks = min(1, config.control_blocks) if settings.control else 0
    shallow = min(config.num_layers, depth)
    by_depth = {shallow: measure(shallow, blocks)}
    total = by_depth[shallow]
    if config.num_layers > shallow:
        by_depth[shallow + 1] = measure(shallow + 1, blocks)
        total += (config.num_layers - shallow) * (by_depth[shallow + 1] - total)
    if blocks and config.control_blocks > 1:
        total += (config.control_blocks - 1) * (measure(2, 2) - by_depth[2])
    return total


def max_bytes(settings: RolloutSettings, config: DiTConfig, dtype: torch.dtype) -> int:
    """An upper bound of the plan without a rehearsal.

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
    candidates = 2 * config.num_heads * GATHERED if settings.cache.remembers else 0
    values = branches * (tokens * config.dim + 2 * active * config.ffn_dim + candidates)
    if config.camera != "none":
        module = CAMERA_MODULES[config.camera]
        read = active if module.second is None else active + history
        values += read * module.max_values_per_token(config.dim, config.num_layers)
    if settings.control is not None:
        text = 2 * config.control_blocks * words
        values += branches * ((text + 32 * active) * config.dim + 2 * active * config.ffn_dim)
    return (
        _at_any_length(settings, partial(_score_bytes, config=config))
        + _beginning(settings)
        + bytes_of(plans, settings.length)
        + FLOAT32_BYTES * values
    )


def _at_any_length(settings: RolloutSettings, measure: Callable[[RolloutSettings], int]) -> int:
    """What `measure` finds, or would find where the shot is too long to be measured itself."""
    shots = shorter_shots(settings)
    if shots is None:
        return measure(settings)
    return extrapolate([(shot.length or 0, measure(shot)) for shot in shots], settings.length or 0)


def _beginning(settings: RolloutSettings) -> int:
    """Bytes of the VAE that re-encodes the oldest latent frame, between passes."""
    return settings.reencoded_first_frame.room_bytes if settings.reencoded_first_frame else 0


def _score_bytes(settings: RolloutSettings, config: DiTConfig) -> int:
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
