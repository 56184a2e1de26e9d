"""The results of a bench that measures many clips: a mean and its interval for every figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from ...training.evaluation.estimate import Estimate, estimate
from .._shared.report import write


@dataclass(slots=True)
class Estimates:
    """The figures of every case over `clips`, by name and measure."""

    suite: str
    clips: int
    figures: Mapping[str, Mapping[str, Estimate]]

    @staticmethod
    def of(suite: str, per_clip: Sequence[Mapping[str, Mapping[str, float]]]) -> Estimates:
        """Estimate every figure from what was measured on each clip, by name and measure."""
        figures = {
            name: {key: estimate([clip[name][key] for clip in per_clip]) for key in keys}
            for name, keys in per_clip[0].items()
        }
        return Estimates(suite, len(per_clip), figures)

    def save(self, path: Path) -> None:
        write(path, asdict(self))

    def show(self, console: Console) -> None:
        for name, figures in self.figures.items():
            text = "  ".join(f"{key} {value}" for key, value in figures.items())
            console.print(f"{name:36} {text}", highlight=False)
