"""Model evaluations of any chunk of a shot, counted as a run makes them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice

import torch

from ...model.forward import ModelConfig
from ..guidance import AgeRange, Branch, Guidance
from ..guidance.terms import weights_by_view
from ..history.plan import CachePlan, cache_plans
from ..history.selection import select
from ..history.steady_state import HeldFrames, count_commits, held_before, steady_chunk
from ..loop import by_chunk
from ..schedule.row import Row
from ..settings import RolloutSettings


def prompt_changes(settings: RolloutSettings) -> list[int]:
    """The first latent frames of the chunks before which the prompt changes."""
    starts = {settings.next_chunk(entry.start_frame) for entry in settings.prompts.entries}
    return sorted(at for at in starts if at > 0 and _is_made(settings, at))


def _is_made(settings: RolloutSettings, first: int) -> bool:
    return settings.length is None or first < settings.length


@dataclass(frozen=True)
class ChunkEvaluations:
    """Counts evaluations of chunks that take the steps of the second one, or of the only one.

    Before the chunks at `changes`, the prompt changes. Each chunk is committed when the next one
    begins. Other caches are filled where a step reads them. A guidance of other branches has caches
    of its own, and what it commits of earlier chunks does not count.
    """

    settings: RolloutSettings
    config: ModelConfig
    dtype: torch.dtype
    changes: Sequence[int] = ()
    _plans: dict[object, tuple[CachePlan, ...]] = field(default_factory=dict)

    def at(self, first: int) -> tuple[int, int]:
        """Evaluations of the chunk at latent frame `first`: by its steps, and to fill caches."""
        steps, read = self._steps(first)
        fills = 0
        for i, plan in enumerate(self._plans_at(first)):
            if plan.fill_mode == "committed":
                fills += len(plan.rows) * self._commits(first)
            elif i in read:
                fills += len(plan.rows) * self._passes(i, first)
        return steps, fills

    @property
    def typical(self) -> int:
        """The first latent frame of a chunk with a full window, or of the last one."""
        return self.settings.origin if self._are_together else steady_chunk(self.settings)

    @property
    def dear(self) -> list[int]:
        """The first latent frames of chunks, one of which has the most evaluations.

        What a chunk reads and fills changes in another way only where the window or the range of a
        view becomes full, and where guidance or prompt change.
        """
        s, size = self.settings, self.settings.schedule.chunk_frames
        if self._are_together:
            return [s.origin]
        views = [branch.view.frames for branch in s.guidance.all_branches]
        ages = [view.oldest for view in views if isinstance(view, AgeRange)]
        full = [count for count in (s.cache.limit, *ages) if count is not None]
        flushes = self.changes if s.on_prompt_change == "flush" else ()
        begins = [0, *(at - 1 - s.cache.sink_frames for at in flushes)]
        guided = [change.start_frame for change in s.guidance_changes]
        turns = [s.next_chunk(at) for at in (*guided, *(b + n for b in begins for n in full))]
        near = (at + more for at in turns for more in (-size, 0, size))
        starts = {s.origin, s.origin + size, steady_chunk(s), *self.changes, *near}
        return sorted(at for at in starts if at >= 0 and _is_made(s, at))

    def _commits(self, first: int) -> int:
        """The passes that commit the last chunk, and all others again for another prompt."""
        changed = first in self.changes and self.settings.on_prompt_change == "re-cache"
        again = count_commits(self.settings, self._history(first)) if changed else 0
        return (first > 0) + again

    def _passes(self, cache: int, first: int) -> int:
        """The passes that fill a cache which no commit fills."""
        plan, settings, frames = self._plans_at(first)[cache], self.settings, self._history(first)
        if plan.fill_mode == "rebuilt":
            seen = plan.frames.ranks(frames, settings.cache.sink_frames)
            return count_commits(settings, frames[seen.start : seen.stop])
        size, missing = settings.schedule.chunk_frames, len(frames) - self._filled(cache, first)
        begins_anew = missing < 0 or missing % size
        return -(-(len(frames) if begins_anew else missing) // size)

    def _filled(self, cache: int, first: int) -> int:
        """The latent frames of pure noise that a cache has from earlier chunks."""
        s, inputs = self.settings, self._guidance_at(first).inputs
        begun = max([s.origin, *(at for at in self.changes if at <= first)])
        guided = [s.next_chunk(change.start_frame) for change in s.guidance_changes]
        for stop in (first, *(at for at in reversed(guided) if at < first)):
            before = stop - s.schedule.chunk_frames
            if before < begun or self._guidance_at(before).inputs != inputs:
                return 0
            if cache in self._steps(before)[1]:
                return len(self._history(before))
        return 0

    def _history(self, first: int) -> HeldFrames:
        """The history before the chunk at `first`."""
        flushes = self.settings.on_prompt_change == "flush"
        flushed = [at for at in self.changes if at <= first] if flushes else []
        return held_before(self.settings, first, flushed[-1] if flushed else 0)

    def _steps(self, first: int) -> tuple[int, set[int]]:
        """The evaluations by the steps of a chunk, and the caches that they read."""
        s, frames, read = self.settings, self._history(first), set[int]()
        guidance, plans = self._guidance_at(first), self._plans_at(first)

        def seen(branch: Branch) -> Hashable:
            chosen = select(branch, plans, s, frames, first)
            if not chosen.is_nothing:
                read.add(chosen.cache)
            return branch.prompt, chosen, branch.skipped

        count = 0
        for row in self._rows if first >= s.origin else ():
            by_step = dict.fromkeys(zip(row.now, row.steps, strict=True))
            weights = [guidance.weights(*at, started=first > 0) for at in by_step]
            levels = [level for level, _ in by_step]
            count += len(weights_by_view(guidance, weights, levels, seen))
        return count, read

    def _guidance_at(self, first: int) -> Guidance:
        changes = self.settings.guidance_changes
        past = [change.guidance for change in changes if change.start_frame <= first]
        return past[-1] if past else self.settings.guidance

    def _plans_at(self, first: int) -> Sequence[CachePlan]:
        """The caches of one history under the guidance of the chunk at `first`."""
        guidance = self._guidance_at(first)
        if guidance.inputs not in self._plans:
            settings = replace(self.settings, guidance=guidance)
            self._plans[guidance.inputs] = cache_plans(settings, self.config, self.dtype)
        return self._plans[guidance.inputs]

    @property
    def _rows(self) -> list[Row]:
        """The rows of the second chunk that is generated, or of the only one; empty without one."""
        return self._two_chunks[-1] if self._two_chunks else []

    @property
    def _are_together(self) -> bool:
        """Whether all latent frames that are generated become clean together."""
        return len(self._two_chunks) == 1

    @cached_property
    def _two_chunks(self) -> list[list[Row]]:
        """The rows of the first two chunks of a shot that is long enough for these."""
        schedule, length, origin = (
            self.settings.schedule,
            self.settings.length,
            self.settings.origin,
        )
        if length is not None:
            made = length - origin
            length = origin + min(made, schedule.frames_beside_two_chunks(made))
        return [*islice(by_chunk(schedule.rows(origin, length, origin)), 2)]
