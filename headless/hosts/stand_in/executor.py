"""Run a checked workflow with the stand-in, like the core's prompt thread.

One thread in inference mode runs an event loop. A node runs as soon as its inputs are ready. Async
nodes are awaited side by side, so the outputs of one stream advance together.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch

from ....errors import BadInput, LongtakeError
from ....model.files.known_files import FOLDERS
from ...events import from_ui
from ...player.access import THIS_MACHINE, Access
from ...workflow.graph import Link, Node, Workflow
from ...workflow.node_spec import InputSpec, NodeSpec
from . import core_nodes
from .io_types import ComfyNode, HiddenHolder, Input, NodeOutput, WidgetInput
from .modules import (
    ComfyExtension,
    ExecutionBlocker,
    HostState,
    InterruptProcessingException,
)

NodeTable = Mapping[str, type[ComfyNode]]


class NodeFailure(LongtakeError):
    """A node raised an error that is not one of ours."""


class StandInHost:
    """The stand-in as a host for the command line; needs a `modules.host_modules` block."""

    unknown_remedy = (
        "without ComfyUI only Longtake's own nodes, CLIPTextEncode, LoadImage, LoadVideo, "
        "LoadAudio, ImageFromBatch and SaveImage can run; add --comfy DIR (a ComfyUI checkout) for "
        "others"
    )

    def __init__(self, state: HostState, extension: ComfyExtension) -> None:
        self._state = state
        self._nodes = _node_table(state, extension)
        self._has_run = False

    def specs(self, class_types: Sequence[str]) -> dict[str, NodeSpec]:
        """Return all node types; `class_types` matters only to hosts that load on demand."""
        return {name: _spec(node) for name, node in self._nodes.items()}

    def run(self, workflow: Workflow, out_dir: Path) -> None:
        """Run to the end; raise KeyboardInterrupt after `interrupt`."""
        self._state.folders["output"] = out_dir
        if self._has_run:  # the models of the row before form circles, and Python looks rarely
            gc.collect()
        self._has_run = True
        try:
            execute(workflow, self._nodes, self._state)
            _session().settle_store()
        except InterruptProcessingException as stop:
            raise KeyboardInterrupt from stop

    @contextmanager
    def store(self) -> Iterator[None]:
        """Open the store, if there is one, before any work starts; close it after the block."""
        _session().sharing()
        try:
            yield
        finally:
            _session().close_store()

    def hold_lease(self, row: str, number: int) -> None:
        """Run the next workflow as lease `number` of a batch's row."""
        _session().hold_lease(row, number)

    def interrupt(self) -> None:
        """Ask the running workflow to stop at its next check."""
        self._state.interrupt()

    @contextmanager
    def serve_player(self, access: Access = THIS_MACHINE) -> Iterator[str]:
        """Serve the player page from a thread of this process."""
        from ...player.server import open_page  # importing aiohttp takes half a second

        page = self._state.page = open_page(access)
        try:
            yield page.url
        finally:
            self._state.page = None
            page.close()


def execute(workflow: Workflow, nodes: NodeTable, state: HostState) -> None:
    """Run every node of a workflow that `validation.check` has passed."""
    _ask_nodes(workflow, nodes)
    state.start_prompt(workflow.to_prompt())
    with torch.inference_mode():
        asyncio.run(_Execution(workflow, nodes, state).run())


def _ask_nodes(workflow: Workflow, nodes: NodeTable) -> None:
    """Raise BadInput if a node refuses its values, before any node runs."""
    for node in workflow.nodes.values():
        ask = getattr(nodes[node.class_type], "validate_inputs", None)
        if ask is None:
            continue
        inputs = {name: node.inputs[name] for name in inspect.signature(ask).parameters
                  if name in node.inputs}  # fmt: skip
        answer = ask(**{name: None if isinstance(v, Link) else v for name, v in inputs.items()})
        if answer is not True:
            raise BadInput(f"{node.heading}: {answer}")


class _Execution:
    """One run: waiting nodes, running nodes and results."""

    def __init__(self, workflow: Workflow, nodes: NodeTable, state: HostState) -> None:
        self._prompt = workflow.to_prompt()
        self._nodes = nodes
        self._state = state
        self._waiting = dict(workflow.nodes)
        self._running: dict[asyncio.Task[NodeOutput], Node] = {}
        self._results: dict[str, tuple[Any, ...]] = {}

    async def run(self) -> None:
        """Start ready nodes and await running ones until all are done; the first failure
        stops all.
        """
        try:
            while self._waiting or self._running:
                ready = [node for node in self._waiting.values() if self._is_ready(node)]
                for node in ready:
                    self._start(node)
                if not ready:
                    await self._await_next()
        finally:
            await self._cancel_running()

    def _is_blocked(self, node: Node) -> bool:
        """Whether an input is blocked; raise where the block carries a message."""
        values = [self._value(link) for link in node.links.values()]
        blocks = [value for value in values if isinstance(value, ExecutionBlocker)]
        for message in (block.message for block in blocks if block.message is not None):
            raise _failure(node, BadInput(message))
        return bool(blocks)

    def _is_ready(self, node: Node) -> bool:
        return all(link.node_id in self._results for link in node.links.values())

    def _start(self, node: Node) -> None:
        self._state.check_interrupted()
        del self._waiting[node.id]
        if self._is_blocked(node):
            blocked = ExecutionBlocker(None)
            self._results[node.id] = (blocked,) * len(
                self._nodes[node.class_type].GET_SCHEMA().outputs
            )
            return
        node_class = self._prepare(node)
        inputs = {name: self._value(value) for name, value in node.inputs.items()}
        if inspect.iscoroutinefunction(node_class.execute):
            call = cast("Awaitable[NodeOutput]", node_class.execute(**inputs))
            self._running[asyncio.ensure_future(_blame(node, call))] = node
        else:
            try:
                self._finish(node, cast("NodeOutput", node_class.execute(**inputs)))
            except Exception as error:
                raise _failure(node, error) from error

    def _prepare(self, node: Node) -> type[ComfyNode]:
        base = self._nodes[node.class_type]
        hidden = HiddenHolder(unique_id=node.id, prompt=self._prompt, extra_pnginfo={})
        return cast("type[ComfyNode]", type(base.__name__, (base,), {"hidden": hidden}))

    def _value(self, value: object) -> object:
        return self._results[value.node_id][value.slot] if isinstance(value, Link) else value

    def _finish(self, node: Node, output: NodeOutput | None) -> None:
        output = output or NodeOutput()
        self._results[node.id] = output.args
        ui = output.ui if isinstance(output.ui, dict) or output.ui is None else output.ui.as_dict()
        for saved in from_ui(ui or {}, self._state.folders):
            self._state.emit(saved)

    async def _await_next(self) -> None:
        done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            self._finish(self._running.pop(task), task.result())

    async def _cancel_running(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


async def _blame(node: Node, call: Awaitable[NodeOutput]) -> NodeOutput:
    try:
        return await call
    except Exception as error:
        raise _failure(node, error) from error


def _failure(node: Node, error: Exception) -> LongtakeError:
    if isinstance(error, BadInput):
        return BadInput(f"{node.heading}: {error}")
    if isinstance(error, LongtakeError):
        return NodeFailure(f"{node.heading}: {error}")
    reason = str(error) or "no reason given"
    return NodeFailure(f"{node.heading} failed with {type(error).__name__}: {reason}")


def _session() -> Any:
    """Return the nodes' session; imported late, because nodes import the host's modules."""
    return importlib.import_module("....nodes.runtime.session", __package__).session


def our_extension() -> ComfyExtension:
    """Return this pack; imported late, because its nodes import the host's modules."""
    return cast(
        "ComfyExtension",
        importlib.import_module("....nodes.extension", __package__).LongtakeExtension(),
    )


def _node_table(state: HostState, extension: ComfyExtension) -> dict[str, type[ComfyNode]]:
    listed = asyncio.run(_load(extension))
    listed += [
        core_nodes.CLIPTextEncode,
        core_nodes.ImageFromBatch,
        core_nodes.LoadImage,
        core_nodes.LoadVideo,
        core_nodes.LoadAudio,
        core_nodes.save_image_node(state),
    ]
    return {node.GET_SCHEMA().node_id: node for node in listed}


async def _load(extension: ComfyExtension) -> list[type[ComfyNode]]:
    await extension.on_load()
    return list(await extension.get_node_list())


def _spec(node: type[ComfyNode]) -> NodeSpec:
    schema = node.GET_SCHEMA()
    return NodeSpec(
        class_type=schema.node_id,
        inputs=tuple(_input_spec(schema.node_id, declared) for declared in schema.inputs),
        outputs=tuple(output.get_io_type() for output in schema.outputs),
        is_output=schema.is_output_node,
    )


def _input_spec(node_id: str, declared: Input) -> InputSpec:
    widget = declared if isinstance(declared, WidgetInput) else None
    return InputSpec(
        name=declared.id,
        type=declared.get_io_type(),
        required=not declared.optional,
        default=widget.default if widget else None,
        minimum=vars(declared).get("min"),
        maximum=vars(declared).get("max"),
        options=tuple(vars(declared).get("options", ())),
        folder=FOLDERS.get((node_id, declared.id), ""),
    )
