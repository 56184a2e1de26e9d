"""Runs that are killed: a whole small run in a process of its own, which dies at a chosen point.

A point is a place where power could go: before an evaluation of the model, and before, within and
after every write of a file, every rename and every removal. Points are counted, so the same number
is the same place every time.
"""

from __future__ import annotations

import builtins
import hashlib
import io
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...attention.cache.policy import WindowSink
from ...model.config import DiTConfig
from ...model.dit import WanDiT
from ...model.vae.streaming import StreamingDecoder
from ...model.vae.tiny import TinyVAE, TinyVAEConfig
from ...samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from ...samplers.denoiser import Denoiser, LocalHost
from ...samplers.guidance import cfg
from ...samplers.schedule.levels import flow_ladder
from ...samplers.schedule.rows import causal_chunks, pyramid, rolling
from ...samplers.settings import RolloutSettings
from ...samplers.solvers.multistep import DPMSolverPP2M, UniPC2
from ...stream.journal.journal import Journal
from ...stream.rollout.frame_stream import FrameStream
from ...stream.rollout.rollout import Rollout
from ...stream.rollout.spec import RolloutSpec
from ...stream.video.writer import LosslessMKV, VideoSpec, open_video

SIZES = DiTConfig(dim=24, ffn_dim=32, num_heads=2, num_layers=2, text_dim=8)
LADDER = flow_ladder(3, 3.0)
LENGTH = 12  # latent frames
ROWS, COLUMNS, PIXELS = 4, 6, 8
PIECES = 4  # a write is torn at so many places

KINDS: dict[str, dict[str, Any]] = {
    "causal": {"schedule": causal_chunks(LADDER, 3), "solver": UniPC2()},
    "pyramid": {"schedule": pyramid(LADDER), "solver": UniPC2()},
    "rolling": {"schedule": rolling(LADDER, 2), "solver": DPMSolverPP2M()},
}
WAYS = {"replay": 0, "snapshot": 1}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a process ended: killed or whole; what it had delivered, and where it had begun."""

    killed: bool
    delivered: int
    resumed_from: int
    points: int
    latents: str = ""
    frames: str = ""


class Points:
    """Counts the places where power could go, and lets it go at `fatal`."""

    def __init__(self, fatal: int | None) -> None:
        self.fatal, self.count = fatal, 0
        self.on = True

    def __call__(self) -> None:
        """One more; the process may not come back."""
        if not self.on:
            return
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


class _TornFile(io.BufferedWriter):
    """A file whose every write happens in pieces, with a point before each and after the last."""

    def __init__(self, raw: io.RawIOBase, point: Points) -> None:
        super().__init__(raw)
        self._point = point

    def write(self, content: Any) -> int:
        whole = memoryview(content).cast("B")
        size = max(1, -(-len(whole) // PIECES))
        for start in range(0, len(whole), size):
            self._point()
            super().write(whole[start : start + size])
            super().flush()
        self._point()
        return len(whole)


@contextmanager
def _counted_files(point: Points, folder: Path) -> Iterator[None]:
    """Writes below `folder`, renames and removals have points within this context."""
    plain_open, plain = builtins.open, {n: getattr(os, n) for n in ("replace", "unlink", "fsync")}

    def opened(file: Any, mode: str = "r", *given: Any, **named: Any) -> Any:
        inside = isinstance(file, str | Path) and str(file).startswith(str(folder))
        if not inside or not set(mode) & set("wxa"):
            return plain_open(file, mode, *given, **named)
        point()
        torn = _TornFile(io.FileIO(file, mode.replace("b", "").replace("t", "")), point)
        return torn if "b" in mode else io.TextIOWrapper(torn, named.get("encoding", "utf-8"))

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def around(*given: Any, **named: Any) -> Any:
            point()
            result = call(*given, **named)
            point()
            return result

        return around

    try:
        builtins.open = opened
        io.open = opened
        for name, call in plain.items():
            setattr(os, name, counted(call))
        yield
    finally:
        builtins.open = io.open = plain_open
        for name, call in plain.items():
            setattr(os, name, call)


def settings(kind: str) -> RolloutSettings:
    """A small rollout of two prompts under one of the schedules."""
    generator = torch.Generator().manual_seed(3)
    embeddings = torch.randn(3, 5, SIZES.text_dim, generator=generator)
    entries = (TimedPrompt(0, embeddings[0], "a"), TimedPrompt(6, embeddings[1], "b"))
    return RolloutSettings(
        PromptTimeline(entries, embeddings[2]), ROWS, COLUMNS, length=LENGTH, seed=5,
        guidance=cfg(2.0), cache=WindowSink(7, 1), **KINDS[kind],
    )  # fmt: skip


def small_model(point: Points) -> Denoiser:
    """A random model; every evaluation is a point."""
    torch.manual_seed(0)
    dit = WanDiT(SIZES).eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in dit.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return Denoiser(_PointHost(dit, point), SIZES)


class _PointHost(LocalHost):
    """A host that counts a point before every evaluation."""

    def __init__(self, tree: WanDiT, point: Points) -> None:
        super().__init__(tree)
        self._point = point

    def check_interrupted(self) -> None:
        self._point()


def run_once(folder: Path, kind: str, way: str, fatal: int | None) -> Outcome:
    """The whole run in a forked process that dies at point `fatal`; None lets it live."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 1
        try:
            _run(folder, kind, way, Points(fatal), writing)
            status = 0
        finally:
            os._exit(status)  # nothing of the parent's is to be cleaned up here
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        said = [json.loads(line) for line in pipe if line.endswith("\n")]
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    if not killed and status:
        raise RuntimeError(f"a run of {kind} by {way} failed; see its traceback above")
    told = {name: value for one in said for name, value in one.items()}
    delivered = sum("chunk" in one for one in said)
    return Outcome(
        killed, delivered, told.get("resumed_from") or 0, told.get("points", 0),
        told.get("latents", ""), told.get("frames", ""),
    )  # fmt: skip


def _run(folder: Path, kind: str, way: str, point: Points, pipe: int) -> None:
    """Make, keep, decode and save the shot, telling the pipe how far it is."""

    def tell(**facts: object) -> None:
        os.write(pipe, (json.dumps(facts) + "\n").encode())

    torch.manual_seed(1)
    vae = TinyVAE(TinyVAEConfig((4, 4, 4), (4, 4, 4))).eval().requires_grad_(False)
    rollout = Rollout(RolloutSpec(
        settings(kind), small_model(point), "model", Journal(folder / "journal"),
        snapshot_chunks=WAYS[way],
    ))  # fmt: skip
    frames = FrameStream(rollout, lambda: StreamingDecoder(vae), 16.0)
    latents, pictures = hashlib.sha256(), hashlib.sha256()
    spec = VideoSpec(frames.width, frames.height, 16.0, LosslessMKV())
    with _counted_files(point, folder), open_video(folder / "shot.mkv", spec) as video:
        for chunk in frames.chunks:
            if chunk.index == 0 or rollout.resumed_from:
                tell(resumed_from=rollout.resumed_from)
            assert chunk.latents is not None
            latents.update(chunk.latents.latents.numpy().tobytes())
            pictures.update(chunk.frames.numpy().tobytes())
            video.write(chunk.frames)
            tell(chunk=chunk.index)
    point.on = False
    tell(points=point.count, latents=latents.hexdigest(), frames=pictures.hexdigest())
