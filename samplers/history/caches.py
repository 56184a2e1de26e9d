"""The histories of a rollout: the KV caches that its branches read, and how they are filled.

Finished latents are kept beside the caches as long as some view is made anew before each chunk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...attention.cache.policy import capacity
from ...attention.cache.prompt_keys import PromptKeys
from ...attention.history import HistoryCache
from ...attention.snapshot import Snapshot, join
from ..conditioning.first_frame import BEFORE
from ..evaluator import Evaluator
from ..guidance import Branch, Prompt
from ..noise import frame_noise
from ..settings import RolloutSettings
from ..solvers.noise_process import mixed
from .plan import CachePlan, CacheRow, cache_plans
from .reads import read_of


@dataclass(frozen=True, slots=True)
class HistoryFrame:
    """A finished latent frame: its number, the first of those committed with it, whether it was
    given, and its clean latents (c, h, w) if they may be needed again.
    """

    frame: int
    group: int
    given: bool
    latents: Tensor | None


@dataclass(frozen=True, slots=True)
class CacheView:
    """What a branch reads: a row of a cache and, if not all of it, which slots.

    Branches of equal place are one evaluation. `at` is the first active frame's position; `ahead`
    the least noise level of the known frames ahead, None where none are seen.
    """

    prompt: Prompt
    cache: int
    row: int
    slots: tuple[int, ...] | None
    at: int
    ahead: float | None = None

    def follows(self, before: CacheView) -> bool:
        """Whether one attention can serve both: neighbouring rows, or no history at all."""
        same = (self.cache, self.slots, self.at) == (before.cache, before.slots, before.at)
        return same and (self.slots == () or self.row == before.row + 1)


class Histories:
    """The caches of one rollout while it is hot."""

    def __init__(self, settings: RolloutSettings, evaluator: Evaluator) -> None:
        self.settings, self.evaluator = settings, evaluator
        model = evaluator.model
        self.plans = cache_plans(settings, model.config, model.dtype)
        self.caches = [plan.open(settings.length, model.device) for plan in self.plans]
        for cache in self.caches:
            model.hold(cache)
        self.in_force = settings.in_force(0, 1)
        self.held: list[HistoryFrame] = []
        self.passed: list[Tensor] = []  # clean latents (c, h, w) just before the oldest held
        self.committed = 0
        self._stale = {i for i, plan in enumerate(self.plans) if plan.filled != "by commits"}
        self._changing = frozenset(self._stale)
        recached = settings.at_switch == "re-cache"
        self._keep_latents = recached or any(plan.filled == "anew" for plan in self.plans)

    @property
    def bytes(self) -> int:
        """Bytes of all caches."""
        return sum(cache.bytes for cache in self.caches)

    def commit(self, first: int, clean: Tensor, given: Sequence[bool]) -> None:
        """Take finished latents (f, c, h, w) from frame `first` into every history."""
        for i, one in enumerate(given):
            latents = clean[i].clone() if self._keep_latents else None
            self.held.append(HistoryFrame(first + i, first, one, latents))
        evicting = self._survivors(len(clean))
        for plan, cache in self._by_commits:
            self._pass(plan, cache, self.held[-len(clean) :], clean)
        self.committed += len(clean)
        self._hold(evicting())
        self._stale |= self._changing

    def prompts_changed(self) -> None:
        """What is made for one prompt must be made again; the rest is as `at_switch` says."""
        self.forget_prompts()
        match self.settings.at_switch:
            case "re-cache":
                for plan, cache in self._by_commits:
                    self._make_anew(plan, cache)
            case "flush":
                self._flush()
            case "keep":
                pass

    def forget_prompts(self) -> None:
        """What is made for one prompt is made again when it is needed."""
        for i, plan in enumerate(self.plans):
            if plan.filled == "with noise":
                self.caches[i].clear()
        self._stale |= self._changing

    def place(self, branch: Branch, *, ahead: bool = False) -> CacheView:
        """Where a branch finds what it sees, in its simplest form; its cache is made ready.

        `ahead`: there are known frames ahead, which it may see.
        """
        found = self._place(branch)
        return replace(found, ahead=branch.view.level_ahead) if ahead else found

    def _place(self, branch: Branch) -> CacheView:
        frames = [one.frame for one in self.held]
        read = read_of(branch, self.plans, self.settings, frames, self.committed)
        if not read.is_nothing:
            self._make_ready(read.cache)
        slots = None if read.ranks is None else self._slots(read.cache, read.ranks)
        return CacheView(branch.prompt, read.cache, read.row, slots, read.at)

    def _slots(self, index: int, ranks: range) -> tuple[int, ...]:
        """Where a cache has the frames of these ranks."""
        if not ranks:
            return ()
        positions = self.caches[index].positions  # ranks, but merged histories have farther places
        slots = sorted(range(len(positions)), key=positions.__getitem__)
        return tuple(slots[rank] for rank in ranks)

    def snapshot(self) -> Snapshot:
        """All caches and what is known of the frames in them."""
        facts = {
            "committed": self.committed,
            "stale": sorted(self._stale),
            "held": [[one.frame, one.group, one.given] for one in self.held],
        }
        latents = [one.latents for one in self.held if one.latents is not None]
        kept = {"latents": latents, "passed": self.passed}
        clean = {name: torch.stack(one).cpu() for name, one in kept.items() if one}
        caches = {f"cache{i}": cache.snapshot() for i, cache in enumerate(self.caches)}
        return join(facts, {"clean": Snapshot(clean), **caches})

    def restore(self, snapshot: Snapshot) -> None:
        """Go on, bit for bit, from what `snapshot` gave for the same settings, but for the length.

        ValueError where it does not fit.
        """
        facts, kept = snapshot.facts, snapshot.part("clean").tensors
        clean, passed = kept.get("latents"), kept.get("passed")
        for i, cache in enumerate(self.caches):
            cache.restore(snapshot.part(f"cache{i}"))
        device = self.evaluator.model.device
        latents = [None] * len(facts["held"]) if clean is None else [*clean.to(device)]
        self.held = [
            HistoryFrame(frame, group, given, one)
            for (frame, group, given), one in zip(facts["held"], latents, strict=True)
        ]
        self.passed = [] if passed is None else [*passed.to(device)]
        self.committed, self._stale = facts["committed"], set(facts["stale"])

    def _make_ready(self, index: int) -> None:
        """Bring a cache that is not filled by commits up to date."""
        if index not in self._stale:
            return
        plan, cache = self.plans[index], self.caches[index]
        if plan.filled == "with noise":
            self._fill_with_noise(plan, cache)
        else:
            self._make_anew(plan, cache)
        self._stale.remove(index)

    def _make_anew(self, plan: CachePlan, cache: HistoryCache) -> None:
        cache.restart()
        there = [one.frame for one in self.held]
        chosen = [self.held[r] for r in plan.seen.ranks(there, self.settings.cache.sink_frames)]
        for group in sorted({one.group for one in chosen}):
            frames = [one for one in chosen if one.group == group]
            latents = [self._shown(one) for one in frames]
            self._pass(plan, cache, frames, torch.stack(latents))

    def _shown(self, one: HistoryFrame) -> Tensor:
        """Clean latents of a frame in a history that is made anew; the oldest one may begin it as
        the first one does.
        """
        assert one.latents is not None  # they are kept for this
        again = self.settings.reencoded_first_frame
        if again is None or one is not self.held[0] or one.frame == 0:
            return one.latents
        return again.latent(torch.stack([*self.passed, one.latents]))

    def _hold(self, held: list[HistoryFrame]) -> None:
        """`held` stays of what there was; what lies before it is kept as long as it may be asked
        for.
        """
        if self.settings.reencoded_first_frame is not None:
            gone = [one for one in self.held if one.frame < held[0].frame]
            latents = (one.latents for one in gone if one.latents is not None)
            self.passed = [*self.passed, *latents][-BEFORE:]
        self.held = held

    def _pass(
        self, plan: CachePlan, cache: HistoryCache, frames: Sequence[HistoryFrame], clean: Tensor
    ) -> None:
        """Commit clean latents (f, c, h, w) to a cache, each row at its own noise levels."""
        levels = [[self._level(row, one) for one in frames] for row in plan.rows]
        x = torch.stack([self._noised(row, frames, clean, levels[i])
                         for i, row in enumerate(plan.rows)])  # fmt: skip
        own = plan.filled == "by commits"  # what is made anew is under the prompt now in force
        texts = [self.in_force.text_of(one.frame) for one in frames] if own else ()
        self._commit(plan, cache, frames[0].frame, x, levels, texts)

    def _fill_with_noise(self, plan: CachePlan, cache: HistoryCache) -> None:
        """Chunks of pure noise, as many latent frames as the history has; independent of it."""
        endless = self.settings.cache.limit is None and self.settings.length is None
        most = math.inf if endless else capacity(self.settings.cache, self.settings.length)
        while len(cache.held) < len(self.held):
            first = len(cache.held)
            frames = range(first, int(min(first + self.settings.schedule.chunk_frames, most)))
            noise = self._noise(frames, 0, "masked history", self.settings.seed)
            x = noise.expand(len(plan.rows), -1, -1, -1, -1)
            self._commit(plan, cache, first, x, [[1.0] * len(frames)] * len(plan.rows))

    def _commit(  # noqa: PLR0913
        self,
        plan: CachePlan,
        cache: HistoryCache,
        first: int,
        x: Tensor,
        levels: Sequence[Sequence[float]],
        texts: Sequence[int] = (),
    ) -> None:
        """Pass x (b, f, c, h, w), the latent frames from `first` on, and keep keys and values."""
        prompts = [row.prompt for row in plan.rows]
        frames = range(first, first + x.shape[1])
        attention = cache.attention_of_commit(self.settings.visible(frames))
        kept = self.evaluator.evaluate(
            x, levels, prompts, attention, frames=frames, texts=texts, keep=True
        )
        cache.commit(kept.keys_values, self._prompt_keys(plan))

    def _prompt_keys(self, plan: CachePlan) -> PromptKeys | None:
        """What is committed was made to, for a cache that asks: the text at the front."""
        if not plan.policy.follows_prompt:
            return None
        prompts = [row.prompt for row in plan.rows]
        followed = self.settings.guidance.base
        row = prompts.index(followed) if followed in prompts else 0
        return self.evaluator.prompt_keys(prompts[row], row)

    def _level(self, row: CacheRow, one: HistoryFrame) -> float:
        """The noise level at which a cache row shows a frame: a noisy view is never cleaner than
        the history that it is compared with.
        """
        age = self.held[-1].frame + 1 - one.frame
        stable = 0.0 if one.given else self.settings.guidance.stabilise
        return max(row.level, self.settings.context_noise.at(age), stable)

    def _noised(
        self, row: CacheRow, frames: Sequence[HistoryFrame], clean: Tensor, levels: Sequence[float]
    ) -> Tensor:
        """Clean latents (f, c, h, w) with noise to match their levels."""
        if not any(levels):
            return clean
        draw = self.committed if self.settings.context_noise.fresh and row.level == 0 else 0
        purpose = "fractional history" if row.level > 0 else "context"
        noise = torch.cat([
            self._noise(
                range(one.frame, one.frame + 1), draw, purpose, self.settings.seed_at(one.group)
            )
            for one in frames
        ])  # fmt: skip
        level = clean.new_tensor(levels).view(-1, 1, 1, 1)
        return mixed(self.evaluator.process, clean, noise, level)

    def _noise(self, frames: range, step: int, purpose: str, seed: int) -> Tensor:
        s, model = self.settings, self.evaluator.model
        shape = (model.config.out_channels, s.rows, s.columns)
        return frame_noise(seed, frames, step, purpose, shape).to(model.device)

    @property
    def _by_commits(self) -> list[tuple[CachePlan, HistoryCache]]:
        plans = zip(self.plans, self.caches, strict=True)
        return [(plan, cache) for plan, cache in plans if plan.filled == "by commits"]

    def _flush(self) -> None:
        """Forget all but the sink and the newest latent frame, which the next one follows."""
        newest = max(0, len(self.held) - 1)
        sink = min(newest, self.settings.cache.sink_frames)
        for _, cache in self._by_commits:
            held = sorted(cache.held)
            cache.retain([*held[:sink], *held[newest:]])
        self._hold([*self.held[:sink], *self.held[newest:]])

    def _survivors(self, count: int) -> Callable[[], list[HistoryFrame]]:
        """Asked after a commit of `count` frames, those of `held` that were not evicted.

        A cache numbers its frames anew when it is filled anew, but their order is always the same.
        """
        cache = self.caches[0]
        if self.plans[0].filled != "by commits":
            return self._in_window
        numbers = [*sorted(cache.held), *range(cache.committed, cache.committed + count)]

        def remaining() -> list[HistoryFrame]:
            held = set(cache.held)
            return [x for number, x in zip(numbers, self.held, strict=True) if number in held]

        return remaining

    def _in_window(self) -> list[HistoryFrame]:
        held, policy = list(self.held), self.settings.cache
        while policy.limit is not None and len(held) > policy.limit:
            del held[policy.victim([one.frame for one in held])]
        return held
