"""`longtake bench unseen`: what guidance does after a history that the model never saw.

One chunk of the demo model, always of the same noise, after a rendered history: one as it was
trained on, one whose older half is another scene, one wider than any clip. Counted is the distance
(root mean square over latents) to the truth that goes on from the newer half, and how much more
that is than plain CFG's on the same clip. Temporal history guidance is published to help there
(History Guidance, arXiv 2502.06764), since a short part of the past may be familiar where the whole
is not: its last four latent frames are, of two scenes, and not of the wider clip.

    python -m longtake.benchmarks.unseen --clips 12 --workers 2
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
from rich.console import Console

from ..model.preset import DEMO, DEMO_FOLDER
from ..samplers.guidance import Guidance, extended, last, temporal
from ..training.command import reporting
from ..training.evaluation.estimate import Estimate, estimate
from ..training.evaluation.kit import Kit, Recipe
from ..training.evaluation.measures import spread
from ._guidance.feedback import HISTORY, next_chunk
from ._guidance.findings import PLAIN
from ._guidance.unseen_pasts import pasts
from ._guidance.unseen_plot import draw
from ._shared.report import write
from .guidance import TEXT, cases

WAYS = (
    PLAIN, "none", "vanilla 1.5", "vanilla 2", "temporal", "temporal and none 2",
    "fractional 2 at 0.75",
)  # fmt: skip
NEW_FILE = click.Path(path_type=Path, dir_okay=False)

Distances = dict[str, dict[str, float]]
"""Of one clip: by kind of history and way of guiding."""


@dataclass(slots=True)
class Unseen:
    """Distances to the truth, and how much more they are than plain CFG's, by kind of history and
    way of guiding; and those of each clip.
    """

    suite: str
    clips: int
    figures: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    against_plain: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write all of it as JSON."""
        write(path, asdict(self))

    def show(self, console: Console) -> None:
        """A line for each way after each kind of history."""
        for past, ways in self.figures.items():
            for way, value in ways.items():
                less = self.against_plain[past].get(way)
                text = f"{past:14} {way:24} distance to truth {value}"
                text += "" if less is None else f"  less cfg's {less}"
                console.print(text, highlight=False)


def ways() -> dict[str, Guidance]:
    """What is compared.

    A part that is cut out of the cache remembers what came before it, another scene too; only
    `exact` sees nothing but its own frames, as in the paper.
    """
    shots = {name: recipe.guidance or TEXT for name, recipe in cases().items()}
    exact = extended(TEXT, temporal(0.5, last(4, exact=True)))
    return {**{name: shots[name] for name in WAYS}, "temporal, exact": exact}


def main(json_path: Path | None) -> None:
    """Run the whole suite, show it, and write it to `json_path` when there is one."""
    publish(measure(64, os.cpu_count() or 1), json_path)


def publish(found: Unseen, json_path: Path | None) -> None:
    """Show it, and write it to `json_path` when there is one."""
    found.show(Console(soft_wrap=True))
    if json_path is not None:
        found.save(json_path)


def measure(clips: int, workers: int) -> Unseen:
    """All ways after all kinds of history, on every clip."""
    return compared(spread(distances, range(clips), DEMO_FOLDER, workers))


def compared(made: Sequence[Distances]) -> Unseen:
    """Means over clips, and of differences to plain CFG within them."""
    found = Unseen("unseen", len(made))
    for past, names in made[0].items():
        of = {way: [one[past][way] for one in made] for way in names}
        found.samples[past] = of
        found.figures[past] = {way: estimate(values) for way, values in of.items()}
        found.against_plain[past] = {
            way: estimate([a - b for a, b in zip(values, of[PLAIN], strict=True)])
            for way, values in of.items()
            if way != PLAIN
        }
    return found


def distances(kit: Kit, seed: int) -> Distances:
    """Of the chunk that each way makes after each kind of history, on the clip of a seed."""
    found: Distances = {}
    for past, start in pasts(kit, seed).items():
        length, columns = HISTORY + DEMO.chunk_frames, start.past.shape[-1]
        found[past] = {}
        for way, guidance in ways().items():
            recipe = Recipe(length=length, columns=columns, guidance=guidance)
            made = next_chunk(kit, recipe, start, start.past)
            found[past][way] = float((made - start.truth).square().mean().sqrt())
    return found


@click.command(help=__doc__)
@click.option("--clips", type=click.IntRange(2), default=64, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
@click.option("--plot", type=NEW_FILE, help="Draw them to FILE (needs matplotlib).")
def command(clips: int, workers: int, json_path: Path | None, plot: Path | None) -> None:
    """Command line."""
    with reporting():
        found = measure(clips, workers)
        publish(found, json_path)
        if plot is not None:
            draw(found.against_plain, plot)


if __name__ == "__main__":
    command()
