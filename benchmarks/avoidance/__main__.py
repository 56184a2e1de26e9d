"""The command line of the avoidance bench, with options."""

from __future__ import annotations

from pathlib import Path

import click

from ...training.command import reporting
from .._shared.report import publish
from . import __doc__ as TEXT
from .suite import SHOTS, measure

NEW_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(help=TEXT)
@click.option("--shots", default=SHOTS, type=click.IntRange(2), show_default=True)
@click.option("--workers", default=1, type=click.IntRange(1), show_default=True)
@click.option("--json", "json_path", type=NEW_FILE)
def command(shots: int, workers: int, json_path: Path | None) -> None:
    with reporting():
        publish(measure(shots, workers), json_path)


if __name__ == "__main__":
    command()
