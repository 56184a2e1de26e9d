"""Options shared by several commands."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ...core.checkout import ComfyCore
from ...errors import BadInput
from ...stream.store.address import Address
from ...stream.store.opening import VARIABLE
from ..player.access import LOOPBACK, Access
from ..workflow.overrides import parse_override
from .values import FILE, TEXT, Parsed

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


def core_options(command: Command) -> Command:
    """Add --comfy and its flags; the command gets `comfy`, a ComfyCore or None."""

    @functools.wraps(command)
    def with_core(*, comfy: Path | None, comfy_flags: str, **others: Any) -> None:
        try:
            flags = split_flags(comfy_flags)
        except ValueError as error:
            raise click.UsageError(f"--comfy-flags {comfy_flags!r}: {error}") from error
        if flags and comfy is None:
            raise click.UsageError("--comfy-flags needs --comfy")
        command(comfy=None if comfy is None else ComfyCore(comfy, flags), **others)

    flags_option = click.option(
        "--comfy-flags",
        default="",
        metavar='"FLAGS"',
        help="With --comfy: ComfyUI's flags, such as --novram.",
    )
    return comfy_option(flags_option(with_core))


def split_flags(text: str) -> tuple[str, ...]:
    """Split flags at blanks outside quotes; ValueError if a quotation has no end.

    A backslash quotes the next character as in a shell, but on Windows, where paths have them.
    """
    words = shlex.shlex(text, posix=True, punctuation_chars=False)
    words.whitespace_split, words.commenters = True, ""
    if sys.platform == "win32":
        words.escape = ""
    return tuple(words)


def store_option(command: Command) -> Command:
    """Add the option --store."""
    return click.option(
        "--store",
        type=TEXT,
        envvar=VARIABLE,
        metavar="URL",
        callback=lambda _context, _option, url: url and Address(url).whole,
        help="Share finished chunks with other machines: a folder, or a URL for fsspec such as "
        f"s3://BUCKET/FOLDER (default: ${VARIABLE}).",
    )(command)


def metadata_option(command: Command) -> Command:
    """Add the option --disable-metadata."""
    return click.option(
        "--disable-metadata", is_flag=True, help="Do not write the workflow into the files."
    )(command)


def common_options(command: Command) -> Command:
    """Add the options of commands that run workflows."""
    for option in (
        click.option("--debug", is_flag=True, help="Show the traceback of a failure."),
        metadata_option,
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
            type=Parsed(parse_override),
            multiple=True,
            metavar="NODE.INPUT=VALUE",
            help="Set an input; NODE is an id, title or type. Repeat it for other inputs.",
        ),
    ):
        command = option(command)
    return core_options(store_option(command))


def watch_options(command: Command) -> Command:
    """Add --watch and what belongs to it; the command gets `watch`, an Access or None."""

    @functools.wraps(command)
    def with_access(
        *, watch: bool, listen: str | None, allow_hosts: tuple[str, ...], **others: Any
    ) -> None:
        if not watch and (listen or allow_hosts):
            raise click.UsageError("--listen and --allow-host need --watch")
        try:
            access = Access(listen or LOOPBACK, allow_hosts)
        except BadInput as error:
            raise click.UsageError(str(error)) from error
        command(watch=access if watch else None, **others)

    for option in (
        click.option(
            "--allow-host",
            "allow_hosts",
            type=TEXT,
            multiple=True,
            metavar="NAME",
            help="With --watch: another name of this machine, as a proxy uses it. Can be repeated.",
        ),
        click.option(
            "--listen",
            type=TEXT,
            metavar="ADDRESS",
            help="With --watch: the address to listen at (default: 127.0.0.1; 0.0.0.0: all).",
        ),
        click.option("--watch", is_flag=True, help="Serve a live player page until Ctrl-C."),
    ):
        with_access = option(with_access)
    return with_access


def is_written(option: str) -> bool:
    """Return whether the command line itself has an option, not only its environment."""
    source = click.get_current_context().get_parameter_source(option)
    return source is ParameterSource.COMMANDLINE
