"""What sparse attention did: how much it computed, what it kept, and how often it gave up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class SparseStats:
    """Sums over the passes so far whose attention could have been sparse: steps, over a whole
    history or, on the host's own samplers, over the sequence. Not over commits, nor views of a part
    of the history, which are always dense. Pairs are of a query and a key of one head.
    """

    pairs: float = 0.0
    dense_pairs: float = 0.0
    recalls: float = 0.0
    sampled: int = 0
    dense_fallbacks: int = 0

    @property
    def density(self) -> float | None:
        """The share of those passes' pairs that was computed; None before the first."""
        return self.pairs / self.dense_pairs if self.dense_pairs else None

    @property
    def recall(self) -> float | None:
        """The share of attention that the chosen keys hold, by sampled queries, on average."""
        return self.recalls / self.sampled if self.sampled else None

    def __add__(self, other: SparseStats) -> SparseStats:
        """Of both together."""
        return SparseStats(
            self.pairs + other.pairs,
            self.dense_pairs + other.dense_pairs,
            self.recalls + other.recalls,
            self.sampled + other.sampled,
            self.dense_fallbacks + other.dense_fallbacks,
        )

    def add_pairs(self, computed: float, dense: float) -> None:
        """Note a pass over one layer."""
        self.pairs += computed
        self.dense_pairs += dense

    def add_recall(self, select_heads: list[float], fallbacks: int) -> None:
        """Note the recall of each head of a layer and batch row, and how many are now dense for a
        chunk.
        """
        self.recalls += sum(select_heads)
        self.sampled += len(select_heads)
        self.dense_fallbacks += fallbacks
