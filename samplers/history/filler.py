"""Passes that fill a KV cache: commits of finished chunks, rebuilds, and chunks of pure noise."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from ...attention.cache.prompt_keys import PromptKeys
from ...attention.history import HistoryCache
from ...attention.layout import key_reader
from ...machine.uploads import upload_numbers
from ...model.dit import SelfAttention
from ..current import CurrentSettings
from ..evaluator import Evaluator, PassInputs
from ..noise import LatentNoise
from ..rules.reading import ReadingMoment
from ..settings import RolloutSettings
from ..solvers.noise_process import mix
from .extent import extent
from .frames import HistoryFrame, HistoryFrames
from .plan import CachePlan, CacheRow
from .reads import CommitReader


class CacheFiller:
    """Fills KV caches with `frames` under the settings and prompts in force."""

    def __init__(
        self, current: CurrentSettings, evaluator: Evaluator, frames: HistoryFrames
    ) -> None:
        self._current, self._evaluator, self._frames = current, evaluator, frames
        self._noise = LatentNoise.of(current.settings, evaluator.model)

    @property
    def _settings(self) -> RolloutSettings:
        return self._current.settings

    def commit(
        self, plan: CachePlan, cache: HistoryCache, frames: Sequence[HistoryFrame], clean: Tensor
    ) -> None:
        """Commit clean latents (f, c, h, w), each cache row at its own noise levels."""
        levels = [[self._level(row, frame) for frame in frames] for row in plan.rows]
        x = torch.stack(
            [self._add_noise(row, frames, clean, levels[i]) for i, row in enumerate(plan.rows)]
        )  # (b, f, c, h, w)
        timed = plan.fill_mode == "committed"  # a rebuilt cache is under the prompt in force alone
        texts = [self._current.prompts.text_of(entry.frame) for entry in frames] if timed else ()
        self._pass(plan, cache, frames[0].frame, x, levels, texts)

    def rebuild(self, plan: CachePlan, cache: HistoryCache) -> None:
        """Commit again, group by group, all frames that the cache shows."""
        groups = self.groups(plan)
        cache.restart([entry.frame for frames in groups for entry in frames])
        for frames in groups:
            self.recommit(plan, cache, frames)

    def groups(self, plan: CachePlan) -> list[list[HistoryFrame]]:
        """The frames that a cache shows, oldest first, those that were committed together."""
        ranks = plan.frames.ranks(self._frames.numbers, self._settings.cache.sink_frames)
        chosen = (self._frames.frames[rank] for rank in ranks)
        return [[*group] for _, group in groupby(chosen, lambda entry: entry.group)]

    def recommit(
        self, plan: CachePlan, cache: HistoryCache, frames: Sequence[HistoryFrame]
    ) -> None:
        """Commit frames that were committed together once again."""
        self.commit(plan, cache, frames, torch.stack([self._clean(entry) for entry in frames]))

    def fill_with_noise(self, plan: CachePlan, cache: HistoryCache) -> None:
        """Commit pure noise until the cache is exactly as long as the history.

        The noise comes in whole chunks counted back from the newest frame, as a history does after
        given frames or a shorter first chunk. Where a front, a flush or a window changes what is
        left over for the oldest chunk, the noise is passed anew; so it depends on the history's
        length alone.
        """
        s, count = self._settings, len(self._frames)
        size = s.schedule.chunk_frames
        done = len(cache.kept_frames)
        if done > count or (count - done) % size:
            cache.clear()
            done = 0
        while done < count:
            frames = range(done, done + ((count - done) % size or size))
            noise = self._noise.draw(s.seed, frames, 0, "masked history")
            x = noise.expand(len(plan.rows), -1, -1, -1, -1)
            self._pass(plan, cache, done, x, [[1.0] * len(frames)] * len(plan.rows))
            done = frames.stop

    def _clean(self, entry: HistoryFrame) -> Tensor:
        """Clean latents (c, h, w) of a frame in a rebuilt history.

        Settings may ask that the oldest frame is re-encoded as the first frame of a video.
        """
        assert entry.latents is not None  # kept for rebuilding
        reencoded = self._settings.reencoded_first_frame
        if reencoded is None or entry is not self._frames.frames[0] or entry.frame == 0:
            return entry.latents
        return reencoded.latent(torch.stack([*self._frames.departed, entry.latents]))

    def _pass(  # noqa: PLR0913
        self,
        plan: CachePlan,
        cache: HistoryCache,
        first: int,
        x: Tensor,
        levels: Sequence[Sequence[float]],
        texts: Sequence[int] = (),
    ) -> None:
        """Pass x (b, f, c, h, w), the latent frames from `first`, and keep keys and values."""
        prompts = [row.prompt for row in plan.rows]
        frames = range(first, first + x.shape[1])
        visible = self._visible(plan, frames)
        attention, observed = self._attention_of_commit(plan, cache, frames, visible)
        reader = CommitReader(plan, cache, self._frames, self._settings.cache.sink_frames, visible)
        coarse = cache.is_coarse(len(frames))
        inputs = PassInputs(x, frames, levels, prompts, reader, texts, coarse=coarse)
        prediction = self._evaluator.evaluate(inputs, attention, keep=True, whole=observed)
        cache.commit(prediction.keys_values, self._prompt_keys(plan))

    def _visible(self, plan: CachePlan, frames: range) -> Sequence[int]:
        """How many of finished `frames` each of them sees when they are committed."""
        if plan.fill_mode == "noise":  # numbered from 0, not from the origin
            return (len(frames),) * len(frames)
        return self._settings.visible(frames)

    def _attention_of_commit(
        self, plan: CachePlan, cache: HistoryCache, frames: range, visible: Sequence[int]
    ) -> tuple[SelfAttention, bool]:
        """What finished `frames` see when they are committed, under the rules of commits.

        Also whether the cache looks at the attention of every layer.
        """
        settings = self._settings
        cache.leave_gap(settings.position_gap(frames.start, len(cache.kept_frames)))
        attention = cache.attention_of_commit(visible)
        rules = settings.memory.of_commits
        if not rules:
            return attention, attention.is_observed
        moment = ReadingMoment(settings.schedule.chunk_frames, 1, 1)
        ends = extent(plan, cache, settings.cache.sink_frames)
        ruled = ends.weigh(key_reader(attention), rules, moment, range(len(frames)))
        return ruled, attention.is_observed

    def _prompt_keys(self, plan: CachePlan) -> PromptKeys | None:
        """The keys of the base prompt, for a cache whose policy follows the prompt."""
        if not plan.policy.follows_prompt:
            return None
        prompts = [row.prompt for row in plan.rows]
        followed = self._settings.guidance.base
        row = prompts.index(followed) if followed in prompts else 0
        return self._evaluator.prompt_keys(prompts[row], row)

    def _level(self, row: CacheRow, entry: HistoryFrame) -> float:
        """The noise level at which a cache row shows a frame.

        A noisy view is never cleaner than the history that it is compared with.
        """
        age = self._frames.frames[-1].frame + 1 - entry.frame
        stabilising = 0.0 if entry.known else self._settings.guidance.stabilise
        return max(row.level, self._settings.context_noise.at(age), stabilising)

    def _add_noise(
        self, row: CacheRow, frames: Sequence[HistoryFrame], clean: Tensor, levels: Sequence[float]
    ) -> Tensor:
        """Clean latents (f, c, h, w) with noise to match their levels."""
        if not any(levels):
            return clean
        s = self._settings
        step = self._frames.committed if s.context_noise.fresh and row.level == 0 else 0
        purpose = "fractional history" if row.level > 0 else "context"
        noise = torch.cat([
            self._noise.draw(s.seed_at(entry.group), entry.as_range, step, purpose)
            for entry in frames
        ])  # fmt: skip
        level = upload_numbers(levels, clean).view(-1, 1, 1, 1)
        return mix(self._evaluator.process, clean, noise, level)
