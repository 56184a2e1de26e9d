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
        self._selections: dict[tuple[int, ...], ProjectedText] = {}

    def select(self, prompts: Sequence[int], texts: Sequence[int]) -> Any:
        """Prompt `prompts[i]` for batch row i, with text `texts[j]` for latent frame j.

        All rows in their order are not copied, and other rows once, whatever frames they serve.
        """
        count, texts_each = self.text.shape
        rows, key = self.text, tuple(prompts)
        if key != tuple(range(count)):
            if key not in self._selections:
                self._selections[key] = self.text.rows(key)
            rows = self._selections[key]
        if texts_each == 1:
            return rows
        runs: Runs = tuple((i, len([*same])) for i, same in groupby(texts))
        return rows.in_runs(runs)
