"""Shots that are made chunk by chunk, to be timed in turns."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ...samplers.guidance import Branch, Guidance
from ...samplers.guidance.views import ALL, View
from .._shared.demo_engine import open_shot, settings_of
from .._shared.demo_shot import CHUNK, DemoShot, Networks, demo_networks
from .._shared.paired import Prepare

WIDTH, HEIGHT = 48, 32
WARM_CHUNKS = 8  # after these the window is full
SHARE = 0.05  # how much each further branch guides away from its view

Line = Iterator[object]
"""A shot in the making: `next` makes a chunk."""


class Studio:
    """Opens shots, whose journals lie in a temporary folder."""

    def __init__(self, networks: Networks, folder: Path) -> None:
        self.networks, self.folder, self.count = networks, folder, 0

    def open(self, latents: int, branches: int = 1, *, decodes: bool = True) -> Line:
        """Open a shot, with its pictures if it `decodes`."""
        self.count += 1
        shot = DemoShot(WIDTH, HEIGHT, latents, seed=self.count)
        settings = settings_of(shot, guidance=guidance_of(branches))
        folder = self.folder / str(self.count)
        frames = open_shot(self.networks, settings, folder, in_turn=True)
        return iter(frames.chunks if decodes else frames.rollout.chunks)

    def open_warm(self, chunks: int, branches: int = 1, *, decodes: bool = True) -> Line:
        """Open a shot whose window is full, with `chunks` more to make."""
        line = self.open(CHUNK * (WARM_CHUNKS + chunks), branches, decodes=decodes)
        advance(line, WARM_CHUNKS)
        return line


@contextmanager
def open_studio() -> Iterator[Studio]:
    """Open a studio that computes on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        stack.enter_context(torch.inference_mode())
        folder = stack.enter_context(TemporaryDirectory())
        yield Studio(demo_networks(), Path(folder))


def guidance_of(branches: int) -> Guidance:
    """Guide away from views of the past at rising noise, each with its own cache and commits."""
    others = [Branch(-SHARE, view=View(level=SHARE * (i + 1))) for i in range(branches - 1)]
    return Guidance((Branch(1 + SHARE * len(others), view=ALL), *others))


def advance(line: Line, chunks: int) -> None:
    """Make the next so many chunks."""
    for _ in range(chunks):
        next(line)


def chunk_seconds(lines: Sequence[Line]) -> float:
    """Return the processor seconds of one more chunk of every shot."""
    began = time.process_time()
    for line in lines:
        next(line)
    return time.process_time() - began


def memory_case(name: str, count: int) -> Prepare:
    """Prepare `count` shots at once, or a shot of `count` branches, until the window is full."""

    def run() -> None:
        shots, branches = (count, 1) if name == "shots" else (1, count)
        with open_studio() as studio:
            lines = [studio.open_warm(2, branches) for _ in range(shots)]
            chunk_seconds(lines)

    return lambda: run
