"""`longtake bench overshoot`: what guidance does to one chunk, and to an error of its past.

One chunk of the demo model after a rendered, true history, always of the same noise: with all of
the history, with none, and guided. How far a guided chunk lies beyond the one with all of the
history is counted in differences between that and the one without (its projection on them): scale
- 1 is what one step to the end would add. Then the history is given a small error, another colour
(an offset of a random direction) or more contrast, and it is counted how much of that the chunk
goes on with: below 1 an error dies out from chunk to chunk, above 1 it grows until nothing of the
picture is left, since the next chunk has this one as its past. A branch without history says the
same whatever is wrong with it, so guidance away from it multiplies the response to errors too.

    python -m longtake.benchmarks.overshoot --clips 8 --workers 2
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from torch import Tensor

from ..model.preset import DEMO, DEMO_FOLDER
from ..model.vae.latent_format import SPATIAL_FACTOR
from ..samplers.guidance import Guidance, GuidanceTiming, extended, stabilised, vanilla
from ..training.command import reporting
from ..training.evaluation.estimate import Estimate, estimate
from ..training.evaluation.kit import Kit, Recipe
from ..training.evaluation.measures import spread
from ._guidance.feedback import (
    HISTORY,
    Figures,
    errors_kept,
    next_chunk,
    part,
    true_start,
)
from ._guidance.overshoot_plot import draw
from ._shared.report import write
from .guidance import EARLY, TEXT, cases

SCALES = (1.0, 1.2, 1.5, 2.0, 3.0)
FEW_SCALES = (1.0, 2.0)
ALSO = (
    "vanilla 2, rescaled", "vanilla 2, early steps", "vanilla 2, late steps",
    "vanilla 2, stabilised 0.05", "vanilla 2, stabilised 0.1",
    "cfg, stabilised 0.05", "cfg, stabilised 0.1", "temporal", "temporal and none 2",
    "fractional 2 at 0.75", "fractional 3 at 0.75",
)  # fmt: skip
STEPS = (1, 4, 16)
BEYOND, ERROR, CONTRAST = "beyond the history", "distance to truth", "contrast"
NEW_FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(slots=True)
class Overshoot:
    """Figures of every way of guiding, by name and measure."""

    suite: str
    clips: int
    figures: Mapping[str, Mapping[str, Estimate]]

    def save(self, path: Path) -> None:
        """Write all of it as JSON."""
        write(path, asdict(self))

    def show(self, console: Console) -> None:
        """A line for each."""
        for name, of in self.figures.items():
            text = "  ".join(f"{key} {value}" for key, value in of.items())
            console.print(f"{name:36} {text}", highlight=False)


def ways(*, own: bool) -> dict[str, Guidance]:
    """What is compared in any number of steps, and more of it in the demo's `own`."""
    scales = SCALES if own else FEW_SCALES
    found = {f"vanilla {scale:g}": extended(TEXT, vanilla(scale)) for scale in scales}
    if not own:
        return found
    late = replace(vanilla(2.0), timing=GuidanceTiming((0.0, EARLY)))
    more = {
        "no text": Guidance(),
        "vanilla 2, late steps": extended(TEXT, late),
        "cfg, stabilised 0.05": stabilised(TEXT, 0.05),
        "cfg, stabilised 0.1": stabilised(TEXT, 0.1),
    }
    shots = {name: recipe.guidance or TEXT for name, recipe in cases().items()}
    known = {**shots, **more, **found}
    return {name: known[name] for name in ("no text", *found, *ALSO)}


def main(json_path: Path | None) -> None:
    """Run the whole suite, show it, and write it to `json_path` when there is one."""
    publish(measure(64, os.cpu_count() or 1), json_path)


def publish(found: Overshoot, json_path: Path | None) -> None:
    """Show it, and write it to `json_path` when there is one."""
    found.show(Console(soft_wrap=True))
    if json_path is not None:
        found.save(json_path)


def measure(clips: int, workers: int, steps: tuple[int, ...] = STEPS) -> Overshoot:
    """All ways on every clip."""
    made = spread(partial(thrown, steps=steps), range(clips), DEMO_FOLDER, workers)
    names = {name: list(of) for name, of in made[0].items()}
    figures = {
        name: {key: estimate([one[name][key] for one in made]) for key in keys}
        for name, keys in names.items()
    }
    return Overshoot("overshoot", clips, figures)


def thrown(kit: Kit, seed: int, steps: tuple[int, ...] = STEPS) -> dict[str, Figures]:
    """Every way on the clip of a seed: what it does to the chunk after its history."""
    start = true_start(kit, seed, DEMO.width // SPATIAL_FACTOR)

    def chunk(guidance: Guidance, count: int, past: Tensor) -> Tensor:
        recipe = Recipe(length=HISTORY + DEMO.chunk_frames, steps=count, guidance=guidance)
        return next_chunk(kit, recipe, start, past)

    found: dict[str, Figures] = {}
    for count in steps:
        known, none = (chunk(extended(TEXT, vanilla(w)), count, start.past) for w in (1.0, 0.0))
        for name, guidance in ways(own=count == DEMO.steps).items():
            made = chunk(guidance, count, start.past)
            found[f"{name}, {count} steps"] = {
                **compared(made, known, none, start.truth),
                **errors_kept(partial(chunk, guidance, count), start),
            }
    return found


def compared(made: Tensor, known: Tensor, none: Tensor, truth: Tensor) -> Figures:
    """A guided chunk against that with all of the history and that with none."""
    return {
        BEYOND: part(made - known, known - none),
        ERROR: float((made - truth).norm() / (known - truth).norm()),
        CONTRAST: float(made.std() / known.std()),
    }


@click.command(help=__doc__)
@click.option("--clips", type=click.IntRange(2), default=64, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
@click.option("--steps", multiple=True, type=click.IntRange(1), help="Only so many.")
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
@click.option("--plot", type=NEW_FILE, help="Draw them to FILE (needs matplotlib).")
def command(
    clips: int, workers: int, steps: tuple[int, ...], json_path: Path | None, plot: Path | None
) -> None:
    """Command line."""
    with reporting():
        found = measure(clips, workers, steps or STEPS)
        publish(found, json_path)
        if plot is not None:
            draw(found.figures, plot)


if __name__ == "__main__":
    command()
