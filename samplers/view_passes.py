"""The passes of the model for the views that guidance combines: one for all, or one each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from .conditioning.known_frame import LookaheadFrames
from .current import CurrentSettings
from .evaluator import Evaluator, PassInputs
from .feature_caching import FeatureCache
from .guidance import Push
from .history.rollout_history import RolloutHistory
from .history.selection import CacheView
from .noise import LatentNoise
from .pass_attention import ChunkReading, PassVisibility, ViewReader
from .rules.reading import ReadingMoment
from .schedule.row import Row


@dataclass(frozen=True, slots=True)
class ViewPasses:
    """Evaluates the model for views of the `history` under the `current` settings and prompts."""

    current: CurrentSettings
    evaluator: Evaluator
    history: RolloutHistory
    noise: LatentNoise
    features: FeatureCache

    def predict(
        self, x: Tensor, row: Row, views: list[CacheView], ahead: LookaheadFrames | None
    ) -> Tensor:
        """Velocities (b, f, c, h, w) of all views: in one pass, or one after another.

        Views that see nothing ahead have fewer latent frames and so a pass of their own, and so
        have those that leave out the same layers.
        """
        passes = [[view] for view in views]
        if self.current.settings.guidance.in_one_pass:
            passes = [[*part] for _, part in groupby(views, _common)]
        return torch.cat([self._pass(x, row, part, ahead) for part in passes])

    def _pass(
        self, x: Tensor, row: Row, views: list[CacheView], ahead: LookaheadFrames | None
    ) -> Tensor:
        """Velocities (b, f, c, h, w) of the active frames for views with equal frames ahead."""
        known = [self._known_ahead(ahead, view.level_ahead, row.first) for view in views]
        frames, count = (*known[0].frames, *row.frames), len(known[0].frames)
        visibility = self._visibility(row, frames, count)
        inputs = PassInputs(
            torch.stack([torch.cat([part.latents, x]) for part in known]),
            frames,
            [(*part.levels, *row.now) for part in known],
            [view.prompt for view in views],
            ViewReader(views, self.history, frames, visibility.visible),
            [self.current.prompts.text_of(frame) for frame in frames],
            self._push(row, count),
            views[0].skipped or (),
            [(*part.levels, *self._targets(row)) for part in known],
        )
        attention = visibility.attention_for(views, self.history)
        cached = self.features.of(row, (self.evaluator, *views))
        return self.evaluator.evaluate(inputs, attention, cached=cached).velocity[:, count:]

    def _targets(self, row: Row) -> list[float]:
        """The levels to which the solver uses the velocities of the active frames."""
        target = self.current.settings.solver.target
        levels = zip(row.now, row.after, strict=True)
        return [now if now == after else target(now, after) for now, after in levels]

    def _push(self, row: Row, ahead: int) -> Push | None:
        """How attention to prompts is pushed; that of frames `ahead` is not."""
        guidance, started = self.current.settings.guidance, self.history.frames.committed > 0
        if guidance.normalized_attention is None:
            return None
        steps = zip(row.now, row.steps, strict=True)
        factors = [guidance.factor(level, step, started=started) for level, step in steps]
        return Push(guidance.normalized_attention, (*[0.0] * ahead, *factors))

    def _visibility(self, row: Row, frames: Sequence[int], count: int) -> PassVisibility:
        """What a pass of `frames` sees, the first `count` of which are known ones ahead."""
        visible = [count + seen for seen in self.current.settings.visible(row.frames)]
        offsets = [frame - row.first for frame in frames]
        furthest = [-row.first] * count if row.lowest else []  # frames ahead see all of the past
        lowest = [*furthest, *(frame - row.first for frame in row.lowest)]
        progress = [*[1.0] * count, *row.progress]
        readings = self._readings(row, count)
        return PassVisibility([count] * count + visible, offsets, lowest, progress, readings)

    def _readings(self, row: Row, ahead: int) -> list[ChunkReading]:
        """How each chunk of a row reads the history; frames `ahead` read as the first one does."""
        settings = self.current.settings
        rules = settings.memory.of_denoising
        if not rules:
            return []
        readings, start = list[ChunkReading](), 0
        by_chunk = groupby(range(len(row.now)), lambda i: settings.chunk_start(row.frames[i]))
        for _, numbers in by_chunk:
            first, *rest = numbers
            stop = ahead + first + len(rest) + 1
            size = settings.schedule.chunk_frames
            since = self.current.prompts.frames_since_change(row.frames[first])
            moment = ReadingMoment(size, row.steps[first], row.of_steps[first], since)
            readings.append(ChunkReading(range(start, stop), first, moment, rules))
            start = stop
        return readings

    def _known_ahead(
        self, ahead: LookaheadFrames | None, least: float | None, first: int
    ) -> LookaheadFrames:
        """The known frames ahead that a view sees: all at level `least` or above, or none."""
        if ahead is None or least is None:
            return LookaheadFrames((), self.noise.empty(), ())
        seed = self.current.settings.seed_at(first)
        parts = [self.noise.draw(seed, range(f, f + 1), 0, "start") for f in ahead.frames]
        return ahead.add_noise(torch.cat(parts), least, self.evaluator.process)


def _common(view: CacheView) -> tuple[object, ...]:
    """What views of one pass have in common: whether they see frames ahead, and their layers."""
    return view.level_ahead is None, view.skipped
