"""Model evaluations of any chunk of a shot, counted as a run makes them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain, takewhile

import torch

from ...model.forward import ModelConfig
from ..guidance import Branch, Guidance
from ..guidance.terms import weights_by_view
from ..history.plan import CachePlan, cache_plans
from ..history.selection import select
from ..history.steady_state import HeldFrames, count_commits, held_before, steady_chunk
from ..settings import RolloutSettings
from .chunk_steps import ChunkSteps, RowSteps
from .turning_points import turning_points


def prompt_changes(settings: RolloutSettings) -> list[int]:
    """The first latent frames of the chunks before which the prompt changes."""
    starts = {settings.next_chunk(entry.start_frame) for entry in settings.prompts.entries}
    return sorted(at for at in starts if at > 0)


@dataclass(frozen=True)
class ChunkEvaluations:
    """Counts evaluations of the chunks of a shot, each by the steps that it takes itself.

    Before the chunks at `changes`, the prompt changes. Each chunk is committed when the next one
    begins. Other caches are filled where a step reads them. A guidance of other branches has caches
    of its own, and what it commits of earlier chunks does not count.
    """

    settings: RolloutSettings
    config: ModelConfig
    dtype: torch.dtype
    changes: Sequence[int] = ()
    _plans: dict[object, tuple[CachePlan, ...]] = field(default_factory=dict)
    _counted: dict[int, tuple[int, set[int]]] = field(default_factory=dict)

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
        return self._chunks.holding(steady_chunk(self.settings))

    @cached_property
    def dear(self) -> list[int]:
        """The first latent frames of chunks, one of which has the most evaluations."""
        return turning_points(self._chunks, self.changes)

    @cached_property
    def _chunks(self) -> ChunkSteps:
        return ChunkSteps(self.settings)

    def _commits(self, first: int) -> int:
        """The passes that commit the last chunk, and all others again for another prompt."""
        changed = self._changed(first) and self.settings.on_prompt_change == "re-cache"
        again = count_commits(self.settings, self._history(first)) if changed else 0
        return (first > 0) + again

    def _changed(self, first: int) -> bool:
        """Whether the prompt changes before the chunk at `first`."""
        before = next(self._chunks.before(first), first)
        return self._prompt_at(before) != self._prompt_at(first)

    def _prompt_at(self, frame: int) -> int:
        """How many changes of prompt there are up to a latent frame."""
        return bisect_right(self.changes, frame)

    def _prompts(self, first: int) -> set[int]:
        """The prompts of the latent frames in work at the chunk of `first`, and of those ahead."""
        s = self.settings
        if first < s.origin:
            return {self._prompt_at(first)}
        stop = s.schedule.active_stop(first, s.length, s.origin)
        ahead = (
            self._prompt_at(s.chunk_start(known.frame)) for known in s.known_frames.ahead(stop)
        )
        return {*range(self._prompt_at(first), 1 + self._prompt_at(stop - 1)), *ahead}

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
        """The latent frames of pure noise that a cache has from earlier chunks.

        Only near turning points are there chunks that read it behind others which do not.
        """
        inputs, begun = self._guidance_at(first).inputs, self._noise_begun(first)
        schedule = self.settings.schedule
        since = first - schedule.repeats_after * schedule.chunk_frames
        near = [*takewhile(lambda before: before >= since, self._chunks.before(first))]
        far = range(bisect_left(self.dear, near[-1] if near else first))
        for before in chain(near, (self.dear[i] for i in reversed(far))):
            if before < begun or self._guidance_at(before).inputs != inputs:
                return 0
            if cache in self._steps(before)[1]:
                return len(self._history(before))
        return 0

    def _noise_begun(self, first: int) -> int:
        """The last chunk up to that of `first` before which other prompts come into work.

        What pure noise left in a cache is forgotten there.
        """
        number = bisect_right(self._renewed, first)
        return self._renewed[number - 1] if number else self.settings.origin

    @cached_property
    def _renewed(self) -> list[int]:
        """The chunks before which other prompts come into work, or leave it."""
        befores = ((at, next(self._chunks.before(at), None)) for at in self.dear)
        return [
            at
            for at, before in befores
            if before is not None and self._prompts(at) != self._prompts(before)
        ]

    def _history(self, first: int) -> HeldFrames:
        """The history before the chunk at `first`."""
        flushes = self.settings.on_prompt_change == "flush"
        flushed = [at for at in self.changes if at <= first] if flushes else []
        last = self._chunks.from_on(flushed[-1]) if flushed else None
        return held_before(self.settings, first, last or 0)

    def _steps(self, first: int) -> tuple[int, set[int]]:
        """The evaluations by the steps of a chunk, and the caches that they read."""
        if first not in self._counted:
            self._counted[first] = self._count_steps(first)
        return self._counted[first]

    def _count_steps(self, first: int) -> tuple[int, set[int]]:
        s, frames, read = self.settings, self._history(first), set[int]()
        guidance, plans = self._guidance_at(first), self._plans_at(first)

        def view_of(branch: Branch, *, ahead: bool) -> Hashable:
            chosen = select(branch, plans, s, frames, first)
            if not chosen.is_nothing:
                read.add(chosen.cache)
            seen_ahead = branch.view.level_ahead if ahead else None
            layers = branch.skipped and branch.skipped.layers
            return branch.prompt, chosen, layers, seen_ahead

        def count(row: RowSteps) -> int:
            weights = [guidance.weights(*at, started=first > 0) for at in row.at]
            levels = [level for level, _ in row.at]
            seen = partial(view_of, ahead=row.sees_ahead)
            return len(weights_by_view(guidance, weights, levels, seen))

        return sum(map(count, self._chunks.of(first))), read

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
