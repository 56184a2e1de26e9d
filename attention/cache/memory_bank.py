"""Which latent frames a memory bank holds: the newest candidate, and those that the prompt's keys
are most like (MemFlow, arXiv 2512.14699; KlingTeam/MemFlow 7ed5147 `wan/modules/causal_model.py`
`compress_kv_bank` and what calls it, as `pipeline/interactive_causal_inference.py` does).

A frame's worth in a layer is the mean dot product of its keys with the prompt's cross-attention
keys, over heads and over all tokens of both, padding included. The frame's keys are turned to its
place in the whole shot, the prompt's are not turned. A mean of products of all pairs is a product
of means, so the mean of its turned keys is all that must be known of a frame.

As in that code, and strange: the choice is made anew before every chunk, also where no candidate
has come, among what is held then, and the newest candidate, one of these, is put beside those
chosen. So it may lie in the bank several times, and is attended to as often. Where the history is
re-cached for another prompt, the code asks with keys of zeros: the frames in front stay, all but
the last, whatever they show. Its option SMA, which is off in its configurations, is not here; nor
is its script for a single prompt, which takes a candidate of every chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .prompt_keys import PromptKeys

NONE = -1  # no latent frame

Arrangement = list[int]
"""Which cell's content each cell of a layer is to have."""


class Bank:
    """The frames of a bank in every layer's cells, which are one more than are seen.

    Those seen lie in the last cells, in any order. Once these are full, cell 0 holds what gave way
    to the newest candidate, so that the choice can be taken back.
    """

    def __init__(self, layers: int, cells: int, heads: int, head_dim: int) -> None:
        self.cells = cells
        self._turned = torch.zeros(layers, cells, heads, head_dim)  # means of keys, on the CPU
        self.forget()

    @property
    def shown(self) -> int:
        """How many cells are seen."""
        return min(self.candidates, self.cells - 1)

    def seen(self, layer: int) -> list[int]:
        """The latent frames that are seen, by cell; one may be there several times."""
        return self._frames[layer][self.cells - self.shown :]

    def newest(self, layer: int) -> int:
        """The cell of the newest candidate."""
        return self._ranked[layer][-1]

    def forget(self) -> None:
        """Hold nothing."""
        layers = range(len(self._turned))
        self.candidates = 0  # that ever came
        self._frames = [[NONE] * self.cells for _ in layers]  # by cell
        self._ranked: list[list[int]] = [[] for _ in layers]  # cells seen, as chosen, newest last
        self._before = self._ranked  # the same of what was held before the last choice

    def choose(self, prompt: PromptKeys) -> list[Arrangement]:
        """Choose among what is seen and put the newest candidate beside it, once it is full."""
        if self.candidates < self.cells:
            return self._unchanged
        return self._choose(prompt, again=True)

    def take(self, frame: int, turned: Tensor, prompt: PromptKeys) -> list[Arrangement]:
        """Choose, and make room for a candidate with these means (layers, n, d) of turned keys: it
        belongs in the `newest` cell of every layer, once they are arranged.
        """
        self.candidates += 1
        arranged = self._unchanged
        if self.candidates < self.cells:
            for ranked in self._ranked:
                ranked.append(self.cells - self.candidates)
        else:
            arranged = self._choose(prompt, again=False)
        for layer, cell in enumerate(map(self.newest, range(len(self._ranked)))):
            self._frames[layer][cell] = frame
            self._turned[layer, cell] = turned[layer]
        return arranged

    def let_the_front_stay(self) -> list[Arrangement]:
        """Take the last choice back: all but the last of what was held then stays."""
        if self.candidates < self.cells:
            return self._unchanged
        made = []
        for layer, before in enumerate(self._before):
            arranged, now, last = [*range(self.cells)], self.newest(layer), before[-1]
            if now != last:
                arranged[now], arranged[last], arranged[0] = 0, now, last
            made.append(self._arrange(layer, arranged))
        self._ranked = self._before
        return made

    def saved(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All of it as tensors and facts."""
        facts = {
            "candidates": self.candidates, "frames": [list(one) for one in self._frames],
            "ranked": [list(one) for one in self._ranked],
            "before": [list(one) for one in self._before],
        }  # fmt: skip
        return {"turned": self._turned.clone()}, facts

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take back what `saved` gave."""
        self._turned = tensors["turned"].clone()
        self.candidates = facts["candidates"]
        self._frames, self._ranked, self._before = (
            [list(one) for one in facts[name]] for name in ("frames", "ranked", "before")
        )

    @property
    def _unchanged(self) -> list[Arrangement]:
        return [[*range(self.cells)] for _ in self._frames]

    def _choose(self, prompt: PromptKeys, *, again: bool) -> list[Arrangement]:
        """What is least like the prompt moves to cell 0, and its own cell is the newest one's:
        which is put there `again`, or is about to come.
        """
        worth, made = self._worth(prompt), []
        self._before = self._ranked
        self._ranked = [
            sorted(ranked, key=worth[layer].__getitem__, reverse=True)  # of equals, the first
            for layer, ranked in enumerate(self._before)
        ]
        for layer, before in enumerate(self._before):
            arranged, gives_way = [*range(self.cells)], self.newest(layer)
            arranged[0] = gives_way
            if again:
                arranged[gives_way] = before[-1]
            made.append(self._arrange(layer, arranged))
        return made

    def _arrange(self, layer: int, cells: Arrangement) -> Arrangement:
        self._frames[layer] = [self._frames[layer][cell] for cell in cells]
        self._turned[layer] = self._turned[layer, cells]
        return cells

    def _worth(self, prompt: PromptKeys) -> list[list[float]]:
        """Of every layer's cells."""
        asked = torch.stack(prompt.means)
        asked = torch.zeros(asked.shape) if asked.is_meta else asked.cpu()  # as in a rehearsal
        return (self._turned * asked.unsqueeze(1)).sum(-1).mean(-1).tolist()
