"""A plot of `bench growth`: seconds of a chunk and memory against length, shots and branches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import BadInput
from .._shared.report import save_figure
from .suite import BRANCHES, LENGTH, SHOTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .._shared.report import Results

AXES = {LENGTH: "latent frames", SHOTS: "shots at once", BRANCHES: "branches"}
MEMORY = {LENGTH: "resident", SHOTS: "peak", BRANCHES: "peak"}
MIB = 2**20


def draw(results: Results, path: Path) -> None:
    """Save a column of two panels for each part that was measured; needs matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise BadInput("--plot needs matplotlib; install it, or omit --plot.") from error
    parts = [part for part in AXES if counts_of(results, part)]
    figure = Figure(figsize=(1 + 4 * len(parts), 6), layout="constrained")
    panels = figure.subplots(2, len(parts), squeeze=False)
    for column, part in enumerate(parts):
        _draw_seconds(panels[0][column], results, part)
        _draw_memory(panels[1][column], results, part)
        for panel in panels[:, column]:
            panel.set_xlabel(AXES[part])
            panel.set_ylim(0, 1.15 * panel.dataLim.y1)
            if part == LENGTH:
                panel.set_xscale("log", base=2)
            else:
                panel.set_xticks(counts_of(results, part))
    figure.suptitle("median and 95 % interval; dashed: in proportion to one")
    save_figure(figure, path)


def counts_of(results: Results, part: str) -> list[int]:
    """The marks or counts at which a part was measured."""
    ends = ": a chunk's s"
    names = [name.removesuffix(ends) for name in results.figures if name.endswith(ends)]
    return [int(name.split()[1]) for name in names if name.split()[0] == part]


def _draw_seconds(panel: Axes, results: Results, part: str) -> None:
    counts = counts_of(results, part)
    figures = [results.figures[f"{part} {count}: a chunk's s"] for count in counts]
    for count, figure in zip(counts, figures, strict=True):
        panel.plot([count, count], [figure.low, figure.high], color="C0", linewidth=3)
    panel.plot(counts, [figure.median for figure in figures], "o-", color="C0")
    if part != LENGTH:
        panel.plot(counts, [count * figures[0].median for count in counts], "--", color="0.6")
    panel.set_ylabel("processor s of a chunk")


def _draw_memory(panel: Axes, results: Results, part: str) -> None:
    sizes = {
        count: size / MIB
        for count in counts_of(results, part)
        if (size := results.bytes.get(f"{part} {count}: {MEMORY[part]}"))
    }
    panel.plot([*sizes], [*sizes.values()], "o-", color="C1")
    panel.set_ylabel(f"{MEMORY[part]} MiB")
