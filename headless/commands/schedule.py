"""`longtake schedule`: describe and draw what the Diffusion-Forcing Schedule node would produce."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from ...errors import BadInput
from ...model.families.table import BY_KEY, FAST_DEMO_KEY
from ...nodes.sampling.schedule_picture import draw_schedule, in_words
from ...samplers.schedule.options import (
    ATTENTION,
    FROM_MODEL,
    KINDS,
    MAX_SHIFT,
    MAX_STAGGER,
    MAX_STEPS,
    OWN_STEPS,
    STEP_PRESETS,
    ScheduleOptions,
)
from ...samplers.schedule.rows import MAX_CHUNK_FRAMES
from ..console.options import is_written
from ..console.reporting import report_failures
from ..console.values import OUTPUT_FILE, Number
from ..events import RunFiles
from ..runner import check_file
from ..usage import WrongUsage

DEFAULTS = ScheduleOptions()
CHOICES = (FROM_MODEL, *KINDS)
PRESETS = (OWN_STEPS, *STEP_PRESETS)


def beginning_of(choices: Collection[str]) -> Callable[..., str]:
    """Return an option callback that completes the beginning of one of `choices`."""

    def full_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
        matches = [choice for choice in choices if choice.startswith(value)]
        if value in matches:
            return value
        if len(matches) != 1:
            names = ", ".join(repr(choice) for choice in matches or choices)
            raise click.BadParameter(f"{value!r} is not the beginning of one of {names}")
        return matches[0]

    return full_name


@click.command()
@click.option(
    "--family", type=click.Choice(list(BY_KEY)), default=FAST_DEMO_KEY, metavar="NAME",
    help=f"Family whose preset fills missing options: {', '.join(BY_KEY)} (default: "
    f"{FAST_DEMO_KEY}).",
)  # fmt: skip
@click.option(
    "--schedule", "kind", callback=beginning_of(CHOICES), default=FROM_MODEL, metavar="NAME",
    help=f"One of {', '.join(CHOICES)}, or the beginning of one.",
)  # fmt: skip
@click.option(
    "--chunk-frames", type=click.IntRange(1, MAX_CHUNK_FRAMES), help="Latent frames per chunk."
)
@click.option("--steps", type=click.IntRange(1, MAX_STEPS), help="Model evaluations per chunk.")
@click.option(
    "--first-steps", type=click.IntRange(0, MAX_STEPS), help="Minimum steps of the first chunk."
)
@click.option(
    "--shift", type=Number(0.01, MAX_SHIFT),
    help="Weight of high noise levels; 1 is even.",
)  # fmt: skip
@click.option(
    "--stagger", type=Number(0.0, MAX_STAGGER), default=DEFAULTS.stagger,
    help="Steps between neighbouring frames; in a pipeline, chunks in flight.",
)  # fmt: skip
@click.option(
    "--attention", type=click.Choice(list(ATTENTION)), default=DEFAULTS.attention,
    help="What active frames see of one another.",
)  # fmt: skip
@click.option(
    "--step-preset", callback=beginning_of(PRESETS), default=OWN_STEPS, metavar="NAME",
    help=f"One of {', '.join(PRESETS)}, or the beginning of one.",
)  # fmt: skip
@click.option(
    "--step-list", default="", metavar="LIST", help="Timesteps, such as `1000, 750, 500, 250`."
)
@click.option("--frames", type=click.IntRange(1, 1000), help="Number of latent frames to show.")
@click.option("--png", type=OUTPUT_FILE, metavar="FILE", help="Draw the noise levels into FILE.")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def schedule(
    family: str, frames: int | None, png: Path | None, debug: bool, **chosen: object
) -> None:
    """Describe or draw a noise schedule.

    The options are those of the Diffusion-Forcing Schedule node.
    """
    console = Console(soft_wrap=True)
    options = ScheduleOptions(**chosen)  # type: ignore[arg-type]  # click has checked them
    _check_effect(options)
    preset = BY_KEY[family].preset
    try:
        rows = options.schedule(preset)
    except BadInput as error:
        raise click.UsageError(str(error)) from error
    with report_failures(console, RunFiles(), debug=debug):
        if png is not None:
            _check_picture(png)
        kind = options.kind_for(options.in_place_of(preset))
        console.print(escape(f"{kind}: {in_words(rows, frames)}"), highlight=False)
        if png is not None:
            shown = draw_schedule(rows, png, frames)
            part = f", of the first {shown} latent frames" if frames and shown < frames else ""
            console.print(f"picture{part}: {escape(str(png))}", highlight=False)


def _check_effect(options: ScheduleOptions) -> None:
    """Refuse options of steps that another one leaves without effect; UsageError names both."""
    others: tuple[str, ...] = "step_preset", "steps", "first_steps"
    if options.step_list.strip():
        winner = "--step-list"
    elif options.step_preset != OWN_STEPS:
        winner, others = "--step-preset", others[1:]
    else:
        return
    for name in filter(is_written, others):
        option = f"--{name.replace('_', '-')}"
        raise click.UsageError(f"{option} has no effect beside {winner}; keep one of the two")


def _check_picture(target: Path) -> None:
    """Reject before any work what no picture can be written to."""
    if target.suffix.lower() != ".png":
        raise WrongUsage(f"--png writes a PNG file; {target} must end with .png.")
    check_file(target, "--png", "schedule.png")
