"""The core's own AR sampler as a case: a child process in a real ComfyUI checkout."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file

from ...core_checkout import check_checkout, start_core
from ...errors import LongtakeError
from ...stream.latency import LatencyFigures
from .._shared.demo import write_plain_dit
from .._shared.demo_shot import DemoShot
from .watching import Showing

PACK = Path(__file__).resolve().parents[2]
# binds this checkout, whatever its folder is called, to the package name
START = """
import importlib.util, sys
from pathlib import Path
pack = Path(sys.argv[1])
spec = importlib.util.spec_from_file_location(
    "longtake", pack / "__init__.py", submodule_search_locations=[str(pack)]
)
sys.modules["longtake"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from longtake.benchmarks.speed.core_child import main
main()
"""
LATENTS = "latents.safetensors"


class CoreCase:
    """A running child; create it with `open_core_case`."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder = process, folder

    def __call__(self, shot: DemoShot) -> Showing:
        """Make a shot, which the core gives as a whole."""
        answer = self._ask(shot)
        latents = load_file(self._folder / LATENTS)["latents"]
        whole = (answer["whole_s"],)
        return Showing(latents, answer["frames"], whole, LatencyFigures(), answer["processor_s"])

    def peak(self, shot: DemoShot) -> int | None:
        """Return the child's peak of memory after a shot, without the core's own modules."""
        peak: int | None = self._ask(shot)["peak"]
        return peak

    def _ask(self, shot: DemoShot) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        request = {
            "width": shot.width, "height": shot.height, "latents": shot.latents,
            "threads": torch.get_num_threads(), "latents_file": str(self._folder / LATENTS),
        }  # fmt: skip
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
        except OSError as error:
            raise LongtakeError("ComfyUI ended before it could make a shot.") from error
        line = stdout.readline()
        if not line:
            log = (self._folder / "core.log").read_text(errors="replace").strip()
            last = log.splitlines()[-1] if log else "no output"
            raise LongtakeError(f"ComfyUI's AR sampler failed: {last}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def open_core_case(comfy: Path) -> Iterator[CoreCase]:
    """Start the checkout's core; `BadInput` if it cannot be used."""
    check_checkout(comfy)
    with TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = write_plain_dit(folder / "dit.safetensors")
        with (folder / "core.log").open("w") as log:
            process = start_core(comfy, ["-c", START, str(PACK), str(checkpoint)], log)
        with process:
            try:
                yield CoreCase(process, folder)
            finally:
                process.kill()
