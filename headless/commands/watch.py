"""`longtake run --watch`: the player at an address of this machine, during the run and after it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from ...errors import BadInput
from ..runner import Host
from ..workflow.graph import load

PREVIEW = "LongtakePreview"


def check_watchable(workflow: Path) -> None:
    """Refuse a workflow of which the player would show nothing."""
    if not any(node.class_type == PREVIEW for node in load(workflow).nodes.values()):
        raise BadInput(
            f"--watch: {workflow.name} shows nothing; add a Streaming Preview node to its frames."
        )


@contextmanager
def watched(host: Host, console: Console) -> Iterator[None]:
    """Serve the player while the block runs and, when it has ended well, until Ctrl-C."""
    with host.watched() as url:
        console.print(f"Watch it at {url}", highlight=False)
        yield
        console.print(f"The player stays at {url} until Ctrl-C.", highlight=False)
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
