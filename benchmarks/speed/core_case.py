"""The core's own AR sampler as a case: a child process in a real ComfyUI checkout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ...stream.latency import LatencyFigures
from .._shared.core_process import CoreProcess, open_core_process
from .._shared.demo import write_plain_dit
from .._shared.demo_shot import DemoShot
from .watching import Showing

PROGRAM = "longtake.benchmarks.speed.core_child"
LATENTS = "latents.safetensors"


class CoreCase:
    """A running child; create it with `open_core_case`."""

    def __init__(self, process: CoreProcess) -> None:
        self._process = process

    def __call__(self, shot: DemoShot) -> Showing:
        """Make a shot, which the core gives as a whole."""
        answer = self._ask(shot)
        latents = load_file(self._process.folder / LATENTS)["latents"]
        whole = (answer["whole_s"],)
        return Showing(latents, answer["frames"], whole, LatencyFigures(), answer["processor_s"])

    def peak(self, shot: DemoShot) -> int | None:
        """Return the child's peak of memory after a shot, without the core's own modules."""
        peak: int | None = self._ask(shot)["peak"]
        return peak

    def _ask(self, shot: DemoShot) -> dict[str, Any]:
        return self._process.ask({
            "width": shot.width, "height": shot.height, "latents": shot.latents,
            "threads": torch.get_num_threads(),
            "latents_file": str(self._process.folder / LATENTS),
        })  # fmt: skip


@contextmanager
def open_core_case(comfy: Path) -> Iterator[CoreCase]:
    """Start the checkout's core; `BadInput` if it cannot be used."""
    with open_core_process(comfy, PROGRAM, write_demo) as process:
        yield CoreCase(process)


def write_demo(folder: Path) -> Path:
    """The demo's transformer without its camera, in a file."""
    return write_plain_dit(folder / "dit.safetensors")
