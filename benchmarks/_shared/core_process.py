"""A bench's program in the Python of a real ComfyUI: requests and answers are lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...core.checkout import check_checkout, start_core
from ...errors import LongtakeError

PACK = Path(__file__).resolve().parents[2]
# binds this checkout, whatever its folder is called, to the package name
START = """
import importlib, importlib.util, sys
from pathlib import Path
pack = Path(sys.argv[1])
spec = importlib.util.spec_from_file_location(
    "longtake", pack / "__init__.py", submodule_search_locations=[str(pack)]
)
sys.modules["longtake"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
importlib.import_module(sys.argv[2]).main()
"""
Request = dict[str, Any]


class CoreProcess:
    """A running program and its folder; create it with `open_core_process`."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self.folder = process, folder

    def ask(self, request: Request) -> dict[str, Any]:
        """The answer to a request; LongtakeError with the core's last words if it ended."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
        except OSError as error:
            raise LongtakeError("ComfyUI ended before it could make a shot.") from error
        line = stdout.readline()
        if not line:
            log = (self.folder / "core.log").read_text(errors="replace").strip()
            last = log.splitlines()[-1] if log else "no output"
            raise LongtakeError(f"ComfyUI's AR sampler failed: {last}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def open_core_process(
    comfy: Path, program: str, write_checkpoint: Callable[[Path], Path]
) -> Iterator[CoreProcess]:
    """Start a module of this package in the checkout's core; `BadInput` if it cannot be used.

    `write_checkpoint` writes the program's last argument into a folder.
    """
    check_checkout(comfy)
    with TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = write_checkpoint(folder)
        with (folder / "core.log").open("w") as log:
            arguments = ["-c", START, str(PACK), program, str(checkpoint)]
            process = start_core(comfy, arguments, log)
        with process:
            try:
                yield CoreProcess(process, folder)
            finally:
                process.kill()


def serve(answer: Callable[[Request], dict[str, Any]], to_parent: int) -> None:
    """Answer requests until the parent closes the pipe.

    `to_parent` is the file descriptor that `keep_channel` gave.
    """
    with os.fdopen(to_parent, "w", encoding="utf-8") as channel:
        for line in sys.stdin:
            channel.write(json.dumps(answer(json.loads(line))) + "\n")
            channel.flush()


def keep_channel() -> int:
    """Keep standard output for answers, and let what the core prints go to the log."""
    channel = os.dup(1)
    os.dup2(2, 1)
    return channel
