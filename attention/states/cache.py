"""A history without keys: the state of a recurrent model after the last latent frame.

It has the interface of a KV cache. What a commit keeps of a latent frame is a pair for each layer,
and the pair of the newest frame stands for all frames before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..cache.prompt_keys import PromptKeys
from ..snapshot import Snapshot
from ..storage.dense import KeysValues
from ..storage.shape import CacheShape


def planned_bytes(shape: CacheShape) -> int:
    """Exact value of `StateCache.bytes`."""
    return 2 * shape.layers * shape.frame_values * shape.dtype.itemsize


@dataclass(frozen=True, slots=True)
class StateReader:
    """Answers each layer with its state for some batch rows, whatever is asked.

    `pairs` are (b, s, n, d). The answer (b, 2 s, n, d) is a layer's pair, one after the other.
    """

    pairs: Sequence[tuple[Tensor, Tensor]]
    rows: slice
    is_observed: bool = False

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The state of a layer; q, k and v are not looked at."""
        return torch.cat([part[self.rows] for part in self.pairs[layer]], 1)


class FrameCount:
    """The latent frames of a history that holds all of them, by their number alone."""

    def __init__(self) -> None:
        self.committed = 0

    @property
    def next_frame(self) -> int:
        """The number of the latent frame that is committed next."""
        return self.committed

    @property
    def kept_frames(self) -> list[int]:
        """All latent frames committed: the state stands for all of them."""
        return [*range(self.committed)]

    @property
    def positions(self) -> list[int]:
        """Their places in time."""
        return self.kept_frames

    @property
    def next_position(self) -> int:
        """The place of the frame that follows."""
        return self.committed


class StateCache(FrameCount):
    """The states of all layers and batch rows; all of them zero before the first commit."""

    def __init__(self, shape: CacheShape, device: torch.device | str) -> None:
        super().__init__()
        self.shape, self.device = shape, torch.device(device)
        self.generation, self.dropped = 0, False
        size = 2, shape.layers, shape.batch, shape.frame_tokens, shape.heads, shape.head_dim
        self._state = torch.zeros(size, dtype=shape.dtype, device=self.device)

    @property
    def bytes(self) -> int:
        """Bytes of the states, exactly as planned."""
        return 0 if self.dropped else self._state.nbytes

    @property
    def offloaded_bytes(self) -> int:
        """0: a state stays on the device."""
        return 0

    def attention(
        self,
        frames: int,
        visible: Sequence[int] = (),
        *,
        rows: slice = slice(None),
        positions: Sequence[int] = (),
    ) -> StateReader:
        """The states for batch `rows`, which any number of active frames may read."""
        return StateReader(list(zip(*self._state, strict=True)), rows)

    def attention_of_commit(self, visible: Sequence[int]) -> StateReader:
        """The states before finished latent frames that are committed next."""
        return self.attention(len(visible), visible)

    def is_coarse(self, frames: int) -> bool:
        """No: a state has one size."""
        return False

    def no_history(self, rows: slice) -> StateReader:
        """The states of a shot that has not begun, for as many `rows`, which need not exist."""
        kinds, layers, _, *place = self._state.shape
        nothing = self._state.new_zeros(kinds, layers, rows.stop - rows.start, *place)
        return StateReader(list(zip(*nothing, strict=True)), slice(None))

    def history(self, layer: int) -> tuple[Tensor, Tensor]:
        """The pair (b, s, n, d) of a layer."""
        first, second = self._state[:, layer]
        return first, second

    def commit(self, keys_values: KeysValues, prompt: PromptKeys | None = None) -> None:
        """Take the pairs (b, f s, n, d) of finished latent frames; the last frame's replace all."""
        tokens = self.shape.frame_tokens
        for layer, pair in enumerate(keys_values):
            for i, part in enumerate(pair):
                self._state[i, layer] = part[:, -tokens:]
        self.committed += keys_values[0][0].shape[1] // tokens

    def leave_gap(self, frames: int) -> None:
        """Do nothing: a state has no places in time."""

    def assume(self, frames: int) -> None:
        """Count the next latent `frames`, whose content is undefined; for rehearsals."""
        self.committed += frames

    def clear(self) -> None:
        """Forget the history; the next commit is of frame 0 again."""
        self.generation += 1
        self.committed = 0
        self._state.zero_()

    def restart(self, frames: Sequence[int] = ()) -> None:
        """Forget the history, whose frames will be committed again."""
        self.clear()

    def retain(self, frames: Sequence[int]) -> None:
        """Raise ValueError unless all frames stay: a state cannot forget some of them."""
        if [*frames] != self.kept_frames:
            raise ValueError("a state cannot forget some of its latent frames")

    def snapshot(self) -> Snapshot:
        """The states, and how many latent frames they stand for."""
        return Snapshot({"state": self._state.to("cpu", copy=True)}, {"committed": self.committed})

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from the `snapshot` of a cache with the same settings."""
        self._state.copy_(snapshot.tensors["state"])
        self.committed = snapshot.facts["committed"]

    def move(self, device: torch.device | str) -> None:
        """Take the states to `device`, bit for bit."""
        self.device = torch.device(device)
        if not self.dropped:
            self._state = self._state.to(self.device)

    def drop(self) -> None:
        """Free the states; the cache cannot be used any more."""
        self.dropped = True
        del self._state
