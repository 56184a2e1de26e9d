"""The settings of a rollout: everything that decides what is generated, except the model."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from ..attention.cache.policy import CachePolicy, WindowSink
from ..attention.sparse.settings import Sparsity
from ..attention.storage.dense import DENSE, Storage
from ..attention.storage.placement import ON_DEVICE, Placement
from . import settings_checks as checks
from .camera.path import CameraPath
from .conditioning.first_frame import ReencodedFirstFrame
from .conditioning.known_frames import KnownFrames
from .conditioning.prompts import ActivePrompts, PromptTimeline, TimedPrompt
from .conditioning.reference import Reference
from .control.video import ControlVideo
from .feature_caching import FeatureCaching
from .guidance import Guidance
from .rules import coarse_past as coarse
from .rules.anchor import Anchor
from .rules.memory import MemoryRules
from .schedule.context_noise import ContextNoise
from .schedule.row import Row
from .schedule.rows import NoiseSchedule
from .solvers.single_step import Euler, Solver

OnPromptChange = Literal["keep", "re-cache", "flush"]
"""What happens to the history when the prompt changes.

`keep` leaves it. `re-cache` commits it again, chunk by chunk, with the new prompt (LongLive, but
causal). `flush` forgets all but the sink and the newest latent frame (Infinity-RoPE).
"""


@dataclass(frozen=True, slots=True)
class TimedGuidance:
    """Guidance from latent frame `start_frame` on."""

    start_frame: int
    guidance: Guidance


@dataclass(frozen=True, slots=True)
class TimedSeed:
    """The seed of all noise from the chunk at latent frame `start_frame` on."""

    start_frame: int
    seed: int


@dataclass(frozen=True, slots=True)
class TimedLora:
    """A factor on the strength of every LoRA from latent frame `start_frame` on."""

    start_frame: int
    factor: float


@dataclass(frozen=True, slots=True)
class TimedLevel:
    """The noise level of frames that are redrawn, from latent frame `start_frame` on."""

    start_frame: int
    level: float


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """Everything that decides what is generated, except the model.

    `rows` and `columns` are the latent picture's. `length` counts latent frames; None runs until
    stopped. `guidance`, `seed` and `lora_factor`, which scales all LoRAs of the model, hold until
    their first change. Chunks are counted from `chunk_base`, by the first frame not given.
    `reference` is the picture of a model that takes one.

    `placement` and `hold_rotated` do not change the video. `sparsity` skips attention that matters
    little. At each of `recache_frames`, which begin chunks, the history was rebuilt from its window
    alone. `reencoded_first_frame` makes a rebuilt window begin as a video does. `memory` holds the
    rules on what passes read of the history; `anchor` holds the colours of finished chunks.
    `feature_caching` lets steps that change little take over the work of the last one.
    `camera` steers a model that takes a camera, `control` one with a control module. Known frames
    have the levels of `level_changes` already; those that come in live take theirs from there.
    """

    prompts: PromptTimeline
    rows: int
    columns: int
    schedule: NoiseSchedule
    length: int | None = None
    seed: int = 0
    solver: Solver = field(default_factory=Euler)
    guidance: Guidance = field(default_factory=Guidance)
    cache: CachePolicy = field(default_factory=lambda: WindowSink(window_frames=21))
    context_noise: ContextNoise = ContextNoise()
    storage: Storage = DENSE
    placement: Placement = ON_DEVICE
    on_prompt_change: OnPromptChange = "keep"
    hold_rotated: bool = True
    guidance_changes: tuple[TimedGuidance, ...] = ()
    known_frames: KnownFrames = KnownFrames()
    seed_changes: tuple[TimedSeed, ...] = ()
    sparsity: Sparsity = Sparsity()
    reference: Reference | None = None
    lora_factor: float = 1.0
    lora_changes: tuple[TimedLora, ...] = ()
    recache_frames: tuple[int, ...] = ()
    reencoded_first_frame: ReencodedFirstFrame | None = None
    memory: MemoryRules = MemoryRules()
    anchor: Anchor | None = None
    camera: CameraPath | None = None
    control: ControlVideo | None = None
    level_changes: tuple[TimedLevel, ...] = ()
    feature_caching: FeatureCaching | None = None

    def __post_init__(self) -> None:
        checks.check_size(self.rows, self.columns, self.length)
        coarse.check_coarse_size(self.cache, self.rows, self.columns)
        self.known_frames.check(self.rows, self.columns, self.length)
        if self.reference is not None:
            self.reference.check(self.rows, self.columns)
        if self.control is not None:
            opening = self.next_chunk(self.origin + 1) - self.origin
            self.control.check(self.rows, self.columns, opening)
        checks.check_times("guidance", [change.start_frame for change in self.guidance_changes])
        checks.check_times("seed", [change.start_frame for change in self.seed_changes])
        _check_cache(self)
        for guidance in guidances_of(self):
            checks.check_guidance(guidance, self.cache, self.solver)
            coarse.check_coarse_views(self.cache, guidance)

    @property
    def origin(self) -> int:
        """The number of latent frames at the front that are given unchanged."""
        return self.known_frames.leading

    @property
    def chunk_base(self) -> int:
        """The latent frame that chunks begin whole chunks after; below 0 for a short first one."""
        return self.schedule.chunk_base(self.origin)

    @property
    def active_frames(self) -> int:
        """The maximum number of latent frames that are active, or committed, at once."""
        active = self.schedule.active_frames(self.length, self.origin)
        committed = self.schedule.chunk_frames if self.origin else 0  # chunks of given frames
        return max(active, committed if self.length is None else min(committed, self.length))

    @property
    def pass_frames(self) -> int:
        """The maximum number of latent frames in one pass: active ones and known ones ahead."""
        return self.active_frames + self.known_frames.max_lookahead

    @property
    def prompts_at_once(self) -> int:
        """An upper bound on the number of prompts in force together."""
        size, base = self.schedule.chunk_frames, self.chunk_base
        stop = self.schedule.active_stop(self.origin, self.length, self.origin)
        chunks = max(1, -(-(stop - base) // size))
        begins = [self.next_chunk(entry.start_frame) for entry in self.prompts.entries]
        starts = [(at - base) // size for at in begins]  # numbers of chunks
        later = [bisect_left(starts, at + chunks - 1) - i for i, at in enumerate(starts) if i]
        return min(len(starts), 1 + max([0, *later]) + self.known_frames.max_lookahead)

    def active_prompts(self, first: int, stop: int) -> ActivePrompts:
        """The prompts of latent frames [first, stop) and of the known frames that they see ahead.

        A chunk has the prompt in force at its first frame. A chunk of given frames at the front is
        alone, and sees nothing ahead.
        """
        is_given = first < self.origin
        stop = min(stop, self.next_chunk(first + 1)) if is_given else stop
        ahead = () if is_given else self.known_frames.ahead(stop)
        by_chunk = dict[int, TimedPrompt]()
        for frame in (*range(first, stop), *(known.frame for known in ahead)):
            chunk = self.chunk_start(frame)
            prompt = self.prompts.at(chunk, first)
            by_chunk[self.next_chunk(prompt.start_frame)] = prompt
        return ActivePrompts(tuple(by_chunk.items()))

    def chunk_start(self, frame: int) -> int:
        """The first latent frame of the chunk that holds `frame`."""
        return max(0, frame - (frame - self.chunk_base) % self.schedule.chunk_frames)

    def next_chunk(self, frame: int) -> int:
        """The first latent frame, from `frame` on, that begins a chunk; 0 always does."""
        return frame + (self.chunk_base - frame) % self.schedule.chunk_frames if frame > 0 else 0

    def position_gap(self, next_frame: int, past_frames: int) -> int:
        """The positions between sink and window while `past_frames` come before `next_frame`."""
        positions = self.memory.positions
        if positions is None or self.cache.sink_frames == 0:
            return 0
        return positions.gap(next_frame, past_frames, self.active_frames)

    def noise_rows(self, first: int = 0) -> Iterator[Row]:
        """The rows of the schedule from the one in which latent frame `first` leads.

        Rows of given frames at the front come first and change nothing.
        """
        known_rows = self.known_frames.leading_rows(self.schedule.chunk_frames)
        yield from (row for row in known_rows if row.first >= first)
        yield from self.schedule.rows(max(first, self.origin), self.length, self.origin)

    def visible(self, frames: range) -> tuple[int, ...]:
        """For each of the active `frames`, how many of them, from the front, it sees."""
        return self.schedule.visible(frames, self.origin)

    def at(self, latent_frame: int) -> RolloutSettings:
        """The settings with the guidance and LoRA factor in force at `latent_frame`."""
        guidance = [c.guidance for c in self.guidance_changes if c.start_frame <= latent_frame]
        factors = [c.factor for c in self.lora_changes if c.start_frame <= latent_frame]
        settings = self
        if guidance:
            settings = replace(settings, guidance=guidance[-1], guidance_changes=())
        return replace(settings, lora_factor=factors[-1], lora_changes=()) if factors else settings

    @property
    def stages(self) -> list[RolloutSettings]:
        """The settings under each guidance of the shot; of those of equal work, the first.

        The settings themselves may begin with another guidance than their own.
        """
        begun = self.at(self.origin).guidance
        by_work = {(self.guidance.work, begun.work): self}
        for change in self.guidance_changes:
            work = change.guidance.work
            if (work, work) not in by_work:
                by_work[work, work] = self.at(change.start_frame)
        return [*by_work.values()]

    def seed_at(self, latent_frame: int) -> int:
        """The seed in force at `latent_frame`."""
        past = [change.seed for change in self.seed_changes if change.start_frame <= latent_frame]
        return past[-1] if past else self.seed

    def with_guidance(self, change: TimedGuidance) -> RolloutSettings:
        """Add `change`, replacing one that starts at the same frame."""
        others = (c for c in self.guidance_changes if c.start_frame != change.start_frame)
        changes = sorted([*others, change], key=lambda change: change.start_frame)
        return replace(self, guidance_changes=tuple(changes))

    def with_seed(self, change: TimedSeed) -> RolloutSettings:
        """Add `change`, replacing one that starts at the same frame."""
        if change.start_frame == 0:
            return replace(self, seed=change.seed)
        others = (c for c in self.seed_changes if c.start_frame != change.start_frame)
        changes = sorted([*others, change], key=lambda change: change.start_frame)
        return replace(self, seed_changes=tuple(changes))

    def with_lora(self, change: TimedLora) -> RolloutSettings:
        """Add `change`, replacing one that starts at the same frame."""
        others = (c for c in self.lora_changes if c.start_frame != change.start_frame)
        changes = sorted([*others, change], key=lambda change: change.start_frame)
        return replace(self, lora_changes=tuple(changes))

    def lasting(self, length: int) -> RolloutSettings:
        """The same settings for `length` latent frames; known videos are cut to that length."""
        return replace(self, length=length, known_frames=self.known_frames.before(length))

    def before(self, latent_frame: int) -> RolloutSettings:
        """Drop the changes from `latent_frame` on."""
        return replace(
            self,
            guidance_changes=tuple(
                c for c in self.guidance_changes if c.start_frame < latent_frame
            ),
            seed_changes=tuple(c for c in self.seed_changes if c.start_frame < latent_frame),
            lora_changes=tuple(c for c in self.lora_changes if c.start_frame < latent_frame),
        )


def _check_cache(s: RolloutSettings) -> None:
    """Refuse a KV cache that does not go together with other settings."""
    if s.reencoded_first_frame is not None:
        checks.check_reencoding(s.cache)
    checks.check_context_noise(s.cache, s.context_noise)
    recaches = s.on_prompt_change == "re-cache"
    for timed in guidances_of(s):
        checks.check_recall(s.cache, timed, recaches=recaches)
    checks.check_memory_bank(s.cache, s.schedule, s.sparsity)
    checks.check_memory_rules(s.memory, s.schedule)
    coarse.check_coarse_past(s.cache, s.memory, s.sparsity)
    checks.check_positions(s.memory, s.cache, s.guidance)
    checks.check_retrieval(s.memory, s.cache, s.sparsity)
    checks.check_own_heads(s.cache, s.schedule, s.sparsity)
    checks.check_own_heads_storage(s.cache, s.storage, s.placement, recaches=recaches)


def guidances_of(settings: RolloutSettings) -> list[Guidance]:
    """The guidance of a shot's beginning, and those that take its place."""
    return [settings.guidance, *(change.guidance for change in settings.guidance_changes)]
