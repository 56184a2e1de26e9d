"""Which earlier latent frames a layer remembers: those much attended to, yet spread over time.

After TetherCache (arXiv 2606.13035; my4f175/TetherCache 37c581a `tethercache/grab.py`, `tame.py`).
A frame's mass is its share in a softmax over the frames' mean products of un-rotated queries and
keys, over all heads and tokens. The mean of all products is the product of the means. Its
diversity is 1 - max over others of mass exp(-|distance| / sigma), where sigma is half the time that
the frames span, at least 1. The frames of the highest sum of mass and weighted diversity remain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..policy import WindowSink

MIN_DEVIATION = 1e-6


@dataclass(frozen=True, slots=True)
class TetherCache(WindowSink):
    """Keep the sink, the newest frames, and between them frames that every layer chooses.

    Frames that leave the newest `newest_frames` wait, unseen, for the next commit, whose queries
    judge them together with the layer's memories. `diversity` weighs a distance in time against
    attention. Keys and values of a frame that becomes a memory move by the share `alignment` toward
    the mean and deviation of the sink and the memories, in each head and channel.
    """

    newest_frames: int = 1
    diversity: float = 0.35
    alignment: float = 0.35

    def __post_init__(self) -> None:
        WindowSink.__post_init__(self)
        if not 1 <= self.newest_frames <= self.window_frames - self.sink_frames:
            raise ValueError(
                "newest_frames must be from 1 to the window without its sink, "
                f"{self.window_frames - self.sink_frames}; got {self.newest_frames}"
            )
        if not (0 <= self.diversity < math.inf and 0 <= self.alignment <= 1):
            raise ValueError(
                "diversity must be at least 0 and alignment from 0 to 1; "
                f"got {self.diversity} and {self.alignment}"
            )

    @property
    def memories(self) -> int:
        """Latent frames that each layer chooses."""
        return self.window_frames - self.sink_frames - self.newest_frames

    @property
    def window_follows_sink(self) -> bool:
        """False: the memories lie between."""
        return False

    @property
    def heads_differ(self) -> bool:
        """True: the heads of each layer hold other frames."""
        return True

    @property
    def remembers(self) -> bool:
        """True: which frames a layer holds depends on every commit so far."""
        return True

    @property
    def keeps_leavers(self) -> bool:
        """True: frames that leave the newest ones wait to be judged."""
        return True

    def within(self, frames: int) -> TetherCache:
        """The same policy with at most `frames`, which must exceed the sink."""
        window = min(frames, self.window_frames)
        newest = min(self.newest_frames, window - self.sink_frames)
        return replace(self, window_frames=window, newest_frames=newest)

    def with_first(self) -> TetherCache:
        """The same policy with a sink of one frame, unless it has a sink or no room for one."""
        has_room = self.memories > 0 and not self.sink_frames
        return replace(self, sink_frames=1) if has_room else self

    def waiting(self, frames: Sequence[int]) -> list[int]:
        """Of held `frames`, oldest first, those that wait to be judged and that no pass sees."""
        first = self.sink_frames + self.memories
        return [*frames[first : first + max(0, len(frames) - self.window_frames)]]


def choose_memories(
    queries: Tensor, keys: Tensor, frames: Sequence[int], policy: TetherCache
) -> list[int]:
    """The ranks, in order of time, of the candidate `frames` that a layer goes on remembering.

    `queries` (b, s, n, d) and the candidates' `keys` (b, f, t, n, d) are not rotated. Rows of the
    batch decide together. Of equal scores the earlier frame remains.
    """
    q, k = queries.mean(1, dtype=torch.float32), keys.mean(2, dtype=torch.float32)
    logits = (q.unsqueeze(1) * k).sum(-1).mean(-1) / queries.shape[-1] ** 0.5  # (b, f)
    logits = torch.zeros(logits.shape) if logits.is_meta else logits.cpu()  # as in a rehearsal
    mass = logits.double().softmax(-1)
    scores = (mass + policy.diversity * _diversity(frames, mass)).mean(0)
    best = scores.sort(descending=True, stable=True).indices[: policy.memories]
    return sorted(best.tolist())


def _diversity(frames: Sequence[int], mass: Tensor) -> Tensor:
    """How little each of `frames` repeats one with much of the `mass` (b, f), from 0 to 1."""
    at = torch.tensor([*frames], dtype=torch.float64)
    span = max(1.0, 0.5 * (max(frames) - min(frames) + 1))
    nearness = (-(at - at[:, None]).abs() / span).exp().fill_diagonal_(0)
    return (1 - (nearness * mass.unsqueeze(1)).amax(-1)).clamp(min=0)


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """Mean and deviation (b, 1, n, d) of keys or values over their tokens, float32."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, x: Tensor) -> TokenStatistics:
        """The statistics of x (b, s, n, d), for each row, head and channel."""
        x = x.float()
        deviation = x.std(1, correction=0, keepdim=True).clamp(min=MIN_DEVIATION)
        return cls(x.mean(1, keepdim=True), deviation)


def align(x: Tensor, to: TokenStatistics, strength: float) -> Tensor:
    """Keys or values x (b, s, n, d), moved by the share `strength` toward statistics."""
    own = TokenStatistics.of(x)
    moved = (x.float() - own.mean) / own.deviation * to.deviation + to.mean
    return x.float().lerp(moved, strength).to(x.dtype)
