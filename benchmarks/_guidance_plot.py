"""A picture of the guidance bench: every measure, every case, with its interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadInput

if TYPE_CHECKING:
    from ._findings import Findings

SHOWN = (
    "adherence", "adherence, last tenth", "drift of saturation", "drift of sharpness", "motion",
    "motion, last over first", "seam", "sharpness", "distance to truth",
)  # fmt: skip


def draw(findings: Findings, path: Path) -> None:
    """Save one panel for each measure, truth's interval shaded; needs matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise BadInput("--plot needs matplotlib; install it, or leave the plot out.") from error
    names = [name for name in findings.figures if name != "truth"]
    figure = Figure(figsize=(15, 2 + 0.9 * len(names)), layout="constrained")
    for panel, key in zip(figure.subplots(3, 3, sharey=True).flat, SHOWN, strict=True):
        for row, name in enumerate(names):
            value = findings.figures[name][key]
            panel.plot([value.low, value.high], [row, row], color="0.5", linewidth=3)
            panel.plot(value.mean, row, "o", color="C0")
        if "truth" in findings.figures:
            truth = findings.figures["truth"][key]
            panel.axvspan(truth.low, truth.high, color="C2", alpha=0.2)
        panel.set_title(key)
        panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()
    shots = min(of[SHOWN[0]].clips for of in findings.figures.values())
    length = findings.made_with.get("latent_frames")
    figure.suptitle(f"{shots} shots or more of {length} latent frames; mean and 95 % interval")
    figure.savefig(path)
