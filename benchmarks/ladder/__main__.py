"""The command line of the ladder bench, with options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...training.command import reporting
from .._shared.report import publish
from . import __doc__ as TEXT
from .rungs import RUNGS
from .suite import LadderPlan, measure

NEW_FILE = click.Path(path_type=Path, dir_okay=False)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command(help=TEXT)
@click.option("--student", type=FOLDER, help="A folder with dit.safetensors, distilled.")
@click.option("--decoder", type=FILE, help="A VAE of the demo's latents, for a rung of its own.")
@click.option("--rung", "rungs", multiple=True, type=click.Choice([*RUNGS]))
@click.option("--shots", default=LadderPlan().shots, type=click.IntRange(2), show_default=True)
@click.option("--long", default=LadderPlan().long, type=click.IntRange(0), show_default=True)
@click.option("--rounds", default=LadderPlan().rounds, type=click.IntRange(0), show_default=True)
@click.option("--workers", default=1, type=click.IntRange(1), show_default=True)
@click.option("--record", type=NEW_FILE, help="Keep finished shots in FILE and go on from there.")
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
def command(json_path: Path | None, rungs: tuple[str, ...], **options: Any) -> None:
    with reporting():
        publish(measure(LadderPlan(rungs=tuple(rungs), **options)), json_path)


if __name__ == "__main__":
    command()
