"""A KV cache with a state beside it, which absorbs the latent frames that leave the window.

The state absorbs a frame in the commit that evicts it, so that no frame is both in the window and
in the state. Denoising only reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..cache import kv_cache
from ..cache.kv_cache import KVCache
from ..snapshot import Snapshot
from ..storage.dense import DENSE, Storage
from ..storage.shape import CacheShape
from .state import DeltaState
from .state import planned_bytes as planned_state_bytes
from .window import DeltaWindow

STATE = "state"


def planned_bytes(
    shape: CacheShape, policy: DeltaWindow, length: int | None, storage: Storage = DENSE
) -> int:
    """Exact value of `DeltaCache.bytes`."""
    window = kv_cache.planned_bytes(shape, policy, length, storage)
    return window + planned_state_bytes(shape)


class DeltaCache(KVCache):
    """The history of a rollout: a window of keys and values, and a state of what left it."""

    policy: DeltaWindow

    def __init__(
        self,
        shape: CacheShape,
        policy: DeltaWindow,
        length: int | None = None,
        device: torch.device | str = "cpu",
        storage: Storage = DENSE,
    ) -> None:
        super().__init__(shape, policy, length, device, storage)
        self.state = DeltaState(shape, self.device)

    @property
    def bytes(self) -> int:
        """Bytes of all tensors on the device, the state's included."""
        return 0 if self.dropped else super().bytes + self.state.bytes

    def assume(self, frames: int) -> None:
        """Hold the next latent `frames`, whose content is undefined; for rehearsals.

        Once the window is full, the state is read as if a frame had left.
        """
        super().assume(frames)
        self.state.absorbed += len(self.slots.kept_frames) == self.policy.limit

    def clear(self) -> None:
        """Forget the history and the state; the next commit is of frame 0 again."""
        super().clear()
        self.state.clear()

    def restart(self, frames: Sequence[int] = ()) -> None:
        """Forget the frames held, which will be committed again; the state stays."""
        super().clear()

    def retain(self, frames: Sequence[int]) -> None:
        """Keep only those held latent frames that are in `frames`, and empty the state."""
        super().retain(frames)
        self.state.clear()

    def snapshot(self) -> Snapshot:
        """All state that later chunks depend on."""
        window = super().snapshot()
        tensors: dict[str, Tensor] = {STATE: self.state.values.to("cpu", copy=True)}
        facts = {**window.facts, "absorbed": self.state.absorbed}
        return Snapshot({**window.tensors, **tensors}, facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from the `snapshot` of a cache with the same settings."""
        super().restore(snapshot)
        self.state.values.copy_(snapshot.tensors[STATE])
        self.state.absorbed = snapshot.facts["absorbed"]

    def move(self, device: torch.device | str) -> None:
        """Take all tensors to `device`, bit for bit."""
        super().move(device)
        if not self.dropped:
            self.state.move(self.device)

    def drop(self) -> None:
        """Free all tensors; the cache cannot be used any more."""
        super().drop()
        del self.state

    def _leave(self, slot: int) -> None:
        """Write the frame in a kept slot into the state, before another takes its place."""
        for layer in range(self.shape.layers):
            self.state.absorb(layer, *self._store.frame(layer, slot))
        self.state.absorbed += 1
