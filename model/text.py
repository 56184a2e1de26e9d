"""The demo's text encoder: a word table and one small mixer, padded with zeros to the family's text
length.

Words it does not know are reported, not guessed; an empty prompt is all zeros, which is also the
negative prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .demo_phrases import misplaced_words

MIN_PADDING = 1
"""Rows of zeros behind every prompt. The demo was trained on captions that leave some of the text
length free; without any it paints blobs, as prompt and as negative prompt.
"""

_WORD = re.compile(r"[^\W\d_]+|[\u2600-\u27bf\U0001f000-\U0001faff]")
"""Letters of any script, or a pictogram: what it does not know is reported."""
_CLAUSE_END = re.compile(r"[,;:.!?\n]")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt's embedding (text_len, text_dim), and the words that have no effect: unknown ones,
    those that found no room, and pairs of a known word and the thing that it never describes.
    """

    embedding: Tensor
    unknown: tuple[str, ...]
    dropped: tuple[str, ...]
    misplaced: tuple[tuple[str, str], ...] = ()


class TextEncoder(nn.Module):
    """Word ids to embeddings; id 0 is padding and always encodes to zero."""

    def __init__(self, vocabulary: Sequence[str], text_dim: int, text_len: int) -> None:
        super().__init__()
        self.vocabulary = tuple(vocabulary)
        self.text_len = text_len
        self.words = nn.Embedding(len(self.vocabulary) + 1, text_dim)
        self.mixer = nn.Linear(2 * text_dim, 2 * text_dim)
        self.out = nn.Linear(2 * text_dim, text_dim)
        self._ids = {word: index + 1 for index, word in enumerate(self.vocabulary)}

    def forward(self, ids: Tensor) -> Tensor:
        """ids (..., text_len) long to embeddings (..., text_len, text_dim)."""
        present = (ids > 0).unsqueeze(-1)
        word = self.words(ids) * present
        mean = word.sum(-2, keepdim=True) / present.sum(-2, keepdim=True).clamp(min=1)
        mixed = self.out(F.gelu(self.mixer(torch.cat([word, mean.expand_as(word)], -1))))
        return (word + mixed) * present  # type: ignore[no-any-return]

    def ids(self, prompt: str) -> tuple[list[int], tuple[str, ...]]:
        """Ids of the known words of `prompt` in order, and the unknown words."""
        words = words_of(prompt)
        unknown = tuple(dict.fromkeys(word for word in words if word not in self._ids))
        return [self._ids[word] for word in words if word in self._ids], unknown

    @torch.no_grad()
    def encode(self, prompt: str) -> Encoded:
        """Encode one prompt; never fails, whatever the text."""
        ids, unknown = self.ids(prompt)
        most = self.text_len - MIN_PADDING
        head, rest = ids[:most], ids[most:]
        padded = torch.tensor(
            head + [0] * (self.text_len - len(head)), device=self.words.weight.device
        )
        dropped = tuple(self.vocabulary[i - 1] for i in rest)
        return Encoded(self(padded), unknown, dropped, misplaced_words(self._clauses(prompt)))

    def _clauses(self, prompt: str) -> Iterator[list[str]]:
        """The known words between punctuation marks."""
        for clause in _CLAUSE_END.split(prompt):
            yield [word for word in words_of(clause) if word in self._ids]


def words_of(text: str) -> list[str]:
    """Lower-cased words of `text`, punctuation dropped."""
    return _WORD.findall(text.lower())
