"""What a TempCache keeps: so many entries a head, and when keys are merged into one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .merge import Rules


@dataclass(frozen=True, slots=True)
class TempCache:
    """Keep `entry_frames` latent frames' worth of entries in every head.

    `threshold` is the cosine above which a new key is merged into the nearest cached one, for all
    heads or by layer and head; for want of room, so are the most similar ones above `floor`. The
    first `sink_frames` are never changed. `reach_frames` is the farthest that an entry stands
    before the active frames, None as far as its age.
    """

    entry_frames: int
    threshold: float | tuple[tuple[float, ...], ...] = 0.9
    floor: float = 0.5
    sink_frames: int = 0
    reach_frames: int | None = None

    def __post_init__(self) -> None:
        if self.entry_frames <= self.sink_frames:
            raise ValueError(
                "entry_frames must be more than sink_frames; "
                f"got {self.entry_frames} and {self.sink_frames}"
            )
        if self.reach_frames is not None and self.reach_frames < 1:
            raise ValueError(f"reach_frames must be at least 1; got {self.reach_frames}")

    def rules(self, layer: int, heads: int, device: torch.device) -> Rules:
        """The rules of one layer."""
        of_heads = self.threshold
        if isinstance(of_heads, tuple):
            row = torch.tensor(of_heads[layer], device=device)
        else:
            row = torch.full((heads,), of_heads, device=device)
        return Rules(row.unsqueeze(-1), self.floor, self.sink_frames)
