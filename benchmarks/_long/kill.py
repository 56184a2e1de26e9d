"""Runs that get killed: a small run in its own process, which dies at a chosen point.

A point is a place where power could fail: before an evaluation of the model, and before, within and
after every write of a file, every rename and every removal. Points are counted, so a number is the
same place every time.
"""

from __future__ import annotations

import builtins
import hashlib
import io
import json
import os
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...attention.cache.policy import WindowSink
from ...errors import LongtakeError
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
from ...stream.video.codecs import FFV1, Encoding
from ...stream.video.spec import VideoSpec
from ...stream.video.writer import open_video

SIZES = DiTConfig(dim=24, ffn_dim=32, num_heads=2, num_layers=2, text_dim=8)
LADDER = flow_ladder(3, 3.0)
LENGTH = 12  # latent frames
ROWS, COLUMNS, PIXELS = 4, 6, 8
PIECES = 4  # pieces of a write

KINDS: dict[str, dict[str, Any]] = {
    "causal": {"schedule": causal_chunks(LADDER, 3), "solver": UniPC2()},
    "pyramid": {"schedule": pyramid(LADDER), "solver": UniPC2()},
    "rolling": {"schedule": rolling(LADDER, 2), "solver": DPMSolverPP2M()},
}
WAYS = {"replay": 0, "snapshot": 1}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a process ended, the chunks it delivered, and the chunk it resumed from.

    `refusal` is the sentence with which it ended. `counts` are its points by operation.
    """

    killed: bool
    delivered: int
    resumed_from: int
    points: int
    latents: str = ""
    frames: str = ""
    refusal: str = ""
    errors: str = ""  # what it printed as errors
    counts: Mapping[str, int] = field(default_factory=dict)


class CrashPoints:
    """Count the places where power could fail, and kill the process at number `fatal`.

    With an `operation` only its places count: write, replace, fsync or unlink.
    """

    def __init__(self, fatal: int | None, operation: str | None = None) -> None:
        self.fatal, self.operation = fatal, operation
        self.counts = Counter[str]()
        self.on = True

    def __call__(self, operation: str = "evaluation", *, after: bool = False) -> None:
        """Count a point before or `after` an operation; the process may die here."""
        if not self.on:
            return
        self.counts[operation] += 1
        counted = self.counts[self.operation] if self.operation else self.counts.total()
        if counted == self.fatal and self.operation in (None, operation):
            self.strike(after=after)

    def strike(self, *, after: bool) -> None:
        """Let the power fail."""
        os.kill(os.getpid(), signal.SIGKILL)


class _PiecewiseFile(io.BufferedRandom):
    """A file that writes in pieces, with a point before each piece and after the last."""

    def __init__(self, raw: io.RawIOBase, point: CrashPoints) -> None:
        super().__init__(raw)
        self._point = point

    def write(self, content: Any) -> int:
        whole = memoryview(content).cast("B")
        size = max(1, -(-len(whole) // PIECES))
        for start in range(0, len(whole), size):
            self._point("write")
            super().write(whole[start : start + size])
            super().flush()
        self._point("write", after=True)
        return len(whole)


@contextmanager
def _counted_files(point: CrashPoints, folder: Path) -> Iterator[None]:
    """Put points on writes below `folder`, renames and removals within this context."""
    plain_open, plain = builtins.open, {n: getattr(os, n) for n in ("replace", "unlink", "fsync")}

    def open_counted(file: Any, mode: str = "r", *positional: Any, **named: Any) -> Any:
        inside = isinstance(file, str | Path) and str(file).startswith(str(folder))
        if not inside or not set(mode) & set("wxa"):
            return plain_open(file, mode, *positional, **named)
        point("write")
        raw = io.FileIO(file, f"{set(mode).intersection('wxa').pop()}+", opener=named.get("opener"))
        pieces = _PiecewiseFile(raw, point)
        return pieces if "b" in mode else io.TextIOWrapper(pieces, named.get("encoding", "utf-8"))

    def with_points(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def around(*positional: Any, **named: Any) -> Any:
            point(name)
            result = call(*positional, **named)
            point(name, after=True)
            return result

        return around

    try:
        builtins.open = open_counted
        io.open = open_counted
        for name, call in plain.items():
            setattr(os, name, with_points(name, call))
        yield
    finally:
        builtins.open = io.open = plain_open
        for name, call in plain.items():
            setattr(os, name, call)


def settings(kind: str) -> RolloutSettings:
    """Return a small rollout of two prompts with one of the schedules."""
    generator = torch.Generator().manual_seed(3)
    embeddings = torch.randn(3, 5, SIZES.text_dim, generator=generator)
    entries = (TimedPrompt(0, embeddings[0], "a"), TimedPrompt(6, embeddings[1], "b"))
    return RolloutSettings(
        PromptTimeline(entries, embeddings[2]), ROWS, COLUMNS, length=LENGTH, seed=5,
        guidance=cfg(2.0), cache=WindowSink(7, 1), **KINDS[kind],
    )  # fmt: skip


def small_model(point: CrashPoints) -> Denoiser:
    """Return a random model; every evaluation is a point."""
    torch.manual_seed(0)
    dit = WanDiT(SIZES).eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in dit.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return Denoiser(_PointHost(dit, point), SIZES)


class _PointHost(LocalHost):
    """A host that counts a point before every evaluation."""

    def __init__(self, tree: WanDiT, point: CrashPoints) -> None:
        super().__init__(tree)
        self._point = point

    def check_interrupted(self) -> None:
        self._point()


def run_once(folder: Path, kind: str, way: str, fatal: int | None) -> Outcome:
    """Run in a forked process that dies at point `fatal`; None lets it finish."""
    outcome = run_with(CrashPoints(fatal), folder, kind, way)
    if outcome.refusal:
        raise RuntimeError(f"a run of {kind} by {way} was refused: {outcome.refusal}")
    return outcome


def run_with(point: CrashPoints, folder: Path, kind: str, way: str) -> Outcome:
    """Run in a forked process in which `point` strikes."""
    reading, writing = os.pipe()
    errors = tempfile.TemporaryFile()  # noqa: SIM115
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(errors.fileno(), 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)  # a test may have replaced it
        status = 1
        try:
            _run(folder, kind, way, point, writing)
            status = 0
        except LongtakeError as error:
            os.write(writing, (json.dumps({"refusal": str(error)}) + "\n").encode())
            status = 0
        except Exception:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)  # must not run the parent's clean-up
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        messages = [json.loads(line) for line in pipe if line.endswith("\n")]
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    with errors:
        errors.seek(0)
        printed = errors.read().decode("utf-8", "replace")
    if not killed and status:
        raise RuntimeError(f"a run of {kind} by {way} failed: {printed[-2000:]}")
    facts = {name: value for message in messages for name, value in message.items()}
    delivered = sum("chunk" in message for message in messages)
    return Outcome(
        killed, delivered, facts.get("resumed_from") or 0, facts.get("points", 0),
        facts.get("latents", ""), facts.get("frames", ""), facts.get("refusal", ""),
        printed, facts.get("counts", {}),
    )  # fmt: skip


def _run(folder: Path, kind: str, way: str, point: CrashPoints, pipe: int) -> None:
    """Make, journal, decode and save the shot, reporting progress through the pipe."""

    def send(**facts: object) -> None:
        os.write(pipe, (json.dumps(facts) + "\n").encode())

    torch.manual_seed(1)
    vae = TinyVAE(TinyVAEConfig((4, 4, 4), (4, 4, 4))).eval().requires_grad_(False)
    rollout = Rollout(RolloutSpec(
        settings(kind), small_model(point), "model", Journal(folder / "journal"),
        snapshot_chunks=WAYS[way],
    ))  # fmt: skip
    frames = FrameStream(rollout, lambda: StreamingDecoder(vae), 16.0)
    latents, pictures = hashlib.sha256(), hashlib.sha256()
    spec = VideoSpec(frames.width, frames.height, 16.0, Encoding(FFV1))
    with _counted_files(point, folder), open_video(folder / "shot.mkv", spec) as video:
        for chunk in frames.chunks:
            if chunk.index == 0 or rollout.resumed_from:
                send(resumed_from=rollout.resumed_from)
            assert chunk.latents is not None
            latents.update(chunk.latents.latents.numpy().tobytes())
            pictures.update(chunk.frames.numpy().tobytes())
            video.write(chunk.frames)
            send(chunk=chunk.index)
    point.on = False
    send(points=point.counts.total(), counts=point.counts)
    send(latents=latents.hexdigest(), frames=pictures.hexdigest())
