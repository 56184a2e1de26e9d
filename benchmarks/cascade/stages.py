"""Second stages as values: each enlarges a stream of frames four times.

To measure another one, add a row to STAGES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ...model.flashvsr.canvas import Canvas
from ...model.flashvsr.upscaler import Upscaler, UpscaleSettings
from ...model.preset import DEMO
from ...model.refiner.file import load_refiner
from ...model.refiner.frames import refine
from ...model.refiner.network import FACTOR, Refiner, enlarge
from ...model.vae.latent_format import LATENT_CHANNELS, SPATIAL_FACTOR
from ...model.vae.memory_order import order_weights
from ...samplers.noise import frame_noise
from ..gpu.sharp import official_sizes, random_networks

WIDTH, HEIGHT = FACTOR * DEMO.width, FACTOR * DEMO.height
PLAIN, OURS = "bicubic", "refiner"
REFINER = Path(__file__).resolve().parents[2] / "training" / "refiner" / "refiner.safetensors"
LEAST_GAIN_DB, LEAST_FPS = 1.5, 16.0  # what the demo's own stage must reach
FLASHVSR_LAYERS = 30


class Enlarger(Protocol):
    """One video's way through a stage; frames are (n, 3, h, w) in [0, 1]."""

    def feed(self, frames: Tensor) -> Iterable[Tensor]:
        """Take the next frames, and return those that are ready, larger."""

    def drain(self) -> Iterable[Tensor]:
        """End the video, and return the frames that are left."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A second stage, which `open` begins for a new video.

    `least_gain_db` over bicubic on true frames and `least_fps` are what it must reach, if anything.
    """

    name: str
    note: str
    open: Callable[[], Enlarger]
    least_gain_db: float | None = None
    least_fps: float | None = None

    @torch.inference_mode()
    def enlarge(self, frames: Tensor) -> Tensor:
        """Enlarge a whole video at once."""
        enlarger = self.open()
        return torch.cat([*enlarger.feed(frames), *enlarger.drain()])


class FrameWise:
    """Enlarges each frame by itself."""

    def __init__(self, enlarge: Callable[[Tensor], Tensor]) -> None:
        self._enlarge = enlarge

    def feed(self, frames: Tensor) -> Iterable[Tensor]:
        """Return the frames, larger."""
        yield self._enlarge(frames)

    def drain(self) -> Iterable[Tensor]:
        """Return nothing, since no frame waits."""
        return ()


def bicubic(frames: Tensor) -> Tensor:
    """Enlarge as a screen does, without a model."""
    return enlarge(frames[None])[0].clamp(0, 1)


def _plain() -> Stage:
    return Stage(PLAIN, "no model", lambda: FrameWise(bicubic))


def _flashvsr() -> Stage:
    """FlashVSR's published sizes with random weights: its cost, and no picture."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    canvas = Canvas(WIDTH, HEIGHT)
    rows, columns = canvas.full_height // SPATIAL_FACTOR, canvas.full_width // SPATIAL_FACTOR
    networks = random_networks(official_sizes(FLASHVSR_LAYERS, dtype), device)

    def noise(latents: range) -> Tensor:
        return frame_noise(0, latents, 0, "bench", (LATENT_CHANNELS, rows, columns)).to(device)

    class OnDevice:
        """FlashVSR over frames that lie in main memory."""

        def __init__(self) -> None:
            self._upscaler = Upscaler(networks, UpscaleSettings(canvas, noise))

        def feed(self, frames: Tensor) -> Iterable[Tensor]:
            """Return the frames of each pass that these complete."""
            return (larger.cpu() for larger in self._upscaler.feed(frames.to(device)))

        def drain(self) -> Iterable[Tensor]:
            """Return the frames that are left."""
            return (larger.cpu() for larger in self._upscaler.drain())

    return Stage("FlashVSR", "random weights of the published sizes", OnDevice)


class Refining:
    """The demo's own second stage, which remembers a few frames."""

    def __init__(self, refiner: Refiner) -> None:
        self._refiner, self._memory, self._done = refiner, refiner.start(), 0

    def feed(self, frames: Tensor) -> Iterable[Tensor]:
        """Return the frames, larger."""
        larger, self._memory = refine(self._refiner, frames, self._done, self._memory)
        self._done += len(frames)
        yield larger

    def drain(self) -> Iterable[Tensor]:
        """Return nothing, since no frame waits."""
        return ()


def _refiner() -> Stage:
    refiner = load_refiner(REFINER)
    order_weights(refiner)
    note = "not shipped, see training/README.md"
    return Stage(OURS, note, lambda: Refining(refiner), LEAST_GAIN_DB, LEAST_FPS)


STAGES: Mapping[str, Callable[[], Stage]] = {
    PLAIN: _plain, OURS: _refiner, "flashvsr": _flashvsr,
}  # fmt: skip
"""Opened by name, since some load weights."""
USUAL = (PLAIN,)
"""Those that are measured unless others are named."""
