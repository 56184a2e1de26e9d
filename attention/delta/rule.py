"""The frame-wise gated delta rule: a memory of constant size that latent frames are written into.

The state S (d, d) of a head answers a key with a value. A latent frame is written as a whole, since
its tokens have no order. With keys K and values V (s, d), write strengths B and the decay g:

    S <- g S;  U = B (V - K S);  S <- S + K^T U

So a frame corrects what the state answers to its keys, and only that. Source: NVlabs/Sana 3e37813
(Apache-2.0), `diffusion/model/ops/frame_gdn/fused_recurrent_triton.py`; with one token a frame it
is the gated delta rule of arXiv 2412.06464. SANA divides by a second state. Here keys and queries
are normalised instead, as in that paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..rope import Rotation, rotate


@dataclass(frozen=True, slots=True)
class FrameWrites:
    """What f latent frames write, in float32 or float64.

    `keys` and `values` are (b, f, n, s, d), `strength` (b, f, n, s) and `decay` (b, f, n) from 0 to
    1. The squared lengths of a frame's keys add up to at most 1, or the state could grow.
    """

    keys: Tensor
    values: Tensor
    strength: Tensor
    decay: Tensor

    @property
    def frames(self) -> int:
        """The number of latent frames."""
        return self.keys.shape[1]

    def part(self, frames: slice) -> FrameWrites:
        """What some of the frames write."""
        return FrameWrites(
            self.keys[:, frames], self.values[:, frames], self.strength[:, frames],
            self.decay[:, frames],
        )  # fmt: skip


def memory_keys(k: Tensor, places: Rotation) -> Tensor:
    """Keys (b, f, n, s, d) of one write each, from un-rotated keys (b, f, s, n, d) of a layer.

    `places` turns the tokens of a latent frame by row and column. The time of a frame is left out,
    so that a state never has to be turned again.
    """
    keys: Tensor = _at_places(k, places) * k.shape[2] ** -0.5
    return keys


def memory_queries(q: Tensor, places: Rotation) -> Tensor:
    """Queries (b, f, n, s, d) that read a matching key's whole value back."""
    queries: Tensor = _at_places(q, places) * q.shape[2] ** 0.5
    return queries


def _at_places(x: Tensor, places: Rotation) -> Tensor:
    turned = rotate(x.flatten(0, 1).float(), places).view(x.shape)
    return F.normalize(turned, dim=-1).transpose(2, 3)


def write(state: Tensor, frame: FrameWrites) -> Tensor:
    """The state (b, n, d, d) after one latent frame was written: the recurrent form."""
    keys, values = frame.keys[:, 0], frame.values[:, 0]
    state = frame.decay[:, 0, :, None, None] * state
    correction = frame.strength[:, 0, ..., None] * (values - keys @ state)
    return state + keys.transpose(-1, -2) @ correction


def read(state: Tensor, queries: Tensor) -> Tensor:
    """What states (b, f, n, d, d), or one for all frames, answer to queries (b, f, n, s, d)."""
    return queries @ state


def states_before(writes: FrameWrites, chunk_frames: int | None = None) -> Tensor:
    """The states (b, f + 1, n, d, d) before each of f frames and after the last, from no memory.

    This is the form for training. Within a chunk of `chunk_frames` no frame waits for another;
    None takes all frames at once: the whole form.
    """
    b, f, n, _, d = writes.keys.shape
    size = chunk_frames or max(f, 1)
    states = [writes.keys.new_zeros(b, 1, n, d, d)]
    for first in range(0, f, size):
        maps, added = _after_each(*_maps(writes.part(slice(first, first + size))))
        states.append(maps @ states[-1][:, -1:] + added)
    return torch.cat(states, 1)


def _maps(writes: FrameWrites) -> tuple[Tensor, Tensor]:
    """A and C (b, f, n, d, d) of every frame: it takes a state S to A S + C."""
    keys, strength = writes.keys, writes.strength.unsqueeze(-1)
    written = (strength * keys).transpose(-1, -2)
    same = torch.eye(keys.shape[-1], dtype=keys.dtype, device=keys.device)
    maps = writes.decay[..., None, None] * (same - written @ keys)
    return maps, written @ writes.values


def _after_each(maps: Tensor, added: Tensor) -> tuple[Tensor, Tensor]:
    """The maps of the first frame, of the first two and so on, in log2 f rounds."""
    span = 1
    while span < maps.shape[1]:
        later = maps[:, span:]
        added = torch.cat([added[:, :span], later @ added[:, :-span] + added[:, span:]], 1)
        maps = torch.cat([maps[:, :span], later @ maps[:, :-span]], 1)
        span *= 2
    return maps, added
