"""`longtake osc`: control a run from TouchDesigner, Resolume, Max or any program that sends OSC."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape

from ..console.reporting import report_failures
from ..console.values import TEXT, Parsed
from ..events import RunFiles
from .addresses import HELP, HELP_LINE, describe
from .bridge import Bridge
from .remote import RemoteRun

PORT = 9000


@click.command(epilog="\b\nAddresses:\n  " + "\n  ".join([*describe(), HELP_LINE]))
@click.argument("address", type=Parsed(RemoteRun))
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True,
              help="UDP port to listen at; 0 chooses a free one.")  # fmt: skip
@click.option("--listen", type=TEXT, default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Where to listen; 0.0.0.0 lets other machines control the run.")  # fmt: skip
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def osc(address: RemoteRun, port: int, listen: str, *, debug: bool) -> None:
    """Control the run at ADDRESS by OSC messages until Ctrl-C.

    ADDRESS is a ComfyUI, such as http://127.0.0.1:8188, or what `longtake run --watch` prints.
    Each message acts from the next chunk on, as the player's own controls do. Needs python-osc.
    """
    console = Console(soft_wrap=True)

    def tell(text: str) -> None:
        console.print(escape(text), highlight=False)

    with report_failures(console, RunFiles(), debug=debug, resume_hint=lambda _: "Ended."):
        bridge = Bridge((listen, port), address, tell)
        tell(f"Listens for OSC at {listen}, UDP port {bridge.port}; {HELP} lists the addresses.")
        if lack := address.lack():
            tell(f"{lack} It still listens, for a run that begins later.")
        bridge.run()
