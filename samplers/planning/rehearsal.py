"""Rehearses a step and a commit of the sampling loop on a model without weights.

Everything but numbers is real: the loop's own code runs, on tensors that have only a shape. A long
history is taken as there instead of being committed frame by frame, and of the passes that rebuild
it only the largest run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ...attention.cache.policy import capacity
from ...attention.cache.prompt_keys import PromptKeys
from ...attention.history import HistoryCache
from ...model.arithmetic.layers import Layers
from ...model.arithmetic.packed import PackedWeights
from ...model.config import DiTConfig
from ...model.forward import ModelConfig
from ...model.memory import META, Peaks, convolution_scratch, first_layers, peaks_by_place
from ...model.shape_memo import ShapeMemo
from ...model.vace.module import VaceModule, shape_only_module
from ..branches import Branches
from ..conditioning.known_frame import LookaheadFrames
from ..conditioning.reference import Reference
from ..control.example import example_control
from ..current import CurrentSettings
from ..denoiser import Denoiser, LocalHost
from ..guidance import Guidance, merge_branches
from ..history.filler import CacheFiller
from ..history.frames import HistoryFrame
from ..history.plan import CachePlan
from ..history.steady_state import commit_start
from ..loop import by_chunk
from ..schedule.row import Row
from ..settings import RolloutSettings
from .chunk_rows import (
    enough_history,
    first_with_history,
    frames_before,
    fullest,
    last_commit,
    leading_frames,
)
from .example_prompts import prompts_together

CheckInterrupted = Callable[[], None]
"""Raises if the user wants to stop; called before every pass."""


class RehearsalHost(LocalHost):
    """A host without weights that still lets the user stop."""

    def __init__(self, tree: object, check_interrupted: CheckInterrupted) -> None:
        super().__init__(tree)
        self._check = check_interrupted

    def check_interrupted(self) -> None:
        """Stop where the real host would."""
        self._check()


class RehearsalFiller(CacheFiller):
    """Rebuilds a cache by its largest passes alone."""

    def rebuild(self, plan: CachePlan, cache: HistoryCache) -> None:
        """Commit every group that is larger than all later ones; the others are there already.

        A pass takes more the longer the history before it and the more frames it commits.
        """
        groups = self.groups(plan)
        cache.restart([entry.frame for frames in groups for entry in frames])
        sizes = [len(group) for group in groups]
        later = [0, *accumulate(reversed(sizes), max)][-2::-1]  # the largest after each group
        for group, largest_later in zip(groups, later, strict=True):
            if len(group) > largest_later:
                self.recommit(plan, cache, group)
            else:
                cache.assume(len(group))


@dataclass(frozen=True)
class Rehearsal:
    """A rollout of the first layers of a model without weights, which the user may interrupt.

    `config` has the number of layers, and of blocks of a control module. `shapes` saves operations
    that another rehearsal has done.
    """

    settings: RolloutSettings
    tree: Any
    config: ModelConfig
    dtype: torch.dtype
    check_interrupted: CheckInterrupted
    shapes: ShapeMemo

    def step(self) -> Peaks:
        """Bytes of a step, by place, with the maximum of active latent frames.

        With sparse attention the last row of the chunk is measured too, with feature caching
        another one, beside what it may take over, and with known frames ahead also a row without.
        """
        return self._steps(leading_frames(self.settings))

    def later_steps(self) -> Peaks:
        """Bytes of a step of later chunks, if the fullest has too little history for all views."""
        begins = frames_before(self.settings) < enough_history(self.settings)
        return self._steps(first_with_history(self.settings) if begins else [])

    def _steps(self, leading: Sequence[int]) -> Peaks:
        """Bytes, by place, of steps of the chunks from these latent frames on.

        Their passes are numbered through: each grows evenly with the shot, but not the largest.
        """
        peaks: Peaks = {}
        for first in leading:
            passes = 1 + max((number for number, _ in peaks), default=-1)
            for (number, part), count in self._step(first).items():
                peaks[passes + number, part] = count
        return peaks

    def _step(self, first: int) -> Peaks:
        settings, branches = self.settings, self._branches(first)
        rows = next(by_chunk(settings.noise_rows(first)))
        count = 2 if settings.feature_caching else 1
        rehearsed = fullest(rows, count, settings.guidance)
        if settings.sparsity.self_sparsity is not None:
            rehearsed.append(rows[-1])
        ahead = settings.known_frames.max_lookahead

        def run() -> None:
            for count in sorted({0, ahead}):  # views that see nothing ahead then share a pass
                for row in rehearsed:  # dense at first; sparse later takes memory of its own
                    branches.velocity(*_example_inputs(branches, row, count))

        return self._peaks(_with_prompts(branches, first, run))

    def commit(self) -> Peaks:
        """Bytes of the last commit, by place; the frames that finish last are never committed.

        It follows another commit, as in a replay, and so rotates the keys of the history.
        """
        return self._commit(after=lambda branches, first: None)

    def commit_after_step(self) -> Peaks:
        """Bytes of the last commit behind a step, whose passes leave their rows of prompts."""

        def step(branches: Branches, first: int) -> None:
            rows = next(by_chunk(self.settings.noise_rows(first)))
            [row] = fullest(rows, 1, self.settings.guidance)
            branches.velocity(*_example_inputs(branches, row, 0))

        return self._commit(after=step)

    def _commit(self, after: Callable[[Branches, int], object]) -> Peaks:
        last = last_commit(self.settings)
        if last is None:
            return {}
        first, count = last
        branches = self._branches(first)
        clean = torch.empty(count, *branches.no_latents().shape[1:], device=META)

        def run() -> None:
            after(branches, first)
            branches.commit(first, clean)

        return self._peaks(_with_prompts(branches, first, run))

    def _peaks(self, run: Callable[[], object]) -> Peaks:
        return peaks_by_place(run, self._tree, convolution_scratch, self.shapes)

    @cached_property
    def _tree(self) -> Any:
        return first_layers(self.tree, self.config.num_layers)

    def _reference(self) -> Reference | None:
        """The picture, with CLIP features only where they stand in for a prompt."""
        reference = self.settings.reference
        return reference.without_features() if reference and self.config.reads_prompt else reference

    def _module(self) -> VaceModule | None:
        config = self.config
        if not isinstance(config, DiTConfig) or not config.control_blocks:
            return None
        return shape_only_module(config, self.dtype)

    def _branches(self, first: int) -> Branches:
        """Branches with caches filled as before latent frame `first`.

        Scores and the picture's CLIP features are left out: scores are measured separately.
        """
        settings = replace(
            self.settings,
            guidance=_with_all_layers(self.settings.guidance),
            prompts=prompts_together(self.settings, first),
            reference=self._reference(),
            reencoded_first_frame=None,
            control=self.settings.control and example_control(self.settings.control),
        )
        with self.shapes:
            host = RehearsalHost(self._tree, self.check_interrupted)
            model = Denoiser(
                host, self.config, META, self.dtype, control=self._module(),
                layers=Layers(packed=PackedWeights()),
            )  # fmt: skip
            branches = Branches(CurrentSettings(settings), model, RehearsalFiller)
            branches.claim()
            _fill(branches, settings, first)
        return branches


def _with_all_layers(guidance: Guidance) -> Guidance:
    """The same passes, none of which leaves out layers: a few layers stand for all. No scores."""
    whole = (
        replace(branch, skipped=branch.skipped and replace(branch.skipped, layers=()))
        for branch in guidance.branches
    )
    return replace(guidance, branches=merge_branches(whole), weighted_scores=())


def _fill(branches: Branches, settings: RolloutSettings, first: int) -> None:
    """Fill the history as before latent frame `first`."""
    history, latents = branches.history, branches.no_latents()
    frame_count = min(first, capacity(settings.cache, settings.length))
    empty = latents.new_empty(latents.shape[1:])
    sink = min(settings.cache.sink_frames, frame_count)
    numbers = (*range(sink), *range(first - frame_count + sink, first))
    group = _groups(settings, first)
    frames = [HistoryFrame(at, group(at), False, empty) for at in numbers]
    history.frames.assume(frames, committed=first)
    chunks = -(-first // settings.schedule.chunk_frames)
    for plan, cache in zip(history.plans, history.caches, strict=True):
        waiting = plan.shape.chunk_frames if plan.policy.keeps_leavers else 0
        count = min(first, frame_count + waiting, capacity(plan.policy, settings.length) + waiting)
        if count and plan.fill_mode != "rebuilt":
            _fill_cache(plan, cache, count, min(plan.policy.chunks_until_full, chunks))
            if settings.on_prompt_change == "flush" and not plan.policy.extra_frames:
                cache.retain(sorted(cache.kept_frames))  # frames between may have been forgotten
    history.sparse.history_changed()


def _groups(settings: RolloutSettings, first: int) -> Callable[[int], int]:
    """The first frame of the commit of a frame before `first`.

    Where chunks start less than a row apart, as many are committed together as ever.
    """
    last, chunk = last_commit(settings), settings.schedule.chunk_frames
    count = chunk if last is None else last[1]
    if count <= chunk:
        return partial(commit_start, settings)
    opening = 0 if settings.origin else count  # a shot begins with as many; a sink holds them

    def start(frame: int) -> int:
        if frame < opening:
            return 0
        return max(opening, first - count * -(-(first - frame) // count))

    return start


def _fill_cache(plan: CachePlan, cache: HistoryCache, count: int, commits: int) -> None:
    """Have a cache hold `count` frames, the last of them by `commits`.

    A commit is of one frame, but of a chunk where frames that leave the window wait as a chunk.
    """
    s = plan.shape
    frames = min(s.chunk_frames, count) if plan.policy.keeps_leavers else 1
    cache.assume(max(0, count - commits * frames))
    tokens = frames * s.frame_tokens
    layers = [torch.empty(s.batch, tokens, *heads, device=META) for heads in s.all_layers]
    prompt_keys = PromptKeys((torch.empty(s.heads, s.head_dim, device=META),) * s.layers)
    for _ in range(commits):
        cache.commit([(kv, kv) for kv in layers], prompt_keys)


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


def _with_prompts(branches: Branches, first: int, run: Callable[[], object]) -> Callable[[], None]:
    def both() -> None:
        branches.use(branches.current.settings, first)
        run()

    return both
