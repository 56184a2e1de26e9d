"""Options shared by several commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from ..workflow.overrides import Override, parse_override

FILE = click.Path(path_type=Path)

Command = Callable[..., None]


def comfy_option(command: Command) -> Command:
    """Add the option --comfy."""
    return click.option(
        "--comfy",
        type=FILE,
        envvar="COMFYUI_PATH",
        metavar="DIR",
        help="Use the real ComfyUI checkout in DIR (default: $COMFYUI_PATH, else the stand-in).",
    )(command)


def common_options(command: Command) -> Command:
    """Add the options of commands that run workflows."""
    for option in (
        click.option("--debug", is_flag=True, help="Show the traceback of a failure."),
        click.option(
            "--out",
            type=FILE,
            default=Path("output"),
            metavar="DIR",
            help="Output folder (default: output).",
        ),
        click.option(
            "--set",
            "changes",
            multiple=True,
            metavar="NODE.INPUT=VALUE",
            help="Set an input; NODE is an id, title or type. Can be repeated.",
        ),
    ):
        command = option(command)
    return comfy_option(command)


def parse_changes(changes: tuple[str, ...]) -> tuple[Override, ...]:
    return tuple(parse_override(change) for change in changes)
