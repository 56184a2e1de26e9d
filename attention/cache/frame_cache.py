"""What all KV caches share: the latent frames they report, and attention to their history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from ..dense import parts
from ..layout import HistoryAttention, RotatedHistory
from ..rope import Rotation
from ..storage.shape import CacheShape


class FrameNumbers(Protocol):
    """The latent frames of a history, as plain integers."""

    @property
    def committed(self) -> int:
        """Latent frames ever committed."""

    @property
    def next_frame(self) -> int:
        """The number of the latent frame that is committed next."""

    @property
    def kept_frames(self) -> list[int]:
        """The latent frames in the history, in its own order."""

    @property
    def positions(self) -> list[int]:
        """Window-relative position of each of them; the next frame's follows."""

    @property
    def next_position(self) -> int:
        """The position of the frame that follows the history."""


class AttendedKeys(RotatedHistory, Protocol):
    """Rotated keys of a history, and the rotation of the frames that attend to them."""

    def active_rotation(self, positions: Sequence[int]) -> Rotation:
        """The rotation of active frames at window-relative `positions`."""


class FrameCache:
    """Base of KV caches: `numbers` counts their frames, `rotated_keys` is what attention reads."""

    rotated_keys: AttendedKeys

    def __init__(
        self, shape: CacheShape, numbers: FrameNumbers, device: torch.device | str
    ) -> None:
        self.shape, self.device = shape, torch.device(device)
        self.generation = 0
        self.dropped = False
        self._numbers = numbers

    @property
    def committed(self) -> int:
        """Latent frames ever committed."""
        return self._numbers.committed

    @property
    def next_frame(self) -> int:
        """The number of the latent frame that is committed next."""
        return self._numbers.next_frame

    @property
    def kept_frames(self) -> list[int]:
        """The latent frames that count as held, in the order of `positions`."""
        return self._numbers.kept_frames

    @property
    def positions(self) -> list[int]:
        """Window-relative position of each kept frame."""
        return self._numbers.positions

    @property
    def next_position(self) -> int:
        """The position of the frame that follows the history."""
        return self._numbers.next_position

    def attention(
        self,
        frames: int,
        visible: Sequence[int] = (),
        *,
        rows: slice = slice(None),
        positions: Sequence[int] = (),
    ) -> HistoryAttention:
        """Attention of `frames` active latent frames to the history and themselves.

        Active frame i sees the first `visible[i]` active frames, by default all of them. `rows` are
        the batch rows that attend. `positions` are those of the active frames, by default the ones
        that follow the history.
        """
        seen = parts(self.shape.visible(frames, visible), 0, self.shape.frame_tokens)
        start = self.next_position
        after = range(start, start + frames)
        rotation = self.rotated_keys.active_rotation(positions or after)
        return HistoryAttention(self.rotated_keys, seen, rows, rotation, self.shape.products)

    def is_coarse(self, frames: int) -> bool:
        """No: all frames have the same tokens."""
        return False

    def attention_of_commit(self, visible: Sequence[int]) -> HistoryAttention:
        """Attention of finished frames in the pass whose keys are committed next."""
        return self.attention(len(visible), visible)
