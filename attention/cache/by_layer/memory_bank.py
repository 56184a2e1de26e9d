"""Which latent frames a memory bank holds: those closest to the prompt, and the newest candidate.

After MemFlow (arXiv 2512.14699; KlingTeam/MemFlow 7ed5147 `wan/modules/causal_model.py`
`compress_kv_bank` and its callers, as used by `pipeline/interactive_causal_inference.py`).

A frame's score in a layer is the mean dot product of its keys with the prompt's cross-attention
keys, over heads and over all tokens of both, padding included. The frame's keys are rotated to its
place in the whole shot; the prompt's keys are not rotated. The mean over all pairs of products is
the product of the means, so the bank only stores the mean of each frame's rotated keys.

As in the reference code (and surprisingly): frames are re-selected before every chunk, even if no
new candidate arrived. The newest candidate is appended although it may also be selected, so a frame
can occur several times and is then attended to as often. When the history is re-cached for another
prompt, the reference code scores with keys of zeros: the first frames stay, all but the last,
whatever they show. Its option SMA, off in its configurations, is not implemented; nor is its script
for a single prompt, which takes a candidate from every chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..prompt_keys import PromptKeys

EMPTY = -1  # no latent frame

Arrangement = list[int]
"""For each cell of a layer, the cell whose content it receives."""


class Bank:
    """The frames of a bank in every layer's cells, one more than are visible.

    The visible frames lie in the last cells, in any order. Once those are full, cell 0 holds the
    frame that the newest candidate displaced, so that the selection can be reverted.
    """

    def __init__(self, layers: int, cells: int, heads: int, head_dim: int) -> None:
        self.cells = cells
        self._key_means = torch.zeros(layers, cells, heads, head_dim)  # rotated, on the CPU
        self.clear()

    @property
    def visible_cells(self) -> int:
        """How many cells attention reads."""
        return min(self.candidates, self.cells - 1)

    @property
    def empty_cells(self) -> range:
        """The cells of every layer that hold no frame."""
        return range(self.cells - min(self.candidates, self.cells))

    def visible_frames(self, layer: int) -> list[int]:
        """The visible latent frames by cell; a frame may occur several times."""
        return self._frames[layer][self.cells - self.visible_cells :]

    def newest_cell(self, layer: int) -> int:
        """The cell of the newest candidate."""
        return self._ranked[layer][-1]

    def clear(self) -> None:
        """Empty all cells; the next candidate is the first one again."""
        layers = range(len(self._key_means))
        self.candidates = 0  # ever added
        self._frames = [[EMPTY] * self.cells for _ in layers]  # by cell
        self._ranked: list[list[int]] = [
            [] for _ in layers
        ]  # visible cells: best first, then newest
        self._previous = self._ranked  # `_ranked` before the last selection

    def reselect(self, prompt: PromptKeys) -> list[Arrangement]:
        """Select among the visible frames and append the newest one, once the bank is full."""
        if self.candidates < self.cells:
            return self._identity
        return self._select(prompt, append_newest=True)

    def add_candidate(self, frame: int, key_means: Tensor, prompt: PromptKeys) -> list[Arrangement]:
        """Select, and free a cell for a candidate with `key_means` (layers, n, d) of rotated keys.

        Once the cells are arranged, its content belongs in the `newest_cell` of every layer.
        """
        self.candidates += 1
        arrangements = self._identity
        if self.candidates < self.cells:
            for ranked in self._ranked:
                ranked.append(self.cells - self.candidates)
        else:
            arrangements = self._select(prompt, append_newest=False)
        for layer, cell in enumerate(map(self.newest_cell, range(len(self._ranked)))):
            self._frames[layer][cell] = frame
            self._key_means[layer, cell] = key_means[layer]
        return arrangements

    def revert_selection(self) -> list[Arrangement]:
        """Undo the last selection and drop the last frame that the bank held before it."""
        if self.candidates < self.cells:
            return self._identity
        arrangements = []
        for layer, previous in enumerate(self._previous):
            cells, newest, last = [*range(self.cells)], self.newest_cell(layer), previous[-1]
            if newest != last:
                cells[newest], cells[last], cells[0] = 0, newest, last
            arrangements.append(self._arrange(layer, cells))
        self._ranked = self._previous
        return arrangements

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The whole state as tensors and JSON facts."""
        facts = {
            "cells": self.cells, "candidates": self.candidates,
            "frames": [list(cells) for cells in self._frames],
            "ranked": [list(cells) for cells in self._ranked],
            "previous": [list(cells) for cells in self._previous],
        }  # fmt: skip
        return {"key_means": self._key_means.clone()}, facts

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take the state that `state` returned."""
        self._key_means = tensors["key_means"].clone()
        self.candidates = facts["candidates"]
        self._frames, self._ranked, self._previous = (
            [list(cells) for cells in facts[name]] for name in ("frames", "ranked", "previous")
        )

    @property
    def _identity(self) -> list[Arrangement]:
        return [[*range(self.cells)] for _ in self._frames]

    def _select(self, prompt: PromptKeys, *, append_newest: bool) -> list[Arrangement]:
        """Move the frame with the lowest score to cell 0 and give its cell to the newest candidate.

        With `append_newest` the current newest frame is copied there; otherwise the caller fills
        the cell.
        """
        scores, arrangements = self._scores(prompt), []
        self._previous = self._ranked
        self._ranked = [
            sorted(ranked, key=scores[layer].__getitem__, reverse=True)  # of equals, the first
            for layer, ranked in enumerate(self._previous)
        ]
        for layer, previous in enumerate(self._previous):
            cells, evicted = [*range(self.cells)], self.newest_cell(layer)
            cells[0] = evicted
            if append_newest:
                cells[evicted] = previous[-1]
            arrangements.append(self._arrange(layer, cells))
        return arrangements

    def _arrange(self, layer: int, cells: Arrangement) -> Arrangement:
        self._frames[layer] = [self._frames[layer][cell] for cell in cells]
        self._key_means[layer] = self._key_means[layer, cells]
        return cells

    def _scores(self, prompt: PromptKeys) -> list[list[float]]:
        """The score of each cell in each layer."""
        keys = torch.stack(prompt.means)
        keys = torch.zeros(keys.shape) if keys.is_meta else keys.cpu()  # as in a rehearsal
        return (self._key_means * keys.unsqueeze(1)).sum(-1).mean(-1).tolist()
