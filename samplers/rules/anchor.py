"""The anchor: finished chunks are moved toward the colours and contrast of an anchor chunk.

Per channel, the mean and the deviation over all places of a chunk move toward the anchor's before
the chunk is shown and committed, so that a drift of either does not grow from chunk to chunk
(fixed-anchor renormalisation; TetherCache's TAME is the same at a strength of .35).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...attention.snapshot import Snapshot
from ...errors import BadInput
from ...machine.uploads import upload, upload_numbers

MIN_DEVIATION = 1e-6


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """The mean and the deviation of each channel of normalised latents."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, latents: Tensor) -> ChannelStatistics:
        """The statistics of latents (f, c, h, w), computed on the CPU, so the same everywhere."""
        values = latents.detach().float().cpu().double().transpose(0, 1).flatten(1).contiguous()
        deviation = values.std(1, correction=0).clamp(min=MIN_DEVIATION)
        return cls(tuple(values.mean(1).tolist()), tuple(deviation.tolist()))


@dataclass(frozen=True, slots=True)
class Anchor:
    """How far each chunk moves toward the anchor: `strength` from above 0 to 1.

    The anchor is the first chunk under the prompt in force, which itself stays as it is, or the
    `target`, such as a picture's statistics.
    """

    strength: float
    target: ChannelStatistics | None = None

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise BadInput(
                f"The strength of an anchor must be above 0 and at most 1; got {self.strength}."
            )

    def check(self, channels: int) -> None:
        """Refuse a target of other latents than the model's."""
        if self.target is not None and len(self.target.mean) != channels:
            raise BadInput(
                f"The anchor's picture has {len(self.target.mean)} latent channels and the model "
                f"{channels}; encode it with the model's own VAE."
            )

    def move(self, latents: Tensor, anchor: ChannelStatistics) -> Tensor:
        """Latents (f, c, h, w) with their statistics moved toward the anchor's."""
        own = ChannelStatistics.of(latents)
        mean, deviation, anchor_mean, anchor_deviation = (
            upload_numbers(values, latents).view(1, -1, 1, 1)
            for values in (own.mean, own.deviation, anchor.mean, anchor.deviation)
        )
        moved = (latents - mean) / deviation * anchor_deviation + anchor_mean
        return latents.lerp(moved, self.strength)


class AnchorChunks:
    """The statistics of a rollout's anchor chunks, by the first latent frame of their prompt."""

    def __init__(self, anchor: Anchor | None, channels: int) -> None:
        if anchor is not None:
            anchor.check(channels)
        self._anchor = anchor
        self._by_prompt: dict[int, ChannelStatistics] = {}

    def apply(self, first: int, clean: Tensor, known: Sequence[bool], prompt_start: int) -> Tensor:
        """A finished chunk (f, c, h, w) from frame `first`, moved toward its anchor.

        Known frames stay as they are, and so does a chunk that becomes the anchor of its prompt,
        which holds from frame `prompt_start`.
        """
        if self._anchor is None:
            return clean
        target = self._anchor.target
        if target is None and self.note(first, clean, prompt_start):
            return clean
        moved = self._anchor.move(clean, target or self._by_prompt[prompt_start])
        keep = upload(torch.tensor(known), clean.device).view(-1, 1, 1, 1)
        return torch.where(keep, clean, moved)

    def note(self, first: int, clean: Tensor, prompt_start: int) -> bool:
        """Take a chunk as the anchor of its prompt if it is the first; returns whether it is."""
        if self._anchor is None or self._anchor.target is not None:
            return False
        is_first = first == prompt_start or prompt_start not in self._by_prompt
        if is_first:
            self._by_prompt[prompt_start] = ChannelStatistics.of(clean)
        return is_first

    def snapshot(self) -> Snapshot:
        """The statistics of all anchors so far."""
        facts = [[start, [*s.mean], [*s.deviation]] for start, s in self._by_prompt.items()]
        return Snapshot({}, {"anchors": facts})

    def restore(self, snapshot: Snapshot) -> None:
        """Continue with the anchors of a snapshot."""
        self._by_prompt = {
            start: ChannelStatistics(tuple(mean), tuple(deviation))
            for start, mean, deviation in snapshot.facts["anchors"]
        }
