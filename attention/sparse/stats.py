"""Statistics of sparse attention: pairs computed, recall, and fallbacks to dense heads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class SparseStats:
    """Totals over all passes eligible for sparse attention so far.

    Eligible are denoising steps over the full history, or over the full sequence on ComfyUI's
    samplers. Commits and partial views are always dense and not counted. A pair is a query and a
    key of one head.
    """

    pairs: float = 0.0
    dense_pairs: float = 0.0
    recalls: float = 0.0
    sampled: int = 0
    dense_fallbacks: int = 0

    @property
    def density(self) -> float | None:
        """The share of all pairs that was computed, None before the first pass."""
        return self.pairs / self.dense_pairs if self.dense_pairs else None

    @property
    def recall(self) -> float | None:
        """The average share of attention on the chosen keys, from sampled queries."""
        return self.recalls / self.sampled if self.sampled else None

    def __add__(self, other: SparseStats) -> SparseStats:
        """The totals of both."""
        return SparseStats(
            self.pairs + other.pairs,
            self.dense_pairs + other.dense_pairs,
            self.recalls + other.recalls,
            self.sampled + other.sampled,
            self.dense_fallbacks + other.dense_fallbacks,
        )

    def add_pairs(self, computed: float, dense: float) -> None:
        """Count a pass over one layer."""
        self.pairs += computed
        self.dense_pairs += dense

    def add_recall(self, recalls: list[float], fallbacks: int) -> None:
        """Count the recall of each head of a layer and batch row.

        `fallbacks` heads of them are dense from now on.
        """
        self.recalls += sum(recalls)
        self.sampled += len(recalls)
        self.dense_fallbacks += fallbacks


def total(earlier: SparseStats | None, later: SparseStats | None) -> SparseStats | None:
    """The sum of what is known; None if sparse attention is off in the later part."""
    return later if earlier is None or later is None else earlier + later
