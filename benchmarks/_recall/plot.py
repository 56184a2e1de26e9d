"""A plot of `bench recall`: agreement with the truth by memory, a panel for each row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import BadInput
from ...training.evaluation.returns import OFF, TRUTH
from .._shared.report import save_figure
from .memories import WINDOW

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...training.evaluation.estimate import Estimate

COLUMNS = 2
GAIN, LOSS, UNCERTAIN, BASE = "C2", "C3", "0.4", "0.7"
"""Colours: better or worse than the window within clips, no difference shown, no memory."""


def draw(figures: Mapping[str, Estimate], differences: Mapping[str, Estimate], path: Path) -> None:
    """Save a panel for each row; a memory is a line with its interval. Needs matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise BadInput("--plot needs matplotlib; install it, or omit --plot.") from error
    cases = [*dict.fromkeys(name.split(": ")[0] for name in figures)]
    rows = -(-len(cases) // COLUMNS)
    picture = Figure(figsize=(5 * COLUMNS, 2.6 * rows), layout="constrained")
    panels = picture.subplots(rows, COLUMNS, squeeze=False).flat
    for case, panel in zip(cases, panels, strict=False):
        names = [name.removeprefix(f"{case}: ") for name in figures if name.startswith(f"{case}: ")]
        memories = {name: figures[f"{case}: {name}"] for name in names if ": " not in name}
        colours = {
            name: _colour(name, differences.get(f"{case}: {name} less {_window_of(name)}"))
            for name in memories
        }
        _fill(panel, memories, colours)
        clips = next(iter(memories.values())).clips
        panel.set_title(f"{case} (n = {clips})", fontsize="medium", loc="right")
    for panel in panels:
        panel.set_axis_off()
    picture.suptitle("agreement with the truth, mean and 95 % interval")
    save_figure(picture, path, dpi=110)


def _window_of(name: str) -> str:
    """The window's row that a row is compared with."""
    return f"{WINDOW}{OFF}" if name.endswith(OFF) else WINDOW


def _colour(name: str, gain: Estimate | None) -> str:
    if name in (TRUTH, WINDOW) or gain is None:
        return BASE
    return GAIN if gain.low > 0 else LOSS if gain.high < 0 else UNCERTAIN


def _fill(panel: Axes, memories: Mapping[str, Estimate], colours: Mapping[str, str]) -> None:
    for row, (name, figure) in enumerate(memories.items()):
        panel.plot([figure.low, figure.high], [row, row], color=colours[name], linewidth=3)
        panel.plot(figure.mean, row, "o", color=colours[name])
    panel.set_yticks(range(len(memories)), [*memories])
    panel.invert_yaxis()
