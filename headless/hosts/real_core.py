"""Run workflows with a real ComfyUI checkout: its core in a child process, under its own Python.

The child (`core_child/prompt_runner.py`) runs the core in process without the web server. This
module is the other end of its pipe. A separate process is needed because the core requires its own
packages, module search path and main thread.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, cast

from ...core.checkout import ComfyCore, check_checkout, start_core
from ...errors import LongtakeError
from ..events import BarMoved, Listener, Notice, from_message, from_ui
from ..player.access import THIS_MACHINE, Access
from ..workflow.graph import Workflow
from ..workflow.node_spec import NodeSpec, node_from_object_info
from .core_failures import failure, refusal

PACK = Path(__file__).resolve().parents[2]
CHILD = PACK / "headless" / "hosts" / "core_child" / "prompt_runner.py"


class CoreHost:
    """A running child process; create it with `open_core`."""

    unknown_remedy = "install its node pack into custom_nodes of that ComfyUI"

    def __init__(self, process: subprocess.Popen[str], listener: Listener, log: Path) -> None:
        self._process = process
        self._listener = listener
        self._log = log

    def specs(self, class_types: Sequence[str]) -> dict[str, NodeSpec]:
        """Return the node types that the workflow names, and all of this pack."""
        self._send({"class_types": list(class_types)})
        return {
            record["class_type"]: node_from_object_info(
                record["class_type"], record, foreign=record["foreign"]
            )
            for record in self._answer("specs")
        }

    def run(self, workflow: Workflow, out_dir: Path) -> None:
        """Run to the end; raise KeyboardInterrupt after `interrupt`."""
        self._send({"prompt": workflow.to_prompt(), "out": str(out_dir)})
        for message in self._messages():
            match message["event"]:
                case "done":
                    return
                case "interrupted":
                    raise KeyboardInterrupt
                case _:
                    self._pass_on(message, {"output": out_dir})
        raise self._explain_death()

    def hold_lease(self, row: str, number: int) -> None:
        """Run the next workflow as lease `number` of a batch's row."""
        self._send({"lease": [row, number]})
        self._answer("held")

    def interrupt(self) -> None:
        """Ask the running workflow to stop at its next check; safe in a signal handler."""
        os.write(cast("IO[str]", self._process.stdin).fileno(), b'{"interrupt": true}\n')

    @contextmanager
    def serve_player(self, access: Access = THIS_MACHINE) -> Iterator[str]:
        """Serve the player page from a thread of the child, until the child ends."""
        self._send({"watch": asdict(access)})
        yield self._answer("watching")

    def _answer(self, event: str) -> Any:
        """Return the data of the child's next message of this kind."""
        for message in self._messages():
            if message["event"] == event:
                return message["data"]
        raise self._explain_death()

    def _send(self, request: Mapping[str, object]) -> None:
        stdin = cast("IO[str]", self._process.stdin)
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
        except OSError as error:
            raise self._explain_death() from error

    def _messages(self) -> Iterator[dict[str, Any]]:
        for line in cast("IO[str]", self._process.stdout):
            message: dict[str, Any] = json.loads(line)
            match message["event"], message["data"]:
                case "broken", words:
                    raise LongtakeError(words)
                case "refused", (error, node_errors):
                    raise LongtakeError(refusal(error, node_errors))
                case "failed", error:
                    raise LongtakeError(failure(error)) from _CoreTraceback.of(error["traceback"])
            yield message

    def _pass_on(self, message: Mapping[str, Any], folders: Mapping[str, Path]) -> None:
        data = message["data"]
        match message["event"]:
            case "bar":
                self._listener(BarMoved(*data))
            case "notice":
                self._listener(Notice(data))
            case "ui":
                for saved in from_ui(data, folders):
                    self._listener(saved)
            case name:
                event = from_message(name, data, folders)
                if event is not None:
                    self._listener(event)

    def _explain_death(self) -> LongtakeError:
        code = self._process.wait()
        lines = self._log.read_text(errors="replace").strip().splitlines()
        last = lines[-1] if lines else "no output"
        return LongtakeError(
            f"ComfyUI ended unexpectedly (exit code {code}): {last}; its log is {self._log}."
        )


class _CoreTraceback(Exception):
    """The traceback from the child, to be shown with --debug as the cause."""

    @classmethod
    def of(cls, lines: list[str]) -> _CoreTraceback:
        return cls(f"in ComfyUI:\n{''.join(lines)}")


@contextmanager
def open_core(
    comfy: ComfyCore, out_dir: Path, listener: Listener, *, disable_metadata: bool = False
) -> Iterator[CoreHost]:
    """Start the core `comfy`, with its log in `out_dir`; stop it after the block."""
    flags = [*comfy.flags, *(["--disable-metadata"] if disable_metadata else [])]
    check_checkout(comfy.folder)
    log = out_dir / ".longtake" / "comfyui.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as log_file:
        arguments = [str(CHILD), str(comfy.folder.resolve()), str(PACK), *flags]
        process = start_core(comfy.folder, arguments, log_file, **_own_group())
    with process:
        try:
            yield CoreHost(process, listener, log)
        finally:
            process.kill()


def _own_group() -> dict[str, Any]:
    """Keep Ctrl-C of the terminal from the child, which is interrupted through its pipe."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
