"""`longtake run --watch`: the player page on this machine, during and after the run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from ...errors import BadInput
from ..player.access import Access
from ..runner import Host
from ..workflow.graph import load

PREVIEW = "LongtakePreview"
NAP_S = 0.5  # a signal that another thread receives does not wake this thread


def check_watchable(workflow: Path) -> None:
    """Reject a workflow without a preview node, for which the player would stay empty."""
    if not any(node.class_type == PREVIEW for node in load(workflow).nodes.values()):
        raise BadInput(
            f"--watch: {workflow.name} has no preview; connect a Streaming Preview node to frames."
        )


@contextmanager
def watch_run(host: Host, access: Access, console: Console) -> Iterator[None]:
    """Serve the player during the block and, if the block succeeds, until Ctrl-C."""
    with host.serve_player(access) as url:
        shown = escape(url)  # [fd00::1] would be taken for a style
        console.print(f"Watch it at {shown}", highlight=False)
        yield
        with suppress(KeyboardInterrupt):
            console.print(f"The player stays at {shown} until Ctrl-C.", highlight=False)
            while True:
                time.sleep(NAP_S)
