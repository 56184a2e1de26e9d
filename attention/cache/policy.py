"""Policies of a KV cache: how many latent frames it keeps, and which one it evicts.

A cache asks its policy, so adding a policy changes no loop. A policy sees only the numbers of the
held frames; the cache decides which slot a frame lies in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

UNBOUNDED_START = 64
"""Slots of a history without bound or planned end before it first grows."""


class CachePolicy:
    """The frames a history keeps; by default every frame, committed once and never changed."""

    __slots__ = ()

    @property
    def limit(self) -> int | None:
        """The largest number of latent frames held; None keeps every frame."""
        return None

    @property
    def sink_frames(self) -> int:
        """How many of the first latent frames are never evicted."""
        return 0

    def victim(self, frames: Sequence[int]) -> int:
        """The index in `frames`, frames by slot, of the frame to evict when all slots are full."""
        raise IndexError(
            f"a policy without a limit evicts nothing; got {len(frames)} latent frames"
        )

    def within(self, frames: int) -> CachePolicy:
        """The same policy with at most `frames` latent frames; by default the newest ones."""
        return WindowSink(frames)

    def with_first(self) -> CachePolicy:
        """The same policy, except that the first latent frame is never evicted."""
        return self

    @property
    def averaged_frames(self) -> int:
        """How many of the first latent frames average evicted frames into themselves."""
        return 0

    @property
    def sink_decay(self) -> float:
        """The weight of such a frame when an evicted frame is averaged into it."""
        return 1.0

    @property
    def rebuilt(self) -> bool:
        """Whether the whole history is committed again before each chunk."""
        return False

    @property
    def keeps_distances(self) -> bool:
        """Whether frames keep their distance in time when frames between them are evicted."""
        return False

    @property
    def moves_keys(self) -> bool:
        """Whether a frame's place differs from pass to pass, so that no rotated key is kept."""
        return False

    def when_rebuilt(self) -> CachePolicy:
        """The policy of a history that is committed again as a whole: it remembers nothing.

        A policy that is `rebuilt` itself stays, but for pure noise in place of the history.
        """
        return self if self.limit is None else WindowSink(self.limit, self.sink_frames)

    @property
    def remembers(self) -> bool:
        """Whether the history depends on frames no longer held, so that it cannot be rebuilt."""
        return self.averaged_frames > 0

    @property
    def extra_frames(self) -> int:
        """Latent frames that every layer keeps for itself besides the window."""
        return 0

    @property
    def recall_frames(self) -> int:
        """Latent frames of the window that are fetched from the past before each chunk."""
        return 0

    @property
    def keeps_leavers(self) -> bool:
        """Whether a chunk's worth of frames that left the window waits for the next commit."""
        return False

    @property
    def chunks_until_full(self) -> int:
        """Commits of a whole window after which the history has its final size."""
        return 1

    @property
    def follows_prompt(self) -> bool:
        """Whether a commit needs the prompt's keys to select frames."""
        return False

    @property
    def heads_differ(self) -> bool:
        """Whether heads may read different frames."""
        return False

    @property
    def window_follows_sink(self) -> bool:
        """Whether the history is a sink and then a window of neighbouring frames."""
        return False

    @property
    def codes_rows(self) -> bool:
        """Whether coded storage codes each key and value by itself, so that heads may differ."""
        return False


@dataclass(frozen=True, slots=True)
class FullHistory(CachePolicy):
    """Keep every latent frame."""


@dataclass(frozen=True, slots=True)
class WindowSink(CachePolicy):
    """Keep `window_frames` latent frames: the first `sink_frames`, then the newest ones."""

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
        return self.window_frames

    @property
    def window_follows_sink(self) -> bool:
        return True

    def victim(self, frames: Sequence[int]) -> int:
        """The index of the oldest frame outside the sink."""
        return min(
            (slot for slot, frame in enumerate(frames) if frame >= self.sink_frames),
            key=frames.__getitem__,
        )

    def within(self, frames: int) -> WindowSink:
        """The same policy with at most `frames`, which must exceed the sink."""
        return replace(self, window_frames=min(frames, self.window_frames))

    def with_first(self) -> WindowSink:
        """The same policy with a sink of one frame, unless it has a sink or no room for one."""
        return replace(self, sink_frames=1) if self.window_frames > 1 > self.sink_frames else self


@dataclass(frozen=True, slots=True)
class AveragingSink(WindowSink):
    """A window whose sink averages evicted frames into itself (Reward Forcing's EMA sink).

    Evicted frame f goes into sink frame f mod `sink_frames`, token by token.
    """

    sink_decay: float = 0.999  # of the released weights

    def __post_init__(self) -> None:
        WindowSink.__post_init__(self)
        if self.sink_frames < 1:
            raise ValueError(
                f"sink_frames of an averaging sink must be at least 1; got {self.sink_frames}"
            )
        if not 0 <= self.sink_decay < 1:
            raise ValueError(f"sink_decay must be at least 0 and below 1; got {self.sink_decay}")

    @property
    def averaged_frames(self) -> int:
        """How many frames average evicted ones: every frame of the sink."""
        return self.sink_frames


@dataclass(frozen=True, slots=True)
class RebuiltWindow(WindowSink):
    """A window that is recommitted from clean latents before each chunk (Krea realtime).

    Keys and values of an ordinary window still reflect evicted frames and their errors; these do
    not. Costs one pass over the window for each chunk.
    """

    @property
    def rebuilt(self) -> bool:
        """True: the whole window is recommitted."""
        return True


@dataclass(frozen=True, slots=True)
class MostAttended(WindowSink):
    """Keep `window_frames`: the sink, and the frames that get the most attention.

    New frames stay until they are measured. `memory` is the weight of a frame's earlier score at
    each commit. With `per_head` every head of every layer keeps its own frames.
    """

    per_head: bool = False
    memory: float = 0.8

    def __post_init__(self) -> None:
        WindowSink.__post_init__(self)
        if not 0 <= self.memory < 1:
            raise ValueError(f"memory must be at least 0 and below 1; got {self.memory}")

    @property
    def window_follows_sink(self) -> bool:
        """False: the frames between may be any."""
        return False

    @property
    def remembers(self) -> bool:
        """True: scores of frames depend on every commit so far."""
        return True

    @property
    def heads_differ(self) -> bool:
        """Whether each head keeps its own frames."""
        return self.per_head


@dataclass(frozen=True, slots=True)
class MemoryBank(WindowSink):
    """A window and a bank of `bank_frames` earlier frames close to the prompt (MemFlow).

    The first latent frame of every `every`-th chunk, starting with chunk 0, enters the bank. Every
    layer selects for itself which frames leave; see `memory_bank` (arXiv 2512.14699).
    """

    bank_frames: int = 3
    every: int = 3

    def __post_init__(self) -> None:
        WindowSink.__post_init__(self)
        if min(self.bank_frames, self.every) < 1:
            raise ValueError(
                f"bank_frames and every must be at least 1; got {self.bank_frames} and {self.every}"
            )

    @property
    def window_follows_sink(self) -> bool:
        """False: the bank lies between."""
        return False

    @property
    def remembers(self) -> bool:
        """True: the bank holds frames that have left the window."""
        return True

    @property
    def extra_frames(self) -> int:
        """The bank, and one cell for the frame that left it last."""
        return self.bank_frames + 1

    @property
    def chunks_until_full(self) -> int:
        """Chunks until the bank has received one frame more than it holds."""
        return self.bank_frames * self.every + 1

    @property
    def follows_prompt(self) -> bool:
        """True: the prompt selects the frames of the bank."""
        return True

    @property
    def keeps_distances(self) -> bool:
        """True: sink and bank stay where they were in time."""
        return True


def capacity(policy: CachePolicy, length: int | None) -> int:
    """Latent frames to allocate for a rollout of `length` latent frames, None for no end."""
    if policy.limit is None:
        return UNBOUNDED_START if length is None else length
    return policy.limit if length is None else min(policy.limit, length)
