"""Shots of small random models that live keys drive, and what a page says to them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from longtake.attention.cache.policy import WindowSink
from longtake.model.config import Camera
from longtake.nodes.steering.camera_lines import path_of_lines, read_moves
from longtake.samplers.camera.keys import KeyState
from longtake.samplers.camera.path import CameraPath
from longtake.samplers.denoiser import Denoiser, local_denoiser
from longtake.samplers.loop import Chunk
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import pipeline, rolling
from longtake.samplers.settings import RolloutSettings
from longtake.stream.drive.drive import Drive, Steer
from longtake.stream.drive.input_log import Mode
from longtake.stream.journal.chain import Chain
from longtake.stream.journal.journal import Journal
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.tiny_model import random_dit, settings, with_camera

CAMERAS: tuple[Camera, ...] = ("action", "columns", "plucker", "prope", "fun", "keys")
BASE = "0: forward\n1.5: pan left"
SCHEDULES: dict[str, dict[str, Any]] = {
    "chunks": {},
    "rolling": {"schedule": rolling(flow_ladder(3, 3.0), 2)},
    "pipeline": {"schedule": pipeline(flow_ladder(4, 3.0), 3, 2)},
}


def model(camera: Camera) -> Denoiser:
    """A random model that takes a camera; all its layers are random."""
    config = with_camera(camera)
    return local_denoiser(random_dit(config), config)


def path(text: str) -> CameraPath:
    """The path that a user's lines give."""
    return path_of_lines(read_moves(text), 16.0, 0.25)


def shot(text: str = BASE, **changes: Any) -> RolloutSettings:
    """Fifteen latent frames in a short window."""
    return settings(**{"length": 15, "cache": WindowSink(4, 1), "camera": path(text), **changes})


def spec(folder: Path, engine: Denoiser, made: RolloutSettings, **changes: Any) -> RolloutSpec:
    """A rollout whose chunks are in `folder`."""
    return RolloutSpec(made, engine, "m", Journal(folder), **changes)


def press(
    drive: Drive, number: int, keys: str, mode: Mode = "hold", shown: int | None = None
) -> None:
    """What a page sends for keys that are down; `shown` is the frame that it shows."""
    message = Steer("page", number, KeyState(frozenset(keys.split())), mode=mode, shown=shown)
    assert drive.steer(message) == "drives"


def written(base: str, drive: Drive) -> str:
    """The timeline with the drive kept in it: what the page writes."""
    start = drive.state.start_s if drive.state else None
    assert start is not None
    kept = [line for line in base.splitlines() if float(line.split(":")[0]) < start]
    return "\n".join([*kept, *drive.lines])


def bits(chunks: Iterable[Chunk]) -> torch.Tensor:
    """All latents of a shot."""
    return torch.cat([chunk.latents for chunk in chunks])


def keys(chain: Chain, count: int) -> list[str]:
    """The addresses of the first chunks."""
    return [chain.key(index) for index in range(count)]
