"""The command line of the GPU bench, with options."""

from __future__ import annotations

from pathlib import Path

import click

from ...training.command import reporting
from . import __doc__ as TEXT
from .suite import EVERY, GpuPlan, report

NEW_FILE = click.Path(path_type=Path, dir_okay=False)
USUAL = GpuPlan()


@click.command(help=TEXT)
@click.option("--device", default=USUAL.device, type=click.Choice(["cuda", "cpu"]))
@click.option("--height", default=USUAL.height, type=click.IntRange(16), help="Pixels.")
@click.option("--width", default=USUAL.width, type=click.IntRange(16), help="Pixels.")
@click.option("--layers", default=USUAL.layers, type=click.IntRange(2, USUAL.layers))
@click.option("--case", "cases", multiple=True, type=click.Choice([*EVERY]))
@click.option("--minutes", default=USUAL.minutes, type=click.FloatRange(0), help="Then stop.")
@click.option("--comfy", type=click.Path(path_type=Path, exists=True), envvar="COMFYUI_PATH")
@click.option("--json", "json_path", type=NEW_FILE)
def command(json_path: Path | None, **options: object) -> None:
    with reporting():
        report(GpuPlan(**options), json_path)  # type: ignore[arg-type]


if __name__ == "__main__":
    command()
