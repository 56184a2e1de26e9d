"""`longtake bench unseen`: the effect of guidance after a history that the model never saw.

The demo model makes one chunk, always from the same noise, after a rendered history. There are
three kinds of history: one as in training, one whose older half is another scene, and one wider
than any training clip. The suite measures the distance (root mean square over latents) to the truth
that continues the newer half, and its difference from plain CFG on the same clip. Temporal history
guidance is published to help here (History Guidance, arXiv 2502.06764): a short part of the past
may be familiar where the whole is not. The last four latent frames are familiar in the two scenes,
and not in the wider clip.

    python -m longtake.benchmarks.unseen --clips 12 --workers 2
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
from rich.console import Console

from ..attention.cache.policy import WindowSink
from ..model.preset import DEMO, DEMO_FOLDER
from ..samplers.guidance import Guidance, extend, last, temporal
from ..training.command import reporting
from ..training.evaluation.estimate import Estimate, estimate
from ..training.evaluation.kit import Kit, Recipe
from ..training.evaluation.measures import spread
from ._guidance.cases import TEXT, cases
from ._guidance.feedback import HISTORY, next_chunk
from ._guidance.findings import PLAIN
from ._guidance.unseen_pasts import pasts
from ._guidance.unseen_plot import draw
from ._shared.report import publish, write

WAYS = (
    PLAIN, "none", "vanilla 1.5", "vanilla 2", "temporal", "temporal and none 2",
    "fractional 2 at 0.75",
)  # fmt: skip
WINDOW = WindowSink(DEMO.window_frames)
"""The memory of all settings: an exact view commits frames again, which no recalling memory can."""
NEW_FILE = click.Path(path_type=Path, dir_okay=False)

Distances = dict[str, dict[str, float]]
"""The distances of one clip, by kind of history and guidance setting."""


@dataclass(slots=True)
class UnseenResults:
    """Distances to the truth by kind of history and guidance setting.

    `against_plain` has the differences from plain CFG, `samples` the distances of each clip.
    """

    suite: str
    clips: int
    figures: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    against_plain: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        write(path, asdict(self))

    def show(self, console: Console) -> None:
        for past, ways in self.figures.items():
            for way, value in ways.items():
                less = self.against_plain[past].get(way)
                text = f"{past:14} {way:24} distance to truth {value}"
                text += "" if less is None else f"  less cfg's {less}"
                console.print(text, highlight=False)


def ways() -> dict[str, Guidance]:
    """Return the guidance settings under comparison.

    A part cut out of the cache still remembers what came before it, even another scene. Only
    `exact` sees nothing but its own frames, as in the paper.
    """
    shots = {name: recipe.guidance or TEXT for name, recipe in cases().items()}
    exact = extend(TEXT, temporal(0.5, last(4, exact=True)))
    return {**{name: shots[name] for name in WAYS}, "temporal, exact": exact}


def main(json_path: Path | None) -> None:
    """Run the whole suite, show the results, and save them to `json_path` if given."""
    publish(measure(64, os.cpu_count() or 1), json_path)


def measure(clips: int, workers: int) -> UnseenResults:
    """Measure all settings after all kinds of history, on every clip."""
    return summarise(spread(distances, range(clips), DEMO_FOLDER, workers))


def summarise(per_clip: Sequence[Distances]) -> UnseenResults:
    """Return means over clips, and of differences from plain CFG within clips."""
    results = UnseenResults("unseen", len(per_clip))
    for past, names in per_clip[0].items():
        samples = {way: [clip[past][way] for clip in per_clip] for way in names}
        results.samples[past] = samples
        results.figures[past] = {way: estimate(values) for way, values in samples.items()}
        results.against_plain[past] = {
            way: estimate([a - b for a, b in zip(values, samples[PLAIN], strict=True)])
            for way, values in samples.items()
            if way != PLAIN
        }
    return results


def distances(kit: Kit, seed: int) -> Distances:
    """Return the distances of all settings after each kind of history, on the clip of a seed."""
    by_history: Distances = {}
    for past, start in pasts(kit, seed).items():
        length, columns = HISTORY + DEMO.chunk_frames, start.past.shape[-1]
        by_history[past] = {}
        for way, guidance in ways().items():
            recipe = Recipe(length=length, columns=columns, guidance=guidance, cache=WINDOW)
            chunk = next_chunk(kit, recipe, start, start.past)
            by_history[past][way] = float((chunk - start.truth).square().mean().sqrt())
    return by_history


@click.command(help=__doc__)
@click.option("--clips", type=click.IntRange(2), default=64, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
@click.option("--plot", type=NEW_FILE, help="Plot the results to FILE (needs matplotlib).")
def command(clips: int, workers: int, json_path: Path | None, plot: Path | None) -> None:
    with reporting():
        results = measure(clips, workers)
        publish(results, json_path)
        if plot is not None:
            draw(results.against_plain, plot)


if __name__ == "__main__":
    command()
