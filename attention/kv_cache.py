"""The KV cache: keys and values of finished latent frames, in preallocated ring slots.

Keys are stored un-rotated and rotated when read, at positions counted from the oldest frame still
held, so a stream has no last position and no seam. While a chunk is denoised the history is only
read: the chunk's own keys and values go to scratch slots behind it. `commit` alone adds to the
history and evicts. Which slot holds which latent frame is plain integers; no layer keeps a cursor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .dense import attend_in_parts, parts
from .rope import Rotation, rotate, rotation


@dataclass(frozen=True, slots=True)
class FullHistory:
    """Keep every latent frame."""

    def capacity(self, length: int | None) -> int:
        """Latent frames to allocate; `length` is the rollout's, None when it has no end."""
        return length if length is not None else 64

    def slot(self, frame: int) -> int:
        """The slot that the `frame`-th latent frame is stored in."""
        return frame


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

    def capacity(self, length: int | None) -> int:
        """Latent frames to allocate; never more than the rollout is long."""
        return self.window_frames if length is None else min(self.window_frames, length)

    def slot(self, frame: int) -> int:
        """The slot that the `frame`-th latent frame is stored in, evicting what was there."""
        if frame < self.sink_frames:
            return frame
        ring = self.window_frames - self.sink_frames
        return self.sink_frames + (frame - self.sink_frames) % ring


CachePolicy = FullHistory | WindowSink


def sink_frames(policy: CachePolicy) -> int:
    """How many of the first latent frames are never evicted."""
    return policy.sink_frames if isinstance(policy, WindowSink) else 0


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Everything that decides how many bytes a cache takes, but for the policy.

    `batch` counts guidance branches; `rows` x `columns` are tokens per latent frame; `chunk_frames`
    is the most latent frames that are active at once; `hold_rotated` keeps rotated keys of all
    layers for a chunk (faster, half as much memory again) instead of rotating into one shared
    buffer at each layer call.
    """

    layers: int
    batch: int
    heads: int
    head_dim: int
    rows: int
    columns: int
    chunk_frames: int
    dtype: torch.dtype = torch.float32
    hold_rotated: bool = True

    @property
    def frame_tokens(self) -> int:
        """Tokens of one latent frame."""
        return self.rows * self.columns

    def planned_bytes(self, policy: CachePolicy, length: int | None) -> int:
        """What `KVCache.bytes` will be, exactly; an unbounded full history only starts there."""
        slots = policy.capacity(length)
        copies = self.layers if self.hold_rotated else 1
        tensors = self.layers * slots + (self.layers + copies) * (slots + self.chunk_frames)
        width = self.batch * self.heads * self.head_dim
        return tensors * width * self.frame_tokens * self.dtype.itemsize


class KVCache:
    """The history of one rollout for all layers and guidance branches."""

    def __init__(
        self,
        shape: CacheShape,
        policy: CachePolicy,
        length: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.shape, self.policy, self.device = shape, policy, torch.device(device)
        self.committed = 0  # latent frames ever committed
        self.held: list[int] = []  # slot -> latent frame
        self._past: Rotation | None = None  # of the history, until the next commit
        self._turned: set[int] = set()  # layers whose rotated copy of the history is up to date
        self._allocate(policy.capacity(length))

    @property
    def bytes(self) -> int:
        """Bytes of all tensors held, scratch and rotated copies included."""
        tensors = {id(t): t for t in (*self._keys, *self._values, *self._rotated)}
        return sum(t.numel() * t.element_size() for t in tensors.values())

    @property
    def dropped(self) -> bool:
        """Whether the memory was given back; the history must then be committed again, anew."""
        return not self._values

    @property
    def positions(self) -> list[int]:
        """Window-relative position of the frame in each slot: its rank among the frames held."""
        order = {frame: rank for rank, frame in enumerate(sorted(self.held))}
        return [order[frame] for frame in self.held]

    def attention(
        self,
        frames: int,
        visible: Sequence[int] = (),
        *,
        rows: slice = slice(None),
        at: int | None = None,
    ) -> CachedAttention:
        """What `frames` active latent frames may look at: the history and themselves.

        `visible`: how many of the active ones, from the front, each may look at; without it, all.
        `rows` are the batch rows that attend; `at` is the active frames' position where it is not
        right after the history.
        """
        if frames > self.shape.chunk_frames:
            raise ValueError(
                f"at most {self.shape.chunk_frames} latent frames may be active; got {frames}"
            )
        visible = visible or (frames,) * frames
        return CachedAttention(self, visible, rows, len(self.held) if at is None else at)

    def history(self, layer: int) -> tuple[Tensor, Tensor]:
        """Un-rotated keys and values (b, s, n, d) held for `layer`, in slot order."""
        stop = len(self.held) * self.shape.frame_tokens
        return self._keys[layer][:, :stop], self._values[layer][:, :stop]

    def rotation(self, positions: Sequence[int]) -> Rotation:
        """The rotation of latent frames at window-relative `positions`."""
        return rotation(
            positions, self.shape.rows, self.shape.columns, self.shape.head_dim, self.device
        )

    def workspace(self, layer: int, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Rotated keys and values of `layer`: history in front, scratch for active frames behind.

        Views of the batch `rows`.

        With `hold_rotated` the history is rotated once between two commits, else at every call.
        """
        if self._past is None:
            self._past = self.rotation(self.positions)
        if layer not in self._turned:
            past, _ = self.history(layer)
            wanted = slice(None) if self.shape.hold_rotated else rows
            self._rotated[layer][wanted, : past.shape[1]] = rotate(past[wanted], self._past)
            if self.shape.hold_rotated:
                self._turned.add(layer)
        return self._rotated[layer][rows], self._values[layer][rows]

    def commit(self, keys_values: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Append finished latent frames, evicting as the policy says.

        `keys_values` holds un-rotated k and v (b, f s, n, d) of every layer.
        """
        tokens = self.shape.frame_tokens
        count = keys_values[0][0].shape[1] // tokens
        self._reserve(self.committed + count)
        for i in range(count):
            slot = self.policy.slot(self.committed)
            into, source = (slice(n * tokens, (n + 1) * tokens) for n in (slot, i))
            for layer, (k, v) in enumerate(keys_values):
                self._keys[layer][:, into] = k[:, source]
                self._values[layer][:, into] = v[:, source]
            self.held[slot : slot + 1] = [self.committed]
            self.committed += 1
        self._forget_rotated()

    def clear(self) -> None:
        """Forget the history; the next commit is of frame 0 again."""
        self.committed = 0
        self.held.clear()
        self._forget_rotated()

    def _forget_rotated(self) -> None:
        self._past = None
        self._turned.clear()

    def move(self, device: torch.device | str) -> None:
        """Take all tensors to `device`, bit for bit; compute only where the model is."""
        self.device = torch.device(device)
        self._past = None
        moved: dict[int, Tensor] = {}
        for tensors in (self._keys, self._values, self._rotated):
            for layer, tensor in enumerate(tensors):
                if id(tensor) not in moved:  # one rotated buffer may serve all layers
                    moved[id(tensor)] = tensor.to(self.device)
                tensors[layer] = moved[id(tensor)]

    def drop(self) -> None:
        """Give all memory back."""
        for tensors in (self._keys, self._values, self._rotated):
            tensors.clear()
        self._past = None

    def _allocate(self, slots: int) -> None:
        s = self.shape
        self._slots = slots

        def empty(frames: int) -> Tensor:
            shape = s.batch, frames * s.frame_tokens, s.heads, s.head_dim
            return torch.zeros(shape, dtype=s.dtype, device=self.device)

        self._keys = [empty(slots) for _ in range(s.layers)]
        self._values = [empty(slots + s.chunk_frames) for _ in range(s.layers)]
        if s.hold_rotated:
            self._rotated = [empty(slots + s.chunk_frames) for _ in range(s.layers)]
        else:
            self._rotated = [empty(slots + s.chunk_frames)] * s.layers

    def _reserve(self, frames: int) -> None:
        """Grow a full history that had no planned end; a window never grows."""
        if not isinstance(self.policy, FullHistory) or frames <= self._slots:
            return
        old = [self.history(layer) for layer in range(self.shape.layers)]
        self._allocate(max(frames, 2 * self._slots))
        for layer, (k, v) in enumerate(old):
            self._keys[layer][:, : k.shape[1]] = k
            self._values[layer][:, : v.shape[1]] = v


class CachedAttention:
    """Self-attention of the active latent frames over the history and themselves.

    Active frame i sees the first `visible[i]` active ones. Frames that see as many in a row are one
    call over a slice of the keys, so no mask is ever made. Valid until the next commit.
    """

    def __init__(self, cache: KVCache, visible: Sequence[int], rows: slice, at: int) -> None:
        self.cache, self.rows = cache, rows
        tokens = cache.shape.frame_tokens
        self._now = cache.rotation(range(at, at + len(visible)))
        self._past_tokens = len(cache.held) * tokens
        self._parts = parts(visible, len(cache.held), tokens)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of the active frames."""
        stop = self._past_tokens + k.shape[1]
        keys, values = self.cache.workspace(layer, self.rows)
        keys[:, self._past_tokens : stop] = rotate(k, self._now)
        values[:, self._past_tokens : stop] = v
        return attend_in_parts(rotate(q, self._now), keys, values, self._parts)
