"""VACE files for a tiny model, and shots of the test bench that follow a control video."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.model.config import DiTConfig
from longtake.model.vace.module import VaceModule
from longtake.tests.support.node_bench import CONFIG, Bench, node_bench, tiny_demo
from longtake.tests.support.tiny_model import randomise

FILE = "vace_module.safetensors"


def module_state(config: DiTConfig = CONFIG, blocks: int = 1) -> dict[str, Tensor]:
    """Random weights of a module under the official names."""
    module = VaceModule(replace(config, control_blocks=blocks))
    randomise(module, 11)
    return dict(module.state_dict())


def write_module(folder: Path, state: dict[str, Tensor] | None = None, name: str = FILE) -> Path:
    """A module's file in `models/diffusion_models` below `folder`."""
    models = folder / "models" / "diffusion_models"
    models.mkdir(parents=True, exist_ok=True)
    save_file(state or module_state(), models / name)
    return models / name


@contextmanager
def vace_bench(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The stand-in with a tiny demo and a VACE module for it, below `folder`."""
    demo = folder / "demo"
    demo.mkdir()
    write_module(folder)
    patch.chdir(folder)
    with node_bench(folder / "out", tiny_demo(demo), patch) as bench:
        yield bench


def vace_model(bench: Bench) -> tuple[Any, Any, Any]:
    """The demo's model with the module of FILE, its CLIP and its VAE."""
    model, clip, vae = bench.run("LongtakeLoadDemoModel")
    return bench.run("LongtakeLoadVace", model=model, vace_name=FILE)[0], clip, vae


def pictures(count: int, side: int = 32, seed: int = 3) -> Tensor:
    """Random pictures (n, H, W, 3) as an IMAGE."""
    return torch.rand(count, side, side, 3, generator=torch.Generator().manual_seed(seed))


def controlled_shot(bench: Bench, length: float = 33.0, **control: Any) -> Any:
    """A rollout of 32x32 pixels that follows a control video, three latent frames a chunk."""
    model, clip, vae = vace_model(bench)
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="0: a red ball")
    [schedule] = bench.run("LongtakeSchedule", steps=1, first_steps=0)
    wires = {}
    if control:
        wires["control"] = bench.run("LongtakeControlVideo", vae=vae, **control)[0]
    return bench.run(
        "LongtakeSampler", model=model, prompts=prompts, schedule=schedule, width=32, height=32,
        length=length, length_unit="frames", **wires,
    )[0]  # fmt: skip
