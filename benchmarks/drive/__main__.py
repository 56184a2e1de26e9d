"""The command line of the drive bench, with options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...training.command import reporting
from . import __doc__ as TEXT
from .suite import MODES, DrivePlan, measure

NEW_FILE = click.Path(path_type=Path, dir_okay=False)
USUAL = DrivePlan()


@click.command(help=TEXT)
@click.option("--presses", default=USUAL.presses, type=click.IntRange(1), show_default=True)
@click.option("--mode", "modes", multiple=True, type=click.Choice([*MODES]))
@click.option("--width", default=USUAL.width, type=click.IntRange(16), show_default=True)
@click.option("--height", default=USUAL.height, type=click.IntRange(16), show_default=True)
@click.option("--seed", default=USUAL.seed, type=click.IntRange(0), show_default=True)
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
def command(modes: tuple[str, ...], json_path: Path | None, **options: Any) -> None:
    with reporting():
        measure(DrivePlan(modes=modes or USUAL.modes, **options)).publish(json_path)


if __name__ == "__main__":
    command()
