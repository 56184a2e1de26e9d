"""Attention along time: each token attends to those in its own place of other latent frames.

Positions turn the first 8 channels of a head alone, by the latent frame, with frequencies of base
256. Only differences of frames count. Source: Matrix-Game 2 (arXiv 2508.13009), as in
zoheth/Matrix-Game 62dedd1, Matrix-Game-2/wan/modules/action_module.py and posemb_layers.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..machine.uploads import upload
from .dense import attend_in_parts, parts
from .rope import Rotation, rotate

TURNED = 8  # channels of a head
THETA = 256.0


def turns(frames: Sequence[int], device: torch.device | str = "cpu") -> Rotation:
    """The turn (f, 1, 1, 8) of each of latent `frames`; angles are float64 on the CPU."""
    on = torch.device("meta" if torch.device(device).type == "meta" else "cpu")
    pairs = torch.arange(0, TURNED, 2, dtype=torch.float64, device=on)
    times = torch.tensor([*frames], dtype=torch.float64, device=on)
    angles = torch.outer(times, THETA ** (-pairs / TURNED)).repeat_interleave(2, -1)
    cos, sin = (upload(x.float(), device)[:, None, None] for x in (angles.cos(), angles.sin()))
    return Rotation(cos, sin)


def turn(x: Tensor, by: Rotation) -> Tensor:
    """Turn x (b, f, s, n, d), each latent frame by its own."""
    return torch.cat([rotate(x[..., :TURNED].contiguous(), by), x[..., TURNED:]], -1)


def attend_in_place(q: Tensor, k: Tensor, v: Tensor, visible: Sequence[int]) -> Tensor:
    """Attention of q (b, f, s, n, d) along time to k, v (b, t, s, n, d).

    The last f of t frames are those of q. Each sees all before them; frame i of q also sees the
    first `visible[i]` frames of q.
    """
    b, past = len(q), k.shape[1] - q.shape[1]
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))  # (b s, f, n, d)
    out: Tensor = attend_in_parts(q, k, v, parts(visible, past, 1)).unflatten(0, (b, -1))
    return out.transpose(1, 2)


def attend_to_frames(q: Tensor, k: Tensor, v: Tensor, visible: Sequence[int]) -> Tensor:
    """Attention of q (b, f, s, n, d) to one key and value (b, t, n, d) of each latent frame.

    Frames see one another as in `attend_in_place`.
    """
    tokens, past = q.shape[2], k.shape[1] - q.shape[1]
    seen = tuple(
        (slice(at.start * tokens, at.stop * tokens), count) for at, count in parts(visible, past, 1)
    )
    return attend_in_parts(q.flatten(1, 2), k, v, seen).view_as(q)
