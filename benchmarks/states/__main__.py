"""The command line of the states bench, with options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...training.command import reporting
from . import __doc__ as TEXT
from .suite import StatesPlan, measure

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
NEW_FILE = click.Path(path_type=Path, dir_okay=False)
USUAL = StatesPlan()


@click.command(help=TEXT)
@click.option("--delta", type=FOLDER, help="A folder with the dit and text files of a state.")
@click.option("--recurrent", type=FILE, help="The file of a recurrent network.")
@click.option("--clips", default=USUAL.clips, type=click.IntRange(1), show_default=True)
@click.option("--rounds", default=USUAL.rounds, type=click.IntRange(0), show_default=True)
@click.option("--workers", default=1, type=click.IntRange(1), show_default=True)
@click.option("--record", type=NEW_FILE, help="Keep finished clips in FILE and continue from it.")
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
def command(json_path: Path | None, **options: Any) -> None:
    with reporting():
        measure(StatesPlan(**options)).publish(json_path)


if __name__ == "__main__":
    command()
