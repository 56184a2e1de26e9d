"""Run one workflow on either host: node types, overrides, checks, then the run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..core.checkout import ComfyCore
from ..errors import BadInput, StorageError
from ..stream.store.opening import VARIABLE
from .console.interrupt import two_stage_interrupt
from .events import Listener
from .hosts.real_core import open_core
from .player.access import Access
from .workflow.graph import Workflow, load
from .workflow.node_spec import NodeSpec
from .workflow.overrides import Override, apply
from .workflow.validation import check


@dataclass(frozen=True, slots=True)
class Job:
    """A workflow file to run, changes to its inputs, the output folder, and a camera's file."""

    workflow: Path
    overrides: tuple[Override, ...]
    out_dir: Path
    camera: Path | None = None

    def __str__(self) -> str:
        values = (" / ".join(str(change).splitlines()) for change in self.overrides)
        return " ".join([self.workflow.name, *values])  # one line, whatever a prompt holds


class Host(Protocol):
    """A host that can run a workflow."""

    unknown_remedy: str

    def specs(self, class_types: Sequence[str]) -> Mapping[str, NodeSpec]:
        """Return node types by name, at least the existing ones among `class_types`."""

    def run(self, workflow: Workflow, out_dir: Path) -> None:
        """Run a checked workflow with files to `out_dir`; raise KeyboardInterrupt if
        interrupted.
        """

    def interrupt(self) -> None:
        """Ask the running workflow to stop soon."""

    def hold_lease(self, row: str, number: int) -> None:
        """Run the next workflow as lease `number` of a batch's row, in a store that is shared."""

    def serve_player(self, access: Access) -> AbstractContextManager[str]:
        """Serve the player for takes that begin within the block; yields its address."""


@contextmanager
def store_of_hosts(url: str | None) -> Iterator[None]:
    """Name the store to the hosts of the block: this process, and the core's child process."""
    before = os.environ.pop(VARIABLE, None)
    try:
        if url:
            os.environ[VARIABLE] = url
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


@contextmanager
def open_host(
    comfy: ComfyCore | None, out_dir: Path, listener: Listener, *, disable_metadata: bool = False
) -> Iterator[Host]:
    """Open the real core if a checkout is given, else the stand-in; files go to `out_dir`.

    With `disable_metadata`, files do not hold their workflow.
    """
    prepare_folder(out_dir)
    if comfy is not None:
        with open_core(comfy, out_dir, listener, disable_metadata=disable_metadata) as core:
            yield core
        return
    # Imported here because it loads torch, which the real core's host does not need.
    from .hosts.stand_in import StandInHost, host_modules, our_extension

    with host_modules(out_dir.resolve(), listener) as state:
        state.arguments.disable_metadata = disable_metadata
        host = StandInHost(state, our_extension())
        with host.store():
            yield host


def run_workflow(host: Host, job: Job) -> None:
    """Check and run a job. The first Ctrl-C asks for a stop, the second forces it."""
    workflow = load(job.workflow)
    if job.camera is not None:
        from .workflow.camera import with_camera  # it loads torch

        prepare_folder(job.out_dir)
        workflow = with_camera(workflow, job.camera, job.out_dir.resolve())
    specs = host.specs([node.class_type for node in workflow.nodes.values()])
    checked = check(apply(workflow, job.overrides, specs), specs, host.unknown_remedy)
    prepare_folder(job.out_dir)
    with two_stage_interrupt(host.interrupt):
        host.run(checked, job.out_dir.resolve())


def check_file(target: Path, option: str, example: str) -> None:
    """Reject before any work a file that cannot be written; its folder is created."""
    if target.is_dir():
        raise BadInput(f"{option} {target} is a folder; name a file, such as {target / example}.")
    prepare_folder(target.resolve().parent, option)
    if target.exists() and not os.access(target, os.W_OK):
        raise StorageError(
            f"{option} {target} is write-protected; allow writing, or name another file."
        )


def prepare_folder(folder: Path, option: str = "--out") -> None:
    """Create the folder that `option` names; check that it is writable before any work starts."""
    probe = folder / f".longtake-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StorageError(
            f"Cannot write into the folder {folder} ({error.strerror}); "
            f"choose another with {option}."
        ) from error
