"""The command line of the growth bench, with options."""

from __future__ import annotations

from pathlib import Path

import click

from ...training.command import reporting
from . import __doc__ as TEXT
from .plot import draw
from .suite import MARKS, PARTS, GrowthPlan, measure

NEW_FILE = click.Path(path_type=Path, dir_okay=False)
USUAL = GrowthPlan()


@click.command(help=TEXT)
@click.option("--only", "parts", multiple=True, type=click.Choice([*PARTS]))
@click.option("--rounds", default=USUAL.rounds, type=click.IntRange(3), show_default=True)
@click.option("--latents", default=MARKS[-1], type=click.Choice(MARKS), help="The longest shot.")
@click.option("--memory/--no-memory", default=True)
@click.option("--json", "json_path", type=NEW_FILE)
@click.option("--plot", type=NEW_FILE, help="Plot the results to FILE (needs matplotlib).")
def command(
    parts: tuple[str, ...],
    rounds: int,
    latents: int,
    memory: bool,
    json_path: Path | None,
    plot: Path | None,
) -> None:
    with reporting():
        marks = tuple(mark for mark in MARKS if mark <= latents)
        results = measure(GrowthPlan(rounds, marks, parts or USUAL.parts, memory))
        results.publish(json_path)
        if plot is not None:
            draw(results, plot)


if __name__ == "__main__":
    command()
