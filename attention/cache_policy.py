"""What a KV cache keeps: values that say how many latent frames, and which one gives way.

A cache asks its policy; adding a policy changes no loop. Which slot a frame lies in is the cache's
business: a policy sees the numbers of the frames that are held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

UNBOUNDED_START = 64  # slots of a history without bound or planned end, before it first grows


class CachePolicy(Protocol):
    """What a history keeps."""

    @property
    def limit(self) -> int | None:
        """The most latent frames it holds; None keeps every one."""

    @property
    def sink_frames(self) -> int:
        """How many of the first latent frames are never evicted."""

    def victim(self, held: Sequence[int]) -> int:
        """The index in `held`, frames by slot, of the one that gives way when all are full."""

    def merged_into(self, frame: int) -> int | None:
        """The sink frame that an evicted `frame` is averaged into; None drops it."""

    @property
    def sink_decay(self) -> float:
        """The share of itself that a sink frame keeps when another is averaged into it."""


@dataclass(frozen=True, slots=True)
class FullHistory:
    """Keep every latent frame."""

    @property
    def limit(self) -> None:
        """There is none."""

    @property
    def sink_frames(self) -> int:
        """Nothing is ever evicted, so there is no sink."""
        return 0

    def victim(self, held: Sequence[int]) -> int:
        """Nothing gives way: the cache grows."""
        raise IndexError(f"a full history of {len(held)} latent frames was asked to evict one")

    def merged_into(self, frame: int) -> int | None:
        """Nothing is evicted."""
        return None

    @property
    def sink_decay(self) -> float:
        """There is no sink to average into."""
        return 1.0


@dataclass(frozen=True, slots=True)
class WindowSink:
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

    def merged_into(self, frame: int) -> int | None:
        """What is evicted is gone."""
        return None

    @property
    def sink_decay(self) -> float:
        """The sink stays as it is."""
        return 1.0


def capacity(policy: CachePolicy, length: int | None) -> int:
    """Latent frames to allocate; `length` is the rollout's, None when it has no end."""
    if policy.limit is None:
        return UNBOUNDED_START if length is None else length
    return policy.limit if length is None else min(policy.limit, length)
