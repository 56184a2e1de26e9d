"""Projected prompts, and the rows of them that a pass needs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ..model.cross_attention import Runs
from ..model.dit import TextKV


class TextRows:
    """The keys and values of the prompts in force, and the selections that passes made of them."""

    def __init__(self, text: TextKV) -> None:
        self.text = text
        self._selections: dict[tuple[tuple[int, ...], Runs], TextKV] = {}

    def select(self, prompts: Sequence[int], texts: Sequence[int]) -> TextKV:
        """Prompt `prompts[i]` for batch row i, with text `texts[j]` for latent frame j."""
        words = self.text.layers[0][0]
        runs: Runs = ()
        if words.shape[1] > 1:
            runs = tuple((i, len([*same])) for i, same in groupby(texts))
        key = tuple(prompts), runs
        if key[0] == tuple(range(len(words))) and not runs:
            return self.text
        if key not in self._selections:
            self._selections[key] = self.text.rows(key[0], runs)
        return self._selections[key]
