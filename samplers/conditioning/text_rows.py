"""Projected prompts, and the rows of them that a pass needs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from ...model.cross_attention import Runs
from ...model.forward import ProjectedText


class TextRows:
    """The prompts in force as the model reads them, and the selections that passes made of them."""

    def __init__(self, text: ProjectedText) -> None:
        self.text = text
        self._selections: dict[tuple[tuple[int, ...], Runs], ProjectedText] = {}

    def select(self, prompts: Sequence[int], texts: Sequence[int]) -> Any:
        """Prompt `prompts[i]` for batch row i, with text `texts[j]` for latent frame j."""
        count, texts_each = self.text.shape
        runs: Runs = ()
        if texts_each > 1:
            runs = tuple((i, len([*same])) for i, same in groupby(texts))
        key = tuple(prompts), runs
        if key[0] == tuple(range(count)) and not runs:
            return self.text
        if key not in self._selections:
            self._selections[key] = self.text.rows(key[0], runs)
        return self._selections[key]
