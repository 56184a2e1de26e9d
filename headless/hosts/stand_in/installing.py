"""Installs the fake host modules under the host's names for the length of a `with` block."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from ....errors import BadInput, StorageError
from ....machine.temporary_files import temporary_folder
from ...events import Listener
from .modules import HostState, fake_modules

NODES = f"{__name__.split('.')[0]}.nodes"
SESSION = f"{NODES}.runtime.session"


@contextmanager
def host_modules(out_dir: Path, listener: Listener) -> Iterator[HostState]:
    """Provide the host's modules and a temp folder.

    Afterwards unload the modules and our nodes, and remove the folder.
    """
    state = HostState(host_folders(out_dir), listener)
    with own_temp_folder(state.folders["temp"]) as temp:
        state.folders["temp"] = temp
        with installed(fake_modules(state)):
            yield state


@contextmanager
def own_temp_folder(parent: Path) -> Iterator[Path]:
    """Make a folder in `parent` for the block: other runs into the same folder have their own."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        own = temporary_folder(parent)
    except OSError as error:
        raise StorageError(
            f"The temp folder {parent} cannot be used ({error.strerror}); choose another output "
            "folder with --out."
        ) from error
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)  # the next run removes what a program still reads


def host_folders(out_dir: Path) -> dict[str, Path]:
    """Return the folders that the host writes to, by name: all are in the folder of the results."""
    hidden = out_dir / ".longtake"
    return {"output": out_dir, **{name: hidden / name for name in ("temp", "user")}}


@contextmanager
def installed(modules: Mapping[str, ModuleType]) -> Iterator[None]:
    """Install modules under their names; afterwards unload them and our nodes.

    Raise BadInput where ComfyUI itself is loaded.
    """
    present = next(
        (name for name in ("comfy", "folder_paths", "server") if name in sys.modules), None
    )
    if present is not None:
        raise BadInput(
            f"ComfyUI is already loaded in this process (module {present}); "
            "run the stand-in in a separate process."
        )
    sys.modules.update(modules)
    try:
        yield
    finally:
        ours = loaded_nodes()
        if SESSION in ours:
            ours[SESSION].session.reset()
        for name in [*modules, *ours]:
            sys.modules.pop(name, None)


def loaded_nodes() -> dict[str, ModuleType]:
    """Return this pack's loaded modules of nodes by name."""
    return {
        name: module
        for name, module in sys.modules.items()
        if name == NODES or name.startswith(f"{NODES}.")
    }
