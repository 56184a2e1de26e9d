"""The finished latent frames that a rollout's history holds, oldest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...attention.cache.policy import CachePolicy
from ...attention.history import HistoryCache
from ...attention.snapshot import Snapshot, join
from ..conditioning.first_frame import LOOKBACK_FRAMES


@dataclass(frozen=True, slots=True)
class HistoryFrame:
    """A finished latent frame.

    `group` is the first frame that was committed with it. `known` marks known frames. `latents`
    (c, h, w) are clean, and kept only if a cache may be rebuilt from them.
    """

    frame: int
    group: int
    known: bool
    latents: Tensor | None

    @property
    def as_range(self) -> range:
        """The frame's index as a range of one."""
        return range(self.frame, self.frame + 1)


class HistoryFrames:
    """The finished latent frames in the history, and how many were ever committed.

    With `keep_latents` their clean latents stay. With `keep_departed` so do the last ones of the
    frames that left.
    """

    def __init__(self, *, keep_latents: bool, keep_departed: bool) -> None:
        self.frames: list[HistoryFrame] = []
        self.departed: list[Tensor] = []  # clean latents (c, h, w) just before the oldest frame
        self.committed = 0
        self._keep_latents, self._keep_departed = keep_latents, keep_departed

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def numbers(self) -> list[int]:
        """The frames' indices in the rollout."""
        return [frame.frame for frame in self.frames]

    def append(self, first: int, clean: Tensor, known: Sequence[bool]) -> list[HistoryFrame]:
        """Add finished latents (f, c, h, w) from frame `first`; returns their entries."""
        added = [
            HistoryFrame(
                first + i, first, is_known, clean[i].clone() if self._keep_latents else None
            )
            for i, is_known in enumerate(known)
        ]
        self.frames += added
        return added

    def assume(self, frames: Sequence[HistoryFrame], committed: int) -> None:
        """Take `frames` as the history after `committed` frames, without any commit."""
        self.frames, self.committed = [*frames], committed

    def keep(self, frames: Sequence[HistoryFrame]) -> None:
        """Drop all frames but these; what lies before them counts as departed."""
        if self._keep_departed:
            gone = (frame for frame in self.frames if frame.frame < frames[0].frame)
            latents = (frame.latents for frame in gone if frame.latents is not None)
            self.departed = [*self.departed, *latents][-LOOKBACK_FRAMES:]
        self.frames = [*frames]

    def hold(self, numbers: Sequence[int]) -> None:
        """Have these frames; those that come back stand alone, as generated ones."""
        present = {entry.frame: entry for entry in self.frames}
        self.frames = [
            present.get(number) or HistoryFrame(number, number, False, None)
            for number in sorted(numbers)
        ]

    def in_window(self, policy: CachePolicy) -> list[HistoryFrame]:
        """The frames that remain when `policy` evicts until its limit is met."""
        remaining = list(self.frames)
        while policy.limit is not None and len(remaining) > policy.limit:
            del remaining[policy.victim([frame.frame for frame in remaining])]
        return remaining

    def survivors(self, cache: HistoryCache, count: int) -> Callable[[], list[HistoryFrame]]:
        """A function that tells, after `count` frames were committed, which ones `cache` kept.

        A cache renumbers its frames when it is rebuilt, but their order never changes.
        """
        numbers = [*sorted(cache.kept_frames), *range(cache.committed, cache.committed + count)]

        def remaining() -> list[HistoryFrame]:
            numbers_left = set(cache.kept_frames)
            pairs = zip(numbers, self.frames, strict=True)
            return [frame for number, frame in pairs if number in numbers_left]

        return remaining

    def snapshot(self) -> Snapshot:
        """The frames' facts and clean latents."""
        facts = {
            "committed": self.committed,
            "frames": [[entry.frame, entry.group, entry.known] for entry in self.frames],
        }
        latents = [entry.latents for entry in self.frames if entry.latents is not None]
        stacks = {"latents": latents, "departed": self.departed}
        clean = {name: torch.stack(parts).cpu() for name, parts in stacks.items() if parts}
        return join(facts, {"clean": Snapshot(clean)})

    def restore(self, snapshot: Snapshot, size: Sequence[int], device: torch.device) -> None:
        """Continue from `snapshot`, latents of `size` (c, h, w) on `device`."""
        tensors, entries = snapshot.part("clean").tensors, snapshot.facts["frames"]
        clean, departed = tensors.get("latents"), tensors.get("departed")
        for part in (clean, departed):
            if part is not None and (part.ndim != 4 or tuple(part.shape[1:]) != tuple(size)):
                raise ValueError(f"a snapshot's latents are {[*part.shape]} and must be {[*size]}")
        latents = [None] * len(entries) if clean is None else [*clean.to(device)]
        self.frames = [
            HistoryFrame(frame, group, known, part)
            for (frame, group, known), part in zip(entries, latents, strict=True)
        ]
        self.departed = [] if departed is None else [*departed.to(device)]
        self.committed = snapshot.facts["committed"]
