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
from .conditioning.first_frame import ReencodedFirstFrame
from .conditioning.known_frames import KnownFrames
from .conditioning.prompts import ActivePrompts, PromptTimeline, TimedPrompt
from .conditioning.reference import Reference
from .guidance import Guidance
from .schedule.context_noise import ContextNoise
from .schedule.rows import NoiseSchedule, Row
from .solvers.single_step import Euler, Solver

AtSwitch = Literal["keep", "re-cache", "flush"]
"""What becomes of the history when the prompt changes: it stays; it is committed again, chunk by
chunk, with the new prompt (LongLive's recache, but causal); or all but the sink and the newest
latent frame is forgotten (Infinity-RoPE's flush).
"""


@dataclass(frozen=True, slots=True)
class TimedGuidance:
    """Guidance that holds from latent frame `start_frame` on."""

    start_frame: int
    guidance: Guidance


@dataclass(frozen=True, slots=True)
class TimedSeed:
    """The seed of what is drawn from the chunk at latent frame `start_frame` on."""

    start_frame: int
    seed: int


@dataclass(frozen=True, slots=True)
class TimedLora:
    """A factor on the strength of every LoRA of the model, from latent frame `start_frame` on."""

    start_frame: int
    factor: float


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """Everything that decides what is generated, except the model.

    `rows` and `columns` are the latent picture's; `length` counts latent frames, None runs until
    stopped. `guidance` holds until the first of `guidance_changes`, `seed` until the first of
    `reseeds`. `known` frames are given; chunks are counted from `origin`, the first frame that is
    made. `reference` is the picture of a model that takes one. `lora` is a factor on the strength
    of the model's LoRAs, until the first of `lora_changes`. `placement` alone changes nothing of
    what is generated; `sparsity` leaves out attention that matters little. At the latent frames
    `recached`, the first of chunks, the history was made anew from its window alone.
    `reencoded_first_frame` lets a rebuilt window begin as a video does.
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
    at_switch: AtSwitch = "keep"
    hold_rotated: bool = True
    guidance_changes: tuple[TimedGuidance, ...] = ()
    known: KnownFrames = KnownFrames()
    reseeds: tuple[TimedSeed, ...] = ()
    sparsity: Sparsity = Sparsity()
    reference: Reference | None = None
    lora: float = 1.0
    lora_changes: tuple[TimedLora, ...] = ()
    recached: tuple[int, ...] = ()
    reencoded_first_frame: ReencodedFirstFrame | None = None

    def __post_init__(self) -> None:
        checks.check_size(self.rows, self.columns, self.length)
        self.known.check(self.rows, self.columns, self.length)
        if self.reference is not None:
            self.reference.check(self.rows, self.columns)
        checks.check_times("guidance", [change.start_frame for change in self.guidance_changes])
        checks.check_times("seed", [change.start_frame for change in self.reseeds])
        self._check_cache()
        for guidance in (self.guidance, *(change.guidance for change in self.guidance_changes)):
            checks.check_guidance(guidance, self.cache, self.solver)

    @property
    def origin(self) -> int:
        """How many latent frames at the front are given as they are."""
        return self.known.leading

    @property
    def active_frames(self) -> int:
        """The most latent frames that are active, or committed, at once."""
        active = self.schedule.active_frames(self.length, self.origin)
        committed = self.schedule.chunk_frames
        return max(active, committed if self.length is None else min(committed, self.length))

    @property
    def pass_frames(self) -> int:
        """The most latent frames that pass the model at once: active, and known ones ahead."""
        return self.active_frames + self.known.max_ahead

    @property
    def prompts_at_once(self) -> int:
        """The most prompts in force together, or a few more where known frames are seen ahead."""
        size = self.schedule.chunk_frames
        chunks = -(-self.active_frames // size)
        starts = [self._next_chunk(entry.start_frame) // size for entry in self.prompts.entries]
        later = [bisect_left(starts, at + chunks - 1) - i for i, at in enumerate(starts) if i]
        return min(len(starts), 1 + max(later, default=0) + self.known.max_ahead)

    def active_prompts(self, first: int, stop: int) -> ActivePrompts:
        """The prompts of latent frames `first` to `stop`, and of known ones that these see ahead.

        A chunk has the prompt in force at its first frame.
        """
        found = dict[int, TimedPrompt]()
        for frame in (*range(first, stop), *(one.frame for one in self.known.seen(stop, stop))):
            chunk = max(0, frame - (frame - self.origin) % self.schedule.chunk_frames)
            prompt = self.prompts.at(chunk, first)
            found[self._next_chunk(prompt.start_frame)] = prompt
        return ActivePrompts(tuple(found.items()))

    def _next_chunk(self, frame: int) -> int:
        """The first latent frame, from `frame` on, that begins a chunk."""
        return frame + (self.origin - frame) % self.schedule.chunk_frames

    def noise_rows(self, first: int = 0) -> Iterator[Row]:
        """The rows of the schedule from the one in which latent frame `first` leads.

        Those of the given frames at the front come first, and change nothing.
        """
        given = self.known.leading_rows(self.schedule.chunk_frames)
        yield from (row for row in given if row.first >= first)
        yield from self.schedule.rows(max(first, self.origin), self.length, self.origin)

    def visible(self, frames: range) -> tuple[int, ...]:
        """How many of the active `frames`, from the front, each of them may look at."""
        return self.schedule.visible(frames, self.origin)

    def at(self, latent_frame: int) -> RolloutSettings:
        """The settings with the guidance and the strength of LoRAs in force at `latent_frame`."""
        guidance = [c.guidance for c in self.guidance_changes if c.start_frame <= latent_frame]
        factors = [c.factor for c in self.lora_changes if c.start_frame <= latent_frame]
        settings = self
        if guidance:
            settings = replace(settings, guidance=guidance[-1], guidance_changes=())
        return replace(settings, lora=factors[-1], lora_changes=()) if factors else settings

    def seed_at(self, latent_frame: int) -> int:
        """The seed in force at `latent_frame`."""
        past = [change.seed for change in self.reseeds if change.start_frame <= latent_frame]
        return past[-1] if past else self.seed

    def with_guidance(self, change: TimedGuidance) -> RolloutSettings:
        """The same settings with `change`, in place of one that starts at the same frame."""
        others = (c for c in self.guidance_changes if c.start_frame != change.start_frame)
        changes = sorted([*others, change], key=lambda one: one.start_frame)
        return replace(self, guidance_changes=tuple(changes))

    def with_lora(self, change: TimedLora) -> RolloutSettings:
        """The same settings with `change`, which comes after all others or replaces the last."""
        others = (c for c in self.lora_changes if c.start_frame < change.start_frame)
        return replace(self, lora_changes=(*others, change))

    def lasting(self, length: int) -> RolloutSettings:
        """The same settings for a rollout of `length` latent frames, which shows as much of known
        videos as there is room for.
        """
        return replace(self, length=length, known=self.known.before(length))

    def before(self, latent_frame: int) -> RolloutSettings:
        """The same settings without the changes from `latent_frame` on."""
        return replace(
            self,
            guidance_changes=tuple(
                c for c in self.guidance_changes if c.start_frame < latent_frame
            ),
            reseeds=tuple(c for c in self.reseeds if c.start_frame < latent_frame),
            lora_changes=tuple(c for c in self.lora_changes if c.start_frame < latent_frame),
        )

    def _check_cache(self) -> None:
        if self.reencoded_first_frame is not None:
            checks.check_reencoding(self.cache)
        checks.check_context_noise(self.cache, self.context_noise)
        checks.check_memory_bank(self.cache, self.schedule, self.sparsity)
        checks.check_own_heads(self.cache, self.schedule, self.sparsity)
        checks.check_own_heads_storage(
            self.cache, self.storage, self.placement, recaches=self.at_switch == "re-cache"
        )
