"""The command line of the cascade bench, with options."""

from __future__ import annotations

from pathlib import Path

import click

from ...training.command import reporting
from . import __doc__ as TEXT
from .stages import STAGES, USUAL
from .suite import CascadePlan, measure

NEW_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(help=TEXT)
@click.option("--stage", "stages", multiple=True, type=click.Choice([*STAGES]))
@click.option("--chunks", default=CascadePlan().chunks, type=click.IntRange(1), show_default=True)
@click.option("--rounds", default=CascadePlan().rounds, type=click.IntRange(1), show_default=True)
@click.option("--clips", default=CascadePlan().clips, type=click.IntRange(1), show_default=True)
@click.option("--json", "json_path", type=NEW_FILE)
def command(
    stages: tuple[str, ...], chunks: int, rounds: int, clips: int, json_path: Path | None
) -> None:
    with reporting():
        plan = CascadePlan(stages or USUAL, chunks, rounds, clips)
        measure(plan).publish(json_path)


if __name__ == "__main__":
    command()
