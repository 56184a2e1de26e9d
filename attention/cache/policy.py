"""What a KV cache keeps: values that say how many latent frames, and which one gives way.

A cache asks its policy; adding a policy changes no loop. Which slot a frame lies in is the cache's
business: a policy sees the numbers of the frames that are held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

UNBOUNDED_START = 64  # slots of a history without bound or planned end, before it first grows


class CachePolicy:
    """What a history keeps. Without more said, everything, committed once and left as it is."""

    __slots__ = ()

    @property
    def limit(self) -> int | None:
        """The most latent frames it holds; None keeps every one."""
        return None

    @property
    def sink_frames(self) -> int:
        """How many of the first latent frames are never evicted."""
        return 0

    def victim(self, held: Sequence[int]) -> int:
        """The index in `held`, frames by slot, of the one that gives way when all are full."""
        raise IndexError(f"a full history of {len(held)} latent frames was asked to evict one")

    def within(self, frames: int) -> CachePolicy:
        """The same with at most `frames` latent frames; what keeps everything keeps the newest."""
        return WindowSink(frames)

    def with_first(self) -> CachePolicy:
        """The same, but for the first latent frame, which never leaves."""
        return self

    @property
    def averaged_frames(self) -> int:
        """How many of the first latent frames average evicted ones into themselves."""
        return 0

    @property
    def sink_decay(self) -> float:
        """The share of itself that such a frame keeps when another is averaged into it."""
        return 1.0

    @property
    def rebuilt(self) -> bool:
        """Whether the whole history is committed again before each chunk."""
        return False

    @property
    def remembers(self) -> bool:
        """Whether what it holds depends on more than the frames held: it cannot be rebuilt."""
        return self.averaged_frames > 0

    @property
    def beside_frames(self) -> int:
        """Latent frames kept beside the window, in every layer its own."""
        return 0

    @property
    def chunks_until_full(self) -> int:
        """How many commits of a whole window make it hold all that it ever does."""
        return 1

    @property
    def follows_prompt(self) -> bool:
        """Whether a commit must bring the prompt's keys, by which frames are kept."""
        return False

    @property
    def heads_differ(self) -> bool:
        """Whether every head may hold other frames."""
        return False

    @property
    def coded_singly(self) -> bool:
        """Whether keys and values are stored one by one, also where heads differ."""
        return False


@dataclass(frozen=True, slots=True)
class FullHistory(CachePolicy):
    """Keep every latent frame."""


@dataclass(frozen=True, slots=True)
class WindowSink(CachePolicy):
    """Keep `window_frames`: the first `sink_frames` for ever, the newest in the rest."""

    window_frames: int
    sink_frames: int = 0

    def __post_init__(self) -> None:
        if self.window_frames < 1:
            raise ValueError(f"window_frames must be at least 1; got {self.window_frames}")
        if not 0 <= self.sink_frames < self.window_frames:
            raise ValueError(
                "sink_frames must be from 0 to window_frames - 1; "
                f"got {self.sink_frames} of {self.window_frames}"
            )

    @property
    def limit(self) -> int | None:
        """The window."""
        return self.window_frames

    def victim(self, held: Sequence[int]) -> int:
        """The oldest frame that is not of the sink."""
        return min(
            (slot for slot, frame in enumerate(held) if frame >= self.sink_frames),
            key=held.__getitem__,
        )

    def within(self, frames: int) -> WindowSink:
        """A window of at most `frames`, which must be more than the sink."""
        return replace(self, window_frames=min(frames, self.window_frames))

    def with_first(self) -> WindowSink:
        """A sink of one, where there is none and the window has room for it."""
        return replace(self, sink_frames=1) if self.window_frames > 1 > self.sink_frames else self


@dataclass(frozen=True, slots=True)
class AveragingSink(WindowSink):
    """A window whose sink averages what is evicted into itself (Reward Forcing's EMA sink).

    The evicted frame f goes into sink frame f mod `sink_frames`: chunk by chunk, place by place.
    """

    sink_decay: float = 0.999  # of the released weights

    def __post_init__(self) -> None:
        WindowSink.__post_init__(self)
        if self.sink_frames < 1:
            raise ValueError(f"an averaging sink needs latent frames; got {self.sink_frames}")
        if not 0 <= self.sink_decay < 1:
            raise ValueError(f"sink_decay must be at least 0 and below 1; got {self.sink_decay}")

    @property
    def averaged_frames(self) -> int:
        """The whole sink."""
        return self.sink_frames


@dataclass(frozen=True, slots=True)
class RebuiltWindow(WindowSink):
    """A window that is committed anew from clean latents before each chunk (Krea realtime).

    Keys and values of a kept window remember what was evicted, and its errors; these do not. Costs
    a pass over the window for each chunk.
    """

    @property
    def rebuilt(self) -> bool:
        """Yes."""
        return True


@dataclass(frozen=True, slots=True)
class MostAttended(WindowSink):
    """Of `window_frames`, the sink and those most attended to; the newest stay until measured.

    `memory` is the share of a frame's worth that lasts from one commit to the next. With `per_head`
    every head of every layer keeps frames of its own.
    """

    per_head: bool = False
    memory: float = 0.8

    def __post_init__(self) -> None:
        WindowSink.__post_init__(self)
        if not 0 <= self.memory < 1:
            raise ValueError(f"memory must be at least 0 and below 1; got {self.memory}")

    @property
    def remembers(self) -> bool:
        """The worth of frames, measured as each chunk was committed."""
        return True

    @property
    def heads_differ(self) -> bool:
        """As `per_head` says."""
        return self.per_head


@dataclass(frozen=True, slots=True)
class MemoryBank(WindowSink):
    """A window, and beside it a bank of `bank_frames` earlier ones that answer the prompt (MemFlow,
    arXiv 2512.14699).

    The first latent frame of every `every`-th chunk comes into the bank, at 0 the first; which ones
    give way, every layer finds for itself, see `memory_bank`.
    """

    bank_frames: int = 3
    every: int = 3

    def __post_init__(self) -> None:
        WindowSink.__post_init__(self)
        if min(self.bank_frames, self.every) < 1:
            raise ValueError(
                "a memory bank has one latent frame or more, of one chunk or more; got "
                f"bank_frames {self.bank_frames}, every {self.every}"
            )

    @property
    def remembers(self) -> bool:
        """Frames that have left the window."""
        return True

    @property
    def beside_frames(self) -> int:
        """The bank, and what it held last in place of what came then."""
        return self.bank_frames + 1

    @property
    def chunks_until_full(self) -> int:
        """Until one frame more has come than there is room for."""
        return self.bank_frames * self.every + 1

    @property
    def follows_prompt(self) -> bool:
        """Yes."""
        return True


def capacity(policy: CachePolicy, length: int | None) -> int:
    """Latent frames to allocate; `length` is the rollout's, None when it has no end."""
    if policy.limit is None:
        return UNBOUNDED_START if length is None else length
    return policy.limit if length is None else min(policy.limit, length)
