"""The command line of the caching bench, with options."""

from __future__ import annotations

from pathlib import Path

import click

from ...training.command import reporting
from . import __doc__ as TEXT
from .suite import FEWER, CachingPlan, measure

NEW_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(help=TEXT)
@click.option("--steps", multiple=True, type=click.Choice([*map(str, FEWER)]))
@click.option("--shots", default=CachingPlan().shots, type=click.IntRange(1), show_default=True)
@click.option("--latents", default=CachingPlan().latents, type=click.IntRange(6), show_default=True)
@click.option("--json", "json_path", type=NEW_FILE)
def command(steps: tuple[str, ...], shots: int, latents: int, json_path: Path | None) -> None:
    with reporting():
        chosen = tuple(map(int, steps)) or tuple(FEWER)
        measure(CachingPlan(chosen, shots, latents)).publish(json_path)


if __name__ == "__main__":
    command()
