"""The numbers of tokens on the device, from the numbers of their latent frames."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ..machine.uploads import upload


def token_numbers(frames: Iterable[int], frame_tokens: int, device: torch.device) -> Tensor:
    """The numbers (t,) int64 of all tokens of latent frames or slots, frame by frame."""
    first = upload(torch.tensor([*frames], dtype=torch.long), device) * frame_tokens
    return (first[:, None] + torch.arange(frame_tokens, device=device)).flatten()
