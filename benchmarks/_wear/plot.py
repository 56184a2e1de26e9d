"""A plot of `bench wear`: what each rule changes, by situation and measure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import BadInput
from .._shared.report import save_figure
from .results import HIGHER_IS_BETTER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from .results import Difference, WearResults

COLOURS = {"better": "C2", "worse": "C3", "no difference shown": "0.4", "not judged": "0.7"}


def draw(results: WearResults, path: Path) -> None:
    """Save a column of panels for each situation; needs matplotlib.

    Each case is a line with its interval, against the situation's default.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise BadInput("--plot needs matplotlib; install it, or omit --plot.") from error
    situations = dict[str, list["Difference"]]()
    for difference in results.differences:
        situation, _ = difference.case.split(": ")
        if difference.less.endswith(": default"):
            situations.setdefault(situation, []).append(difference)
    measures = [name for name in HIGHER_IS_BETTER if _has(results.differences, name)]
    size = (2 + 4.5 * len(situations), 0.6 + 1.9 * len(measures))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(measures), len(situations), squeeze=False)
    for column, (situation, differences) in enumerate(situations.items()):
        panels[0][column].set_title(situation)
        for row, measure in enumerate(measures):
            _fill(panels[row][column], measure, differences)
            panels[row][column].set_xlabel(measure)
    figure.suptitle("less the default, paired seeds; mean and 95 % interval")
    save_figure(figure, path)


def _fill(panel: Axes, measure: str, differences: Sequence[Difference]) -> None:
    panel.axvline(0, color="0.8")
    for row, difference in enumerate(differences):
        change = difference.figures.get(measure)
        if change is not None:
            colour = COLOURS[difference.verdicts[measure]]
            panel.plot([change.low, change.high], [row, row], color=colour, linewidth=3)
            panel.plot(change.mean, row, "o", color=colour)
    names = [difference.case.split(": ")[1] for difference in differences]
    panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()
    panel.locator_params(axis="x", nbins=5)


def _has(differences: Sequence[Difference], measure: str) -> bool:
    return any(measure in difference.figures for difference in differences)
