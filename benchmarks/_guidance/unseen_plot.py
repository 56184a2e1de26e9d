"""A plot of the effect of guidance after histories that the model never saw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import BadInput
from .._shared.report import save_figure

if TYPE_CHECKING:
    from ...training.evaluation.estimate import Estimate


def draw(against_plain: Mapping[str, Mapping[str, Estimate]], path: Path) -> None:
    """Save a panel for each kind of history, a line for each guidance setting; needs matplotlib.

    A line shows the chunk's distance to the truth minus plain CFG's, so left of 0 is closer.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise BadInput("--plot needs matplotlib; install it, or omit --plot.") from error
    ways = len(next(iter(against_plain.values())))
    figure = Figure(figsize=(3 + 3 * len(against_plain), 1.5 + 0.3 * ways), layout="constrained")
    panels = figure.subplots(1, len(against_plain), sharey=True, squeeze=False)[0]
    for panel, (past, differences) in zip(panels, against_plain.items(), strict=True):
        panel.axvline(0, color="0.7", linewidth=1)
        for row, value in enumerate(differences.values()):
            panel.plot([value.low, value.high], [row, row], color="0.5", linewidth=3)
            panel.plot(value.mean, row, "o", color="C3" if value.mean > 0 else "C0")
        panel.set_title(past)
        panel.locator_params(axis="x", nbins=5)
        panel.set_yticks(range(len(differences)), list(differences))
    panels[0].invert_yaxis()
    figure.supxlabel("distance of the next chunk to the truth, minus plain CFG's")
    save_figure(figure, path)
