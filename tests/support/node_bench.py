"""Runs single nodes under the stand-in host, on a tiny random model (fixture: conftest.py)."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.errors import BadInput
from longtake.headless.events import BarMoved, Event
from longtake.headless.hosts.stand_in.modules import HostState
from longtake.model.config import DiTConfig
from longtake.model.preset import RANGES_NAME
from longtake.model.text import TextEncoder
from longtake.model.vae.int8.ranges import save_ranges
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.tests.support.lasting_host import lasting_host
from longtake.tests.support.tiny_model import randn, random_dit, randomise
from longtake.training.vae.ranges import measure_ranges

CONFIG = DiTConfig(dim=24, ffn_dim=32, num_heads=2, num_layers=1, text_dim=8)
WORDS = ("a", "ball", "blue", "red")


def tiny_demo(folder: Path, config: DiTConfig = CONFIG) -> Path:
    """The demo's files, tiny and random; its student is its teacher."""
    header = {"transformer": {"causal_ar": True, "num_heads": 2, "text_dim": 8}}
    vae = TinyVAE(TinyVAEConfig((4, 4, 4), (4, 4, 4)))
    encoder = TextEncoder(WORDS, 8, 6)
    randomise(vae, 1)
    randomise(encoder, 2)
    words = {"vocabulary": json.dumps(WORDS), "text_len": "6"}
    for name, module, meta in (
        ("dit", random_dit(config), {"config": json.dumps(header)}),
        ("vae", vae, {"format": "pt"}),
        ("text", encoder, words),
    ):
        save_file(dict(module.state_dict()), folder / f"{name}.safetensors", metadata=meta)
    save_ranges(measure_ranges(vae, randn(1, 2, 16, 2, 3)), vae, folder / RANGES_NAME)
    (folder / "fast").mkdir(exist_ok=True)
    shutil.copy(folder / "dit.safetensors", folder / "fast")
    return folder


class Bench:
    """The host of one test: its nodes, and everything it was told."""

    def __init__(self, state: HostState, events: list[Event]) -> None:
        self.state = state
        self.events = events
        self.prompt: dict[str, Any] | None = None  # the hidden inputs of every node
        self.canvas: dict[str, Any] | None = None

    def run(self, node: str, **inputs: Any) -> Any:
        """Execute one node by its id and give its outputs."""
        return asyncio.run(self.side_by_side((node, inputs)))[0]

    def refusal(self, node: str, **inputs: Any) -> str:
        """The sentence by which a node refuses its inputs."""
        with pytest.raises(BadInput) as refused:
            self.run(node, **inputs)
        return str(refused.value)

    async def side_by_side(self, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
        """Execute nodes together, the way the host does with asynchronous ones."""
        return await asyncio.gather(*(self._call(*call) for call in calls))

    def shown(self, node: str, **inputs: Any) -> Any:
        """Execute one output node by its id and give what the host puts into its history."""
        return asyncio.run(self._execute(node, inputs)).ui

    async def _call(self, node: str, inputs: dict[str, Any]) -> Any:
        return (await self._execute(node, inputs)).args

    async def _execute(self, node: str, inputs: dict[str, Any]) -> Any:
        from longtake.headless.hosts.stand_in.io_types import HiddenHolder

        base = self._classes[node]
        hidden = HiddenHolder(unique_id=node, prompt=self.prompt, extra_pnginfo=self.canvas)
        prepared = type(base.__name__, (base,), {"hidden": hidden})
        defaults = {i.id: i.default for i in base.define_schema().inputs if hasattr(i, "default")}
        made = prepared.execute(**{**defaults, **inputs})
        return await made if asyncio.iscoroutine(made) else made

    @cached_property
    def _classes(self) -> dict[str, Any]:
        from longtake.nodes.extension import NODES

        return {node.define_schema().node_id: node for node in NODES}

    def collect(self, stream: Any, kind: str = "images") -> Any:
        """The whole stream as `images`, `video` or `latent`."""
        outputs = self.run("LongtakeCollect", stream=stream, collect=kind)
        return outputs[("images", "video", "latent").index(kind)]

    def bar(self, node: str) -> list[int]:
        """How the progress bar of a node moved."""
        return [e.done for e in self.events if isinstance(e, BarMoved) and e.node_id == node]

    def rollout(
        self, *, text: str = "0: a red ball\n1: a blue ball", **inputs: Any
    ) -> tuple[Any, Any]:
        """A rollout of 33 frames in three chunks, and the VAE."""
        model, clip, vae = self.run("LongtakeLoadDemoModel", quality="full")
        [prompts] = self.run("LongtakePromptTimeline", clip=clip, text=text)
        [schedule] = self.run("LongtakeSchedule", steps=1, first_steps=0)
        shot = {"width": 32, "height": 32, "length": 33.0, "length_unit": "frames", **inputs}
        [rollout] = self.run(
            "LongtakeSampler", model=model, prompts=prompts, schedule=schedule, **shot
        )
        return rollout, vae

    def frames(self, **inputs: Any) -> Any:
        """The frames of `rollout`."""
        rollout, vae = self.rollout(**inputs)
        return self.run("LongtakeVAEDecode", rollout=rollout, vae=vae)[0]


@contextmanager
def node_bench(out_dir: Path, demo: Path, patch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The stand-in host with our nodes, which load the files in `demo`."""
    events: list[Event] = []
    with lasting_host(out_dir, events.append) as state, torch.inference_mode():
        from longtake.nodes import host
        from longtake.nodes.models import load_demo

        patch.setattr(host, "can_be_watched", lambda: True)  # tests are the page
        patch.setattr(load_demo, "DEMO_FOLDER", demo)
        yield Bench(state, events)
