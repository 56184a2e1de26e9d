"""The command line of the speed bench, with options."""

from __future__ import annotations

from pathlib import Path

import click

from ...training.command import reporting
from . import __doc__ as TEXT
from .suite import LENGTHS, PARTS_OF_BENCH, SpeedPlan, measure

NEW_FILE = click.Path(path_type=Path, dir_okay=False)
SIZES = {f"{width}x{height}": (width, height) for width, height in LENGTHS}
USUAL = SpeedPlan()


@click.command(help=TEXT)
@click.option("--size", "sizes", multiple=True, type=click.Choice([*SIZES]))
@click.option("--latents", type=click.IntRange(6, 24), help="Of a shot, in place of the usual.")
@click.option("--rounds", default=USUAL.rounds, type=click.IntRange(1), show_default=True)
@click.option("--seconds", default=USUAL.budget_s, show_default=True, help="Of a size's rounds.")
@click.option("--comfy", type=click.Path(path_type=Path, exists=True), envvar="COMFYUI_PATH")
@click.option("--only", "parts", multiple=True, type=click.Choice(PARTS_OF_BENCH))
@click.option(
    "--installed",
    is_flag=True,
    help="Longtake decodes as Load Demo Model does on this CPU, the others in float32.",
)
@click.option("--json", "json_path", type=NEW_FILE)
def command(
    sizes: tuple[str, ...],
    seconds: float,
    parts: tuple[str, ...],
    json_path: Path | None,
    **options: object,
) -> None:
    with reporting():
        chosen = tuple(SIZES[size] for size in sizes) or USUAL.sizes
        plan = SpeedPlan(
            chosen,
            budget_s=seconds,
            parts=parts or USUAL.parts,
            **options,  # type: ignore[arg-type]
        )
        measure(plan).publish(json_path)


if __name__ == "__main__":
    command()
