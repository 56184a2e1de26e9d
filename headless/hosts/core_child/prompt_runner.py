"""Run workflows inside a real ComfyUI core, without its web server.

`real_core` starts this script with ComfyUI's own Python, so it imports only the standard library
and the core, and nothing of this pack. It exchanges JSON lines: requests on stdin (`class_types`,
`watch`, `lease`, `prompt`, `interrupt`), messages on its original stdout. All output of the core
goes to stderr. The end of stdin means stop.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

FORWARDED = ("longtake.chunk", "longtake.file")
FAILURE = ("node_id", "node_type", "exception_type", "exception_message", "traceback")
STORE = "LONGTAKE_STORE"
Request = dict[str, Any]


class Channel:
    """The connection to the parent process; safe from any thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, **message: Any) -> None:
        with self._lock:
            self._stream.write(json.dumps(message, default=str) + "\n")
            self._stream.flush()


class Routes:
    """Ignore the route decorators of packs: there is no web server."""

    def __getattr__(self, method: str) -> Any:
        return lambda *_, **__: lambda handler: handler


class Server:
    """The part of PromptServer that the executor and nodes use."""

    client_id: str | None = "longtake"
    last_node_id: str | None = None
    last_prompt_id: str | None = None
    page: Any = None  # a PageServer of headless/player/server.py

    def __init__(self, channel: Channel) -> None:
        self.routes = Routes()
        self.app = SimpleNamespace(middlewares=list[Any]())  # nothing calls them
        self.sockets_metadata: dict[str, Any] = {}
        self._channel = channel

    def send_sync(self, event: Any, data: Any, sid: str | None = None) -> None:
        """Forward our own events and the ui results of finished nodes."""
        if self.page is not None and isinstance(event, str) and event.startswith("longtake."):
            self.page.emit(event, data)
        if event in FORWARDED:
            self._channel.send(event=event, data=data)
        elif event == "executed" and data.get("output"):
            self._channel.send(event="ui", data=data["output"])

    def send_progress_text(self, text: str, node_id: str, sid: str | None = None) -> None:
        """Ignore text for a browser; nodes log it too."""


class Notices(logging.Handler):
    """Forward this pack's log messages to the user."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.INFO)
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        self._channel.send(event="notice", data=record.getMessage())


class LastWarning(logging.Handler):
    """Keep the core's last warning, its only explanation when a pack fails to load."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = "no reason given"

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


class Core:
    """The core's modules, imported once, with this pack loaded."""

    def __init__(self, checkout: Path, pack: Path, channel: Channel) -> None:
        import comfy.options as options  # the core reads sys.argv only after this

        options.enable_args_parsing()
        import comfy.model_management as management
        import comfy.utils
        import execution
        import server

        import nodes

        self.channel = channel
        self.management, self.nodes, self.execution = management, nodes, execution
        self.server = Server(channel)
        server.PromptServer.instance = self.server
        comfy.utils.set_progress_bar_global_hook(self._progress)
        _load_extra_model_paths(checkout)
        self.foreign = set(nodes.NODE_CLASS_MAPPINGS)
        warning = LastWarning()
        logging.getLogger().addHandler(warning)
        if not asyncio.run(nodes.load_custom_node(str(pack))):
            raise RuntimeError(f"ComfyUI could not load the Longtake nodes: {warning.text}")
        self.ours = set(nodes.NODE_CLASS_MAPPINGS) - self.foreign
        logging.getLogger("longtake").addHandler(Notices(channel))
        logging.getLogger("longtake").setLevel(logging.INFO)
        self._executor = execution.PromptExecutor(
            self.server,
            cache_type=execution.CacheType.CLASSIC,
            cache_args={"lru": 0, "ram": 2.0, "ram_inactive": 2.0},
        )

    def interrupt(self) -> None:
        """Set the flag that makes the next interrupt check raise."""
        self.management.interrupt_current_processing(True)

    def specs(self, class_types: list[str]) -> list[dict[str, Any]]:
        """Describe the node types; load other packs only if one of their types is needed."""
        known = self.nodes.NODE_CLASS_MAPPINGS
        for load in ("init_builtin_extra_nodes", "init_external_custom_nodes"):
            if any(name not in known for name in class_types):
                asyncio.run(getattr(self.nodes, load)())
        names = {*class_types, *self.ours}
        return [self._spec(name, known[name]) for name in sorted(names) if name in known]

    def watch(self, access: dict[str, Any]) -> None:
        """Open the player page, using this pack's modules as the core has loaded them."""
        pages = self._module("headless.player.server")
        page = pages.open_page(pages.Access(access["listen"], tuple(access["allow_hosts"])))
        try:
            url = page.url
        except Exception as error:  # nothing listens; the parent says why
            self.channel.send(event="broken", data=str(error))
            return
        self.server.page, self.server.client_id = page, page.key
        self.channel.send(event="watching", data=url)

    def hold_lease(self, row: str, number: int) -> None:
        """Run the next prompt as lease `number` of a batch's row."""
        if self._use_store(lambda session: session.hold_lease(row, number)):
            self.channel.send(event="held", data="")

    def _use_store(self, use: Callable[[Any], None]) -> bool:
        """Do something with the store, if there is one; False where the parent hears why not."""
        try:
            if STORE in os.environ:
                use(self._module("nodes.runtime.session").session)
        except Exception as error:
            self.channel.send(event="broken", data=str(error))
            return False
        return True

    def _module(self, name: str) -> Any:
        """Return a module of this pack as the core has loaded it."""
        preview = self.nodes.NODE_CLASS_MAPPINGS["LongtakePreview"].__module__
        pack = preview.removesuffix(".nodes.outputs.preview")
        return importlib.import_module(f"{pack}.{name}")

    def run(self, prompt: dict[str, Any], out: str) -> None:
        """Run one prompt and send its outcome."""
        import folder_paths

        folder_paths.set_output_directory(out)
        prompt_id = os.urandom(8).hex()
        valid = asyncio.run(self.execution.validate_prompt(prompt_id, prompt, None))
        if not valid[0] or valid[3]:  # the core would run the outputs that have no errors
            self.channel.send(event="refused", data=[valid[1], valid[3]])
            return
        self.server.last_prompt_id = prompt_id
        self._executor.execute(prompt, prompt_id, {"client_id": self.server.client_id}, valid[2])
        self._send_outcome()

    def _send_outcome(self) -> None:
        ends = dict(self._executor.status_messages)
        if "execution_interrupted" in ends:
            self.channel.send(event="interrupted", data="")
        elif "execution_error" in ends:
            error = {name: ends["execution_error"][name] for name in FAILURE}
            self.channel.send(event="failed", data=error)
        elif self._use_store(lambda session: session.settle_store()):
            self.channel.send(event="done", data="")

    def _progress(
        self, value: float, total: float, preview: Any, prompt_id: Any = None, node_id: Any = None
    ) -> None:
        self.management.throw_exception_if_processing_interrupted()
        self.channel.send(event="bar", data=[str(node_id or ""), int(value), int(total)])

    def _spec(self, name: str, node: Any) -> dict[str, Any]:
        """Return the node type in the form of /object_info, as far as the parent reads it."""
        return {
            "class_type": name,
            "input": node.INPUT_TYPES(),
            "output": list(node.RETURN_TYPES),
            "output_node": bool(getattr(node, "OUTPUT_NODE", False)),
            "foreign": name not in self.ours,
        }


def _load_extra_model_paths(checkout: Path) -> None:
    config = checkout / "extra_model_paths.yaml"
    if config.is_file():
        from utils.extra_config import load_extra_path_config

        load_extra_path_config(str(config))


def _device_flags() -> list[str]:
    """Without an accelerator the core starts only with --cpu, and with it uses none."""
    import torch

    kinds = torch.cuda, torch.backends.mps, getattr(torch, "xpu", None)
    return [] if any(kind is not None and kind.is_available() for kind in kinds) else ["--cpu"]


def _read_requests(requests: queue.Queue[Request], core: Core) -> None:
    for line in sys.stdin:
        request: Request = json.loads(line)
        if "interrupt" in request:
            core.interrupt()
        else:
            requests.put(request)
    core.interrupt()
    requests.put({})


def _outlive_sigterm() -> None:
    """Do nothing at SIGTERM, which is the parent's to answer.

    A service manager sends it to both, and a core that ended here would look like a row that
    failed. Programs that nodes start do not inherit this, as they would inherit SIG_IGN.
    """
    signal.signal(signal.SIGTERM, lambda *_: None)
    if hasattr(os, "register_at_fork"):  # Windows has none
        default = functools.partial(signal.signal, signal.SIGTERM, signal.SIG_DFL)
        os.register_at_fork(after_in_child=default)


def main() -> None:
    """Serve requests until stdin ends."""
    _outlive_sigterm()
    channel = Channel(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    checkout, pack = (Path(argument) for argument in sys.argv[1:3])
    sys.argv = ["main.py", *_device_flags(), *sys.argv[3:]]
    try:
        core = Core(checkout, pack, channel)
    except Exception as error:
        channel.send(event="broken", data=f"{type(error).__name__}: {error}")
        raise
    requests: queue.Queue[Request] = queue.Queue()
    reader = threading.Thread(target=_read_requests, args=(requests, core), daemon=True)
    reader.start()
    while request := requests.get():
        if "class_types" in request:
            channel.send(event="specs", data=core.specs(request["class_types"]))
        elif "watch" in request:
            core.watch(request["watch"])
        elif "lease" in request:
            core.hold_lease(*request["lease"])
        else:
            core.run(request["prompt"], request["out"])


if __name__ == "__main__":
    main()
