"""`longtake push`: pass a live address on to a streaming service or a receiver."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape

from ...errors import BadInput
from ...stream.live.relay import Relay
from ..console.reporting import report_failures
from ..console.values import TEXT
from ..events import RunFiles

VARIABLE = "LONGTAKE_PUSH"


@click.command()
@click.argument("address", type=TEXT)
@click.argument("target", type=TEXT, envvar=VARIABLE)
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def push(address: str, target: str, *, debug: bool) -> None:
    """Send the live picture at ADDRESS on to TARGET until Ctrl-C.

    ADDRESS is copied from the player (Use in OBS) and ends with live.mp4 or live.ts. TARGET begins
    with rtmp://, rtmps://, srt:// or udp://, or is ndi://NAME, an NDI source of that name. Give a
    TARGET that holds a key as the environment variable LONGTAKE_PUSH: other users of the machine
    can read command lines.
    """
    console = Console(soft_wrap=True)
    try:
        relay = Relay(address, target, lambda text: console.print(escape(text), highlight=False))
    except BadInput as error:
        raise click.UsageError(str(error)) from error
    with report_failures(
        console, RunFiles(), debug=debug, resume_hint=lambda _: "Ended; the run goes on."
    ):
        relay.run()
