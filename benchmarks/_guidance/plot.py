"""A plot of the guidance bench: every measure and case, with intervals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import BadInput
from .._shared.report import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...training.evaluation.estimate import Estimate
    from .findings import Findings

COLUMNS = 4


def draw(findings: Findings, path: Path) -> None:
    """Save the plot; needs matplotlib."""
    save_figure(figure_of(findings), path)


def figure_of(findings: Findings) -> Figure:
    """Draw one panel for each measure in the findings, with truth's interval shaded."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise BadInput("--plot needs matplotlib; install it, or omit --plot.") from error
    names = [name for name in findings.figures if name != "truth"]
    measures = list(findings.figures[names[0]])
    rows = math.ceil(len(measures) / COLUMNS)
    figure = Figure(figsize=(18, 1 + rows * (0.7 + 0.21 * len(names))), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False).flat
    for panel in panels[len(measures) :]:
        panel.remove()
    for panel, measure in zip(panels, measures, strict=False):
        _fill(panel, {name: values[measure] for name, values in findings.figures.items()})
        panel.set_title(measure)
    panels[0].invert_yaxis()  # shared by all
    shots = min(values[measures[0]].clips for values in findings.figures.values())
    length = findings.made_with.get("latent_frames")
    figure.suptitle(
        f"at least {shots} shots of {length} latent frames; mean and 95 % interval, truth in green"
    )
    return figure


def _fill(panel: Axes, values: dict[str, Estimate]) -> None:
    """Draw a line for each case, and truth as a band behind them."""
    truth = values.pop("truth", None)
    if truth is not None:
        panel.axvspan(truth.low, truth.high, color="C2", alpha=0.2)
    for row, value in enumerate(values.values()):
        panel.plot([value.low, value.high], [row, row], color="0.5", linewidth=3)
        panel.plot(value.mean, row, "o", color="C0")
    panel.locator_params(axis="x", nbins=5)
    panel.set_yticks(range(len(values)), list(values))
