"""MemFlow's memory bank, written out from KlingTeam/MemFlow `wan/modules/causal_model.py` as
`pipeline/interactive_causal_inference.py` runs it: keys and values of frames in lists, every score
from all pairs of a frame's tokens and the prompt's. Of equal scores the first count, as in
`torch.topk` of three, which is the authors' bank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Frame = tuple[int, Tensor, Tensor]
"""A latent frame's number, and its keys, not rotated, and values (s, n, d)."""

Layers = list[tuple[Tensor, Tensor]]
"""Keys and values of every layer."""

EVERY = 3  # blocks; `record_interval`


@dataclass
class LayerBank:
    """One layer's: `size` frames, of which the newest candidate is put in before every block."""

    size: int
    held: list[Frame] = field(default_factory=list)
    new: Frame | None = None
    came: int = 0

    def record(self, frame: Frame) -> None:
        """`k_new`, `v_new`: the first latent frame of a block that is finished."""
        self.new, self.came = frame, self.came + 1

    def before_block(self, asked: Tensor, turned: Sequence[Tensor]) -> None:
        """`_apply_cache_updates_before`, with the prompt's keys `asked` (l, n, d), and those of the
        frames that are held, `turned` to their places in the shot.
        """
        if self.new is None:
            return
        if self.came <= self.size:
            self.held[self.came - 1 :] = [self.new]
            return
        scores = torch.stack([torch.einsum("lnd,snd->nls", asked, k).mean() for k in turned])
        best = scores.sort(descending=True, stable=True).indices[: self.size - 1].tolist()
        self.held = [*(self.held[i] for i in best), self.new]


class Banks:
    """All layers'. `asked` are the prompt's keys (l, n, d) in each, `turn` turns keys to a frame's
    place in the shot.
    """

    def __init__(
        self, size: int, asked: list[Tensor], turn: Callable[[Tensor, int], Tensor]
    ) -> None:
        self.size, self.asked, self.turn = size, asked, turn
        self.layers = [LayerBank(size) for _ in asked]

    def record(self, block: int, frame: tuple[int, Layers]) -> None:
        """The first latent frame of a finished block: one of three is a candidate."""
        if block % EVERY == 0:
            for bank, (k, v) in zip(self.layers, frame[1], strict=True):
                bank.record((frame[0], k, v))

    def before_block(self) -> None:
        """Choose."""
        for bank, asked in zip(self.layers, self.asked, strict=True):
            bank.before_block(asked, [self.turn(k, number) for number, k, _ in bank.held])

    def switched(self, asked: list[Tensor]) -> None:
        """`_recache_after_switch` wipes the prompt's keys and chooses by them; so does the block
        that follows.
        """
        self.asked = [torch.zeros_like(one) for one in asked]
        self.before_block()
        self.before_block()
        self.asked = asked

    def beside(
        self, past: Sequence[tuple[int, Layers]], frames: Sequence[int]
    ) -> Callable[[int], tuple[Layers, list[int], int]]:
        """What each layer sees as `frames` pass behind `past`: its bank and these, their
        numbers, which are their places, and that of the first of `frames`.
        """

        def seen(layer: int) -> tuple[Layers, list[int], int]:
            bank = self.layers[layer].held
            numbers = [*(one for one, _, _ in bank), *(one for one, _ in past)]
            own = [(k, v) for _, k, v in bank] + [layers[layer] for _, layers in past]
            return own, numbers, frames[0]

        return seen
