"""Where the time of our own runs goes, chunk by chunk.

model       the transformer, without attention
attention   attention itself: to the past, within the chunk and to the prompt
cache       reading, rotating, committing and evicting keys and values
VAE         decoding
encode      the run waits for the encoder of the MP4
host        everything else that the run computes: loop, noise, journal, streams
idle        the run neither computes nor waits for the encoder: disk, and other programs

The run is headless and in turn: each chunk is denoised, decoded and written before the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ParamSpec, TypeVar
from unittest import mock

import torch

from ...attention import layout
from ...attention.cache.kv_cache import KVCache
from ...attention.layout import HistoryAttention
from ...model import dit
from ...model.preset import DEMO
from ...model.vae.streaming import StreamingDecoder
from ...stream.video.spec import VideoSpec
from ...stream.video.writer import open_video
from .._shared.demo_engine import open_shot, settings_of
from .._shared.demo_shot import DemoShot, Networks

P = ParamSpec("P")
R = TypeVar("R")

MODEL, ATTENTION, CACHE, VAE, ENCODE = "model", "attention", "cache", "VAE", "encode"
HOST, IDLE = "host", "idle"
PARTS = (MODEL, ATTENTION, CACHE, VAE, ENCODE, HOST, IDLE)
OVERHEAD = (HOST, IDLE)
"""What lies outside the model's passes, the VAE and the encoder."""


class Shares:
    """Seconds by part. While an inner part is at work, the outer one stands still."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._parts = [HOST]
        self._since, self._worked = time.perf_counter(), time.thread_time()

    def time_calls(self, part: str, function: Callable[P, R]) -> Callable[P, R]:
        """Return `function`, whose time counts for `part`."""

        def run(*arguments: P.args, **options: P.kwargs) -> R:
            self._charge()
            self._parts.append(part)
            try:
                return function(*arguments, **options)
            finally:
                self._charge()
                self._parts.pop()

        return run

    def read(self) -> dict[str, float]:
        """Return the seconds of every part and start again from zero."""
        self._charge()
        seconds, self.seconds = self.seconds, dict.fromkeys(PARTS, 0.0)
        return seconds

    def _charge(self) -> None:
        now, worked = time.perf_counter(), time.thread_time()
        wall_s, part = now - self._since, self._parts[-1]
        busy_s = min(wall_s, worked - self._worked) if part == HOST else wall_s
        self.seconds[part] += busy_s
        self.seconds[IDLE] += wall_s - busy_s
        self._since, self._worked = now, worked


@torch.inference_mode()
def chunk_shares(networks: Networks, shot: DemoShot) -> dict[str, list[float]]:
    """Return the seconds of every part, for every chunk but the first."""
    shares, rows = Shares(), list[dict[str, float]]()

    def open_decoder() -> StreamingDecoder:
        decoder = StreamingDecoder(networks.vae)
        decoder.feed = shares.time_calls(VAE, decoder.feed)  # type: ignore[method-assign]
        return decoder

    with TemporaryDirectory() as name, timed_modules(shares):
        folder = Path(name)
        frames = open_shot(
            networks, settings_of(shot), folder / "journal", open_decoder, in_turn=True
        )
        spec = VideoSpec(shot.width, shot.height, DEMO.fps)
        with open_video(folder / "bench.mp4", spec) as video:
            write = shares.time_calls(ENCODE, video.write)
            for chunk in frames.chunks:
                write(chunk.frames)
                rows.append(shares.read())
    return {part: [row[part] for row in rows[1:]] for part in PARTS}


@contextmanager
def timed_modules(shares: Shares) -> Iterator[None]:
    """Time the transformer, attention and the cache within the block."""
    timed = (
        (dit, "predict", MODEL), (dit, "project_text", MODEL),
        (layout, "attend_inputs", ATTENTION), (dit, "attend", ATTENTION),
        (HistoryAttention, "__call__", CACHE),
        (KVCache, "attention", CACHE), (KVCache, "commit", CACHE),
    )  # fmt: skip
    with ExitStack() as stack:
        for owner, name, part in timed:
            call = shares.time_calls(part, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, call))
        yield
