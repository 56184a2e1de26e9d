"""Plans a rollout's memory beside the model's weights.

The plan is a rehearsal: the sampling loop's own code on a model without weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ...attention.ann.buckets import GATHERED
from ...attention.cache.policy import capacity
from ...attention.cache.prompt_keys import PromptKeys
from ...attention.kernels.biased import simulate_device
from ...model.config import DiTConfig
from ...model.memory import META, peak_bytes, shape_only
from ..branches import Branches
from ..conditioning.known_frame import LookaheadFrames
from ..conditioning.prompts import PromptTimeline
from ..current import CurrentSettings
from ..denoiser import Denoiser, LocalHost
from ..guidance.score import SCORE_LOOKBACK_FRAMES, on_device, slope_of
from ..history.frames import HistoryFrame
from ..history.plan import cache_plans, planned_bytes
from ..loop import by_chunk
from ..schedule.row import Row
from ..settings import RolloutSettings

REHEARSED_LAYERS = 1, 2  # layers are alike, so each further one adds what the second adds

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
) -> RolloutMemory:
    """Plan a rollout on `device`; an endless full history counts only as it starts.

    `working_bytes` = max(step, commit, score gradient, first-frame re-encoding). Step and commit
    are measured in the worst case: prompts projected, history full, keys not yet rotated (as after
    a resume).
    """
    working = max(_scores(settings, config), _beginning(settings))
    for part in (_step, _commit):
        with simulate_device(device):
            one, two = (
                part(settings, replace(config, num_layers=layers), dtype)
                for layers in REHEARSED_LAYERS
            )
        working = max(working, one + (config.num_layers - 1) * (two - one))
    return RolloutMemory(planned_bytes(settings, config, dtype), working)


def max_bytes(settings: RolloutSettings, config: DiTConfig, dtype: torch.dtype) -> int:
    """An upper bound of the plan without a rehearsal.

    Counts the float32 values that a pass may hold per token: of active latent frames, of the
    rotated or cut history, of prompts, and of the candidates that an index examines at once.
    """
    shapes = [plan.shape for plan in cache_plans(settings, config, dtype)]
    branches = max(len(settings.guidance.all_branches), *(shape.batch for shape in shapes))
    active = settings.pass_frames * shapes[0].frame_tokens
    frames = capacity(settings.cache, settings.length) + settings.cache.extra_frames
    history = frames * shapes[0].frame_tokens
    words = settings.prompts_at_once * settings.prompts.negative.shape[0]
    of_layers = 2 * config.num_layers * (active + words)
    tokens = of_layers + 32 * (active + words) + 12 * history
    candidates = 2 * config.num_heads * GATHERED if settings.cache.remembers else 0
    values = branches * (tokens * config.dim + 2 * active * config.ffn_dim + candidates)
    return (
        _scores(settings, config)
        + _beginning(settings)
        + planned_bytes(settings, config, dtype)
        + FLOAT32_BYTES * values
    )


def _step(settings: RolloutSettings, config: DiTConfig, dtype: torch.dtype) -> int:
    """Bytes of a step with the maximum of active latent frames.

    With sparse attention the last row of the chunk is measured too.
    """
    first = _frames_before(settings)
    branches = _rehearsal(settings, config, dtype, first)
    rows = next(by_chunk(settings.noise_rows(first)))
    wanted = rows[:1] if settings.sparsity.self_sparsity is None else [rows[0], rows[-1]]

    def run() -> None:
        for row in wanted:  # dense at first; what is sparse later takes memory of its own
            branches.velocity(*_example_inputs(branches, row, settings.known_frames.max_lookahead))

    return peak_bytes(_with_prompts(branches, first, run))


def _example_inputs(
    branches: Branches, row: Row, ahead: int
) -> tuple[Tensor, Row, LookaheadFrames | None]:
    """A row with its latents and `ahead` known latent frames ahead of it."""
    x, later = (
        torch.empty(count, *branches.no_latents().shape[1:], device=META)
        for count in (len(row.frames), ahead)
    )
    stop = row.frames.stop
    seen = LookaheadFrames(range(stop, stop + ahead), later, [0.0] * ahead)
    return x, row, seen if ahead else None


def _commit(settings: RolloutSettings, config: DiTConfig, dtype: torch.dtype) -> int:
    """Bytes of committing the latent frames that finish together; the last ones never are."""
    first = _frames_before_commit(settings)
    if first < 0:
        return 0
    branches = _rehearsal(settings, config, dtype, first)
    count = next(row.finished for row in settings.noise_rows(first) if row.finished)
    clean = torch.empty(count, *branches.no_latents().shape[1:], device=META)
    return peak_bytes(_with_prompts(branches, first, lambda: branches.commit(first, clean)))


def _beginning(settings: RolloutSettings) -> int:
    """Bytes of the VAE that re-encodes the oldest latent frame, between passes."""
    return settings.reencoded_first_frame.room_bytes if settings.reencoded_first_frame else 0


def _scores(settings: RolloutSettings, config: DiTConfig) -> int:
    """Bytes of the largest score gradient, beside the predictions that it is added to.

    Measured in the middle of a video, where the decoder looks back, unless all frames are made at
    once.
    """
    shape = settings.active_frames, config.out_channels, settings.rows, settings.columns
    x, pulls = torch.empty(shape, device=META), settings.guidance.weighted_scores
    finished = SCORE_LOOKBACK_FRAMES if settings.length is None else settings.length - len(x)
    before = x.new_empty(min(finished, SCORE_LOOKBACK_FRAMES), *shape[1:])
    beside = (len(settings.guidance.all_branches) + 3) * x.nbytes + before.nbytes
    scores = [on_device(pull.score, META) for pull in pulls]
    slopes = (partial(slope_of, score, x, before, 0) for score in scores)
    return max((beside + peak_bytes(slope) for slope in slopes), default=0)


def _with_prompts(branches: Branches, first: int, run: Callable[[], object]) -> Callable[[], None]:
    def both() -> None:
        branches.use(branches.current.settings, first)
        run()

    return both


def _rehearsal(
    settings: RolloutSettings, config: DiTConfig, dtype: torch.dtype, first: int
) -> Branches:
    """Branches with caches filled as before latent frame `first`.

    Scores and the picture's CLIP features are left out: scores are measured separately.
    """
    settings = replace(
        settings,
        guidance=replace(settings.guidance, weighted_scores=()),
        prompts=_prompts_together(settings, first),
        reference=settings.reference and settings.reference.without_features(),
        reencoded_first_frame=None,
    )
    tree = shape_only(config, dtype)
    branches = Branches(CurrentSettings(settings), Denoiser(LocalHost(tree), config, META, dtype))
    branches.claim()
    history, latents = branches.history, branches.no_latents()
    held = min(first, capacity(settings.cache, settings.length))
    empty = latents.new_empty(latents.shape[1:])
    frames, chunk = range(first - held, first), settings.schedule.chunk_frames
    groups = (max(0, frame - settings.origin) // chunk for frame in frames)
    pairs = zip(frames, groups, strict=True)
    history.frames.assume([HistoryFrame(*pair, False, empty) for pair in pairs], committed=first)
    for plan, cache in zip(history.plans, history.caches, strict=True):
        s, count = plan.shape, min(held, capacity(plan.policy, settings.length))
        if count and plan.fill_mode != "rebuilt":
            kv = torch.empty(s.batch, count * s.frame_tokens, s.heads, s.head_dim, device=META)
            asked = PromptKeys((torch.empty(s.heads, s.head_dim, device=META),) * s.layers)
            for _ in range(min(plan.policy.chunks_until_full, -(-first // chunk))):
                cache.commit([(kv, kv)] * s.layers, asked)
            if settings.on_prompt_change == "flush":
                cache.retain(sorted(cache.kept_frames))  # frames between may have been forgotten
    history.sparse.history_changed()
    return branches


def _prompts_together(settings: RolloutSettings, first: int) -> PromptTimeline:
    """A timeline with the maximum number of prompts in force from latent frame `first` on."""
    prompt, chunk = settings.prompts.entries[0], settings.schedule.chunk_frames
    later = (replace(prompt, start_frame=first + i * chunk)
             for i in range(1, settings.prompts_at_once))  # fmt: skip
    return PromptTimeline((prompt, *later), settings.prompts.negative)


def _frames_before(settings: RolloutSettings) -> int:
    """A latent frame that leads a full row and has the longest history behind it."""
    chunk, active = settings.schedule.chunk_frames, settings.active_frames
    origin, length = settings.origin, settings.length
    most = capacity(settings.cache, settings.length)
    if length is not None:
        most = max(0, length - active)
    elif settings.cache.limit is None:
        most -= active
    chunks = -(-(most - origin) // chunk) if length is None else (most - origin) // chunk
    return max(0 if origin == length else origin, origin + chunks * chunk)


def _frames_before_commit(settings: RolloutSettings) -> int:
    """The first latent frame of the last committed chunk; negative if none is."""
    if settings.length is None:
        return _frames_before(settings)
    chunk, origin = settings.schedule.chunk_frames, settings.origin
    if next(row.finished for row in settings.noise_rows() if row.finished) == settings.length:
        return -1
    return origin + (settings.length - origin - 1) // chunk * chunk - chunk
