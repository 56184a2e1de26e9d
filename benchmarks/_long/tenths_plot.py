"""A plot of long rollouts: every measure, tenth by tenth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import BadInput
from .._shared.report import save_figure
from .tenths import MEASURES, PARTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...training.evaluation.estimate import Estimate
    from .rollouts import LongResults


def draw(results: LongResults, path: Path) -> None:
    """Save a row of panels per measure and a column per number of steps; needs matplotlib.

    A case's name contains its steps (`twin, 4 steps, ...`). Each case is a line with its interval.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise BadInput("--plot needs matplotlib; install it, or omit --plot.") from error
    columns = list(dict.fromkeys(column_of(name) for name in results.tenths))
    size = (1.5 + 4.5 * len(columns), 9)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(MEASURES), len(columns), sharex=True, sharey="row", squeeze=False)
    for row, measure in zip(panels, MEASURES, strict=True):
        for panel, column in zip(row, columns, strict=True):
            for label, series in lines(results, measure, column).items():
                means, at = [tenth.mean for tenth in series], range(1, PARTS + 1)
                [line] = panel.plot(at, means, marker="o", markersize=3, label=label)
                low, high = ([getattr(tenth, end) for tenth in series] for end in ("low", "high"))
                panel.fill_between(at, low, high, color=line.get_color(), alpha=0.12)
        row[0].set_ylabel(measure)
    for panel, column in zip(panels[0], columns, strict=True):
        panel.set_title(column)
    panels[-1][0].set_xlabel("tenth of the rollout")
    panels[-1][0].set_yscale("log")  # the distance to truth
    labels = panels[0][0].get_legend_handles_labels()
    figure.legend(*labels, loc="outside lower center", ncols=len(columns))
    counts = sorted(
        {tenth.clips for tenths in results.tenths.values() for tenth in tenths[MEASURES[0]]}
    )
    rollouts = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    figure.suptitle(f"{rollouts} rollouts of {results.made_with['latent_frames']} latent frames")
    save_figure(figure, path)


def lines(results: LongResults, measure: str, column: str) -> Mapping[str, list[Estimate]]:
    """Return a measure's tenths for every case of a column, by the rest of the case's name."""
    cases = {name: case for name, case in results.tenths.items() if column_of(name) == column}
    return {
        ", ".join(part for part in name.split(", ") if part != column): case[measure]
        for name, case in cases.items()
    }


def column_of(name: str) -> str:
    """Return the steps in a case's name, or an empty string."""
    parts = [part for part in name.split(", ") if part.endswith(" steps")]
    return parts[0] if parts else ""
