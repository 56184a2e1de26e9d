"""Rehearses a step and a commit of the sampling loop on a model without weights.

Everything but numbers is real: the loop's own code runs, on tensors that have only a shape. A long
history is taken as there instead of being committed frame by frame, and of the passes that rebuild
it only the largest run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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
from ..conditioning.prompts import PromptTimeline
from ..conditioning.reference import Reference
from ..control.example import example_control
from ..current import CurrentSettings
from ..denoiser import Denoiser, LocalHost
from ..history.filler import CacheFiller
from ..history.frames import HistoryFrame
from ..history.plan import CachePlan
from ..history.steady_state import commit_start
from ..loop import by_chunk
from ..schedule.row import Row
from ..settings import RolloutSettings
from .chunk_rows import first_with_history, frames_before, fullest, last_commit, leading_frames

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
        """The same of later chunks, if the fullest one has no history that guidance may look at."""
        begins = frames_before(self.settings) == 0
        return self._steps(first_with_history(self.settings) if begins else [])

    def _steps(self, leading: Sequence[int]) -> Peaks:
        """The most bytes, by place, of steps of the chunks from these latent frames on."""
        peaks: Peaks = {}
        for first in leading:
            for place, count in self._step(first).items():
                peaks[place] = max(count, peaks.get(place, 0))
        return peaks

    def _step(self, first: int) -> Peaks:
        settings, branches = self.settings, self._branches(first)
        rows = next(by_chunk(settings.noise_rows(first)))
        rehearsed = fullest(rows, 2 if settings.feature_caching else 1)
        if settings.sparsity.self_sparsity is not None:
            rehearsed.append(rows[-1])
        ahead = settings.known_frames.max_lookahead

        def run() -> None:
            for count in sorted({0, ahead}):  # views that see nothing ahead then share a pass
                for row in rehearsed:  # dense at first; sparse later takes memory of its own
                    branches.velocity(*_example_inputs(branches, row, count))

        return self._peaks(_with_prompts(branches, first, run))

    def commit(self) -> Peaks:
        """Bytes of the last commit, by place; the frames that finish last are never committed."""
        last = last_commit(self.settings)
        if last is None:
            return {}
        first, count = last
        branches = self._branches(first)
        clean = torch.empty(count, *branches.no_latents().shape[1:], device=META)
        return self._peaks(_with_prompts(branches, first, lambda: branches.commit(first, clean)))

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
            guidance=replace(self.settings.guidance, weighted_scores=()),
            prompts=_prompts_together(self.settings, first),
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


def _fill(branches: Branches, settings: RolloutSettings, first: int) -> None:
    """Fill the history as before latent frame `first`."""
    history, latents = branches.history, branches.no_latents()
    frame_count = min(first, capacity(settings.cache, settings.length))
    empty = latents.new_empty(latents.shape[1:])
    numbers = range(first - frame_count, first)
    frames = [HistoryFrame(at, commit_start(settings, at), False, empty) for at in numbers]
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


def _fill_cache(plan: CachePlan, cache: HistoryCache, count: int, commits: int) -> None:
    """Have a cache hold `count` frames, the last of them by `commits`.

    A commit is of one frame, but of a chunk where frames that leave the window wait as a chunk.
    """
    s = plan.shape
    frames = min(s.chunk_frames, count) if plan.policy.keeps_leavers else 1
    cache.assume(max(0, count - commits * frames))
    tokens = frames * s.frame_tokens
    layers = [torch.empty(s.batch, tokens, *heads, device=META) for heads in s.all_layers]
    asked = PromptKeys((torch.empty(s.heads, s.head_dim, device=META),) * s.layers)
    for _ in range(commits):
        cache.commit([(kv, kv) for kv in layers], asked)


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


def _prompts_together(settings: RolloutSettings, first: int) -> PromptTimeline:
    """A timeline with the maximum number of prompts in force from latent frame `first` on."""
    prompt, chunk = settings.prompts.entries[0], settings.schedule.chunk_frames
    later = (replace(prompt, start_frame=first + i * chunk)
             for i in range(1, settings.prompts_at_once))  # fmt: skip
    return PromptTimeline((prompt, *later), settings.prompts.negative)
