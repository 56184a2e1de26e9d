"""What a viewer of a shot would see: the five figures of latency, and the pace of its chunks."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...model.preset import DEMO
from ...stream.latency import LatencyFigures, LatencyMeter
from .._shared.demo_shot import DemoShot, Part, Play

FIRST, BLOCK, FACTOR = "time to first chunk, s", "block latency, s", "real-time factor"
RATE, SWITCH = "continuous-play rate", "switch cost, s"
SPEED, P95, JITTER = "frames a second", "p95 between chunks, s", "jitter between chunks, s"
WHOLE, PROCESSOR = "whole shot, s", "whole shot, processor s"
"""The figures of a run. Jitter is the standard deviation."""


@dataclass(frozen=True, slots=True)
class Showing:
    """One run of a shot: its latents (f, c, h, w), when each part was there, and the figures.

    `arrivals_s` counts from the start. `processor_s` is what the process computed, in all threads.
    """

    latents: Tensor
    frames: int
    arrivals_s: tuple[float, ...]
    latency: LatencyFigures
    processor_s: float

    @property
    def figures(self) -> dict[str, float]:
        """All figures that the run has: one that comes as a whole has no pace."""
        whole = self.arrivals_s[-1]
        figures = {WHOLE: whole, PROCESSOR: self.processor_s, SPEED: self.frames / whole}
        figures[FIRST] = self.arrivals_s[0]
        if len(self.arrivals_s) == 1:
            return {**figures, BLOCK: whole, FACTOR: whole * DEMO.fps / self.frames}
        gaps = np.diff(self.arrivals_s)
        known = {
            BLOCK: self.latency.block_latency_s, FACTOR: self.latency.real_time_factor,
            RATE: self.latency.continuous_play_rate, SWITCH: self.latency.switch_cost_s,
        }  # fmt: skip
        figures |= {P95: float(np.percentile(gaps, 95)), JITTER: float(gaps.std())}
        return figures | {name: value for name, value in known.items() if value is not None}


@torch.inference_mode()
def watch(play: Play, shot: DemoShot) -> Showing:
    """Make a shot and watch it."""
    assert len(shot.noise) and shot.prompts  # drawn and encoded before the clock starts
    parts, arrivals = list[Part](), list[float]()
    began, worked = time.perf_counter(), time.process_time()
    meter = LatencyMeter(time.perf_counter, DEMO.fps)
    for part in play(shot, meter):
        arrivals.append(time.perf_counter() - began)
        meter.show(part.index, len(part.frames), part.prompt)
        parts.append(part)
    worked = time.process_time() - worked
    latents = torch.cat([part.latents for part in parts])
    frames = sum(len(part.frames) for part in parts)
    return Showing(latents, frames, tuple(arrivals), meter.figures, worked)
