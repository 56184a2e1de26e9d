"""`longtake bench overshoot`: the effect of guidance on one chunk, and on an error of its past.

The demo model makes one chunk after a rendered, true history, always from the same noise: with the
whole history, with none, and guided. The overshoot is the projection of the guided chunk's change
on the difference between the first two chunks. Scale - 1 is what a single step to the end would
add. Then the history gets a small error: another colour (an offset of a random direction) or more
contrast. The suite measures which share of the error the chunk continues. Below 1 an error dies out
from chunk to chunk; above 1 it grows until nothing of the picture is left. A branch without history
answers the same whatever is wrong with the history, so guidance away from this branch amplifies
errors too.

    python -m longtake.benchmarks.overshoot --clips 8 --workers 2
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
from torch import Tensor

from ..model.preset import DEMO, DEMO_FOLDER
from ..model.vae.latent_format import SPATIAL_FACTOR
from ..samplers.guidance import Guidance, GuidanceTiming, extend, stabilise, vanilla
from ..training.command import reporting
from ..training.evaluation.kit import Kit, Recipe
from ..training.evaluation.measures import spread
from ._guidance.cases import EARLY, TEXT, cases
from ._guidance.estimates import Estimates
from ._guidance.feedback import (
    HISTORY,
    Figures,
    errors_kept,
    next_chunk,
    part,
    true_start,
)
from ._guidance.overshoot_plot import draw
from ._shared.report import publish

SCALES = (1.0, 1.2, 1.5, 2.0, 3.0)
FEW_SCALES = (1.0, 2.0)
ALSO = (
    "vanilla 2, rescaled", "vanilla 2, early steps", "vanilla 2, late steps",
    "vanilla 2, stabilised 0.05", "vanilla 2, stabilised 0.1",
    "cfg, stabilised 0.05", "cfg, stabilised 0.1", "temporal", "temporal and none 2",
    "fractional 2 at 0.75", "fractional 3 at 0.75",
)  # fmt: skip
STEPS = (1, DEMO.steps, 16)
BEYOND, ERROR, CONTRAST = "beyond the history", "distance to truth", "contrast"
NEW_FILE = click.Path(path_type=Path, dir_okay=False)


def ways(*, own: bool) -> dict[str, Guidance]:
    """Return the settings compared in any number of steps, and more of them in the demo's `own`."""
    scales = SCALES if own else FEW_SCALES
    guidances = {f"vanilla {scale:g}": extend(TEXT, vanilla(scale)) for scale in scales}
    if not own:
        return guidances
    late = replace(vanilla(2.0), timing=GuidanceTiming((0.0, EARLY)))
    more = {
        "no text": Guidance(),
        "vanilla 2, late steps": extend(TEXT, late),
        "cfg, stabilised 0.05": stabilise(TEXT, 0.05),
        "cfg, stabilised 0.1": stabilise(TEXT, 0.1),
    }
    shots = {name: recipe.guidance or TEXT for name, recipe in cases().items()}
    known = {**shots, **more, **guidances}
    return {name: known[name] for name in ("no text", *guidances, *ALSO)}


def main(json_path: Path | None) -> None:
    """Run the whole suite, show the results, and save them to `json_path` if given."""
    publish(measure(64, os.cpu_count() or 1), json_path)


def measure(clips: int, workers: int, steps: tuple[int, ...] = STEPS) -> Estimates:
    """Measure all settings on every clip."""
    per_clip = spread(partial(measure_clip, steps=steps), range(clips), DEMO_FOLDER, workers)
    return Estimates.of("overshoot", per_clip)


def measure_clip(kit: Kit, seed: int, steps: tuple[int, ...] = STEPS) -> dict[str, Figures]:
    """Measure the effect of every setting on the chunk after one clip's history."""
    start = true_start(kit, seed, DEMO.width // SPATIAL_FACTOR)

    def chunk(guidance: Guidance, count: int, past: Tensor) -> Tensor:
        recipe = Recipe(length=HISTORY + DEMO.chunk_frames, steps=count, guidance=guidance)
        return next_chunk(kit, recipe, start, past)

    figures: dict[str, Figures] = {}
    for count in steps:
        known, none = (chunk(extend(TEXT, vanilla(w)), count, start.past) for w in (1.0, 0.0))
        for name, guidance in ways(own=count == DEMO.steps).items():
            guided = chunk(guidance, count, start.past)
            figures[f"{name}, {count} steps"] = {
                **compare(guided, known, none, start.truth),
                **errors_kept(partial(chunk, guidance, count), start),
            }
    return figures


def compare(guided: Tensor, known: Tensor, none: Tensor, truth: Tensor) -> Figures:
    """Compare a guided chunk with the chunks from the whole history and from none."""
    return {
        BEYOND: part(guided - known, known - none),
        ERROR: float((guided - truth).norm() / (known - truth).norm()),
        CONTRAST: float(guided.std() / known.std()),
    }


@click.command(help=__doc__)
@click.option("--clips", type=click.IntRange(2), default=64, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
@click.option("--steps", multiple=True, type=click.IntRange(1), help="Only these numbers of steps.")
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
@click.option("--plot", type=NEW_FILE, help="Plot the results to FILE (needs matplotlib).")
def command(
    clips: int, workers: int, steps: tuple[int, ...], json_path: Path | None, plot: Path | None
) -> None:
    with reporting():
        results = measure(clips, workers, steps or STEPS)
        publish(results, json_path)
        if plot is not None:
            draw(results.figures, plot)


if __name__ == "__main__":
    command()
