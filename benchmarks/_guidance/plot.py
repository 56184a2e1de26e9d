"""A picture of the guidance bench: every measure, every case, with its interval."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...training.evaluation.estimate import Estimate
    from .findings import Findings

COLUMNS = 4


def draw(findings: Findings, path: Path) -> None:
    """Save the picture; needs matplotlib."""
    figure_of(findings).savefig(path)


def figure_of(findings: Findings) -> Figure:
    """One panel for each measure that the findings have, truth's interval shaded."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise BadInput("--plot needs matplotlib; install it, or leave the plot out.") from error
    names = [name for name in findings.figures if name != "truth"]
    measures = list(findings.figures[names[0]])
    rows = math.ceil(len(measures) / COLUMNS)
    figure = Figure(figsize=(18, 1 + rows * (0.7 + 0.21 * len(names))), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False).flat
    for panel in panels[len(measures) :]:
        panel.remove()
    for panel, measure in zip(panels, measures, strict=False):
        _fill(panel, {name: of[measure] for name, of in findings.figures.items()})
        panel.set_title(measure)
    panels[0].invert_yaxis()  # shared by all
    shots = min(of[measures[0]].clips for of in findings.figures.values())
    length = findings.made_with.get("latent_frames")
    figure.suptitle(
        f"{shots} shots or more of {length} latent frames; mean and 95 % interval, truth's in green"
    )
    return figure


def _fill(panel: Axes, values: dict[str, Estimate]) -> None:
    """A line for each case but truth, which lies behind all."""
    truth = values.pop("truth", None)
    if truth is not None:
        panel.axvspan(truth.low, truth.high, color="C2", alpha=0.2)
    for row, value in enumerate(values.values()):
        panel.plot([value.low, value.high], [row, row], color="0.5", linewidth=3)
        panel.plot(value.mean, row, "o", color="C0")
    panel.locator_params(axis="x", nbins=5)
    panel.set_yticks(range(len(values)), list(values))
