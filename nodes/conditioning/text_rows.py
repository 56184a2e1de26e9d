"""The rows of text that a model attends to, and how a prompt's embedding fits them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from ...model.config import DiTConfig
from ...model.text import MIN_PADDING
from ...samplers.conditioning.embedding import Embedding, fit, values_of

TEXT_LEN, WAN_TEXT_DIM = 512, 4096  # of the Wan family, whose attention includes the padding


@dataclass(frozen=True, slots=True)
class TextRows:
    """A model attends to `count` rows; a prompt that is cut has `words` of them."""

    count: int
    words: int

    @classmethod
    def of(cls, config: DiTConfig, trained: int, embeddings: Iterable[Tensor]) -> TextRows:
        """The rows for prompts (l, c): Wan's 512, else as many as needed, at most the `trained`."""
        if config.text_dim == WAN_TEXT_DIM:
            return cls(TEXT_LEN, TEXT_LEN)
        count = min(trained, max(map(len, embeddings)))
        return cls(count, count - MIN_PADDING)

    def fit(self, embedding: Tensor) -> Embedding:
        """A prompt (l, c) of any length as (count, c)."""
        if len(embedding) > self.count:
            embedding = values_of(fit(embedding, self.words))
        return fit(embedding, self.count)

    def is_cut(self, embedding: Tensor) -> bool:
        """Whether some of a prompt's words find no room."""
        return len(embedding) > self.count and count_words(embedding) > self.words


def count_words(embedding: Tensor) -> int:
    """The rows of an embedding (l, c) that are not padding."""
    return int(embedding.any(-1).sum())
