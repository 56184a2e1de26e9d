"""One stand-in host for all tests of a process: to load our nodes takes longer than most tests.

Its modules and our nodes stay loaded, as they do in ComfyUI. Outside a test's block they are not in
`sys.modules`, so a test of the command line begins with none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

from longtake.headless.events import Listener
from longtake.headless.hosts.stand_in.installing import host_folders, installed, loaded_nodes
from longtake.headless.hosts.stand_in.modules import HostState, fake_modules


class LastingHost:
    """A stand-in's state, and its modules with those of our nodes that were ever loaded."""

    def __init__(self) -> None:
        self.state = HostState({}, print)
        self.modules: dict[str, ModuleType] = fake_modules(self.state)

    def restart(self, out_dir: Path, listener: Listener) -> None:
        """Give the state new folders and a new listener, and forget the test before."""
        self.state.folders = host_folders(out_dir)
        self.state.listener = listener
        self.state.interrupted = False
        self.state.page = None
        self.state.start_prompt()


the_host = cache(LastingHost)


@contextmanager
def lasting_host(out_dir: Path, listener: Listener) -> Iterator[HostState]:
    """Provide the process's one stand-in host, as if it had just been started."""
    host = the_host()
    host.restart(out_dir, listener)
    with installed(host.modules):
        try:
            yield host.state
        finally:
            host.modules.update(loaded_nodes())
