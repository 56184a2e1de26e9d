"""A plot of the effect of guidance on errors of the past."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import BadInput
from .._shared.report import save_figure
from .feedback import COLOUR_KEPT, CONTRAST_KEPT

if TYPE_CHECKING:
    from ...training.evaluation.estimate import Estimate


def draw(figures: Mapping[str, Mapping[str, Estimate]], path: Path) -> None:
    """Save a panel for each kind of error with a line for each setting; needs matplotlib.

    Errors right of 1 grow from chunk to chunk.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise BadInput("--plot needs matplotlib; install it, or omit --plot.") from error
    figure = Figure(figsize=(11, 1.5 + 0.3 * len(figures)), layout="constrained")
    for panel, kind in zip(
        figure.subplots(1, 2, sharey=True, sharex=True), (COLOUR_KEPT, CONTRAST_KEPT), strict=True
    ):
        panel.axvspan(1, 2, color="C3", alpha=0.12)
        for row, measures in enumerate(figures.values()):
            value = measures[kind]
            panel.plot([value.low, value.high], [row, row], color="0.5", linewidth=3)
            panel.plot(value.mean, row, "o", color="C3" if value.mean > 1 else "C0")
        panel.set_title(kind)
        panel.set_xlim(0, 2)
        panel.set_yticks(range(len(figures)), figures)
    panel.invert_yaxis()
    save_figure(figure, path)
