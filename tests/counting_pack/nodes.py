"""The nodes of the counting pack."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
from comfy_api.latest import ComfyExtension, io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from server import PromptServer

Counter = io.Custom("COUNTER")
FILE_EVENT = "longtake.file"


class CountUp(io.ComfyNode):
    """A number source with every kind of widget."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CountUp",
            inputs=[
                io.Int.Input("steps", default=3, min=1, max=10000),
                io.Float.Input("pause_s", default=0.0, min=0.0, max=1.0),
                io.String.Input("name", default="count", multiline=True),
                io.Boolean.Input("loud", default=False),
                io.Combo.Input("kind", options=["up", "down"], default="up"),
                Counter.Input("again", optional=True),
            ],
            outputs=[Counter.Output(), io.Image.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, steps, pause_s, name, loud, kind, again=None):
        if name == "broken":
            raise ValueError("a bug")
        if name == "nothing":
            return io.NodeOutput(ExecutionBlocker(None), None)
        logging.getLogger("longtake").info("counting %s", name)
        return io.NodeOutput((cls.hidden.unique_id, steps, pause_s), None)


class CountSave(io.ComfyNode):
    """Counts to the end, one line of a file per step, and announces the file."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CountSave",
            inputs=[Counter.Input("counter"), io.String.Input("filename_prefix", default="count")],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None):
        return "odd is no name." if filename_prefix == "odd" else True

    @classmethod
    async def execute(cls, counter, filename_prefix):
        source, steps, pause_s = counter
        root = folder_paths.get_output_directory()
        folder, name, number, subfolder, _ = folder_paths.get_save_image_path(filename_prefix, root)
        path = Path(folder) / f"{name}_{number:05}_.txt"
        bar = comfy.utils.ProgressBar(steps, node_id=source)
        with path.open("w") as file:
            _announce("video", path.name, subfolder)
            for step in range(1, steps + 1):
                comfy.model_management.throw_exception_if_processing_interrupted()
                file.write(f"{step}\n")
                file.flush()
                bar.update_absolute(step, steps)
                _announce_chunk(step, steps)
                await asyncio.sleep(pause_s)
        report = path.with_suffix(".json")
        report.write_text(json.dumps({"frames": steps}))
        _announce("report", report.name, subfolder)
        return io.NodeOutput(
            ui={"images": [ui.SavedResult(path.name, subfolder, io.FolderType.output)]}
        )


class CountWatch(io.ComfyNode):
    """Looks at the file of a CountSave beside it, to show that both advance together."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CountWatch",
            inputs=[Counter.Input("counter")],
            is_output_node=True,
        )

    @classmethod
    async def execute(cls, counter):
        root = Path(folder_paths.get_output_directory())
        seen = []
        for _ in range(counter[1]):
            await asyncio.sleep(counter[2])
            seen.append(max((len(p.read_text().split()) for p in root.glob("*.txt")), default=0))
        (root / "watch.json").write_text(json.dumps(seen))
        return io.NodeOutput(ui={"text": ["watched"]})


def _send(event, data):
    server = PromptServer.instance
    server.send_sync(event, data, server.client_id)


def _announce(role, filename, subfolder):
    _send(
        FILE_EVENT, {"role": role, "filename": filename, "subfolder": subfolder, "type": "output"}
    )


def _announce_chunk(step, steps):
    _send("longtake.chunk", {"chunk": step - 1, "chunks": steps, "frames": step})


class CountingExtension(ComfyExtension):
    """The pack."""

    async def get_node_list(self):
        return [CountUp, CountSave, CountWatch]
