"""A shot of the demo that several cases of a bench make, and the models that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from ...model.config import DiTConfig
from ...model.dit import WanDiT
from ...model.preset import DEMO, DEMO_FOLDER
from ...model.vae.latent_format import SPATIAL_FACTOR
from ...model.vae.streaming import StreamingDecoder
from ...model.vae.tiny import TinyVAE
from ...samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from ...samplers.noise import frame_noise
from ...samplers.schedule.levels import flow_ladder
from .demo import demo_dit, demo_prompt, demo_vae, plain_dit, random_prompt

CHUNK = DEMO.chunk_frames
LADDER = flow_ladder(DEMO.steps, DEMO.shift)
TEXTS = ("a red ball rolls over the grass", "a blue ball bounces at night")


@dataclass(frozen=True)
class DemoShot:
    """A shot's size in pixels, its length in latent frames, and the timeline of its prompts.

    The length is at most one chunk more than the demo's window, so that all cases see all of the
    past. `switches` changes the prompt in the middle.
    """

    width: int
    height: int
    latents: int
    switches: bool = False
    seed: int = 0

    @property
    def rows(self) -> int:
        return self.height // SPATIAL_FACTOR

    @property
    def columns(self) -> int:
        return self.width // SPATIAL_FACTOR

    @property
    def chunk_starts(self) -> range:
        """The first latent frame of every chunk."""
        return range(0, self.latents, CHUNK)

    @cached_property
    def prompts(self) -> PromptTimeline:
        """The timeline: one prompt, or two."""
        first, second = (_timeline(text) for text in TEXTS)
        if not self.switches:
            return first
        middle = self.chunk_starts[len(self.chunk_starts) // 2]
        [entry] = second.entries
        return first.with_prompt(TimedPrompt(middle, entry.embedding, entry.text))

    @cached_property
    def noise(self) -> Tensor:
        """The noise (s, f, c, h, w) that frames start from, then that after each step but the
        last.
        """
        frames, size = range(self.latents), (16, self.rows, self.columns)
        fresh = [
            frame_noise(self.seed, frames, step, "renoise", size)
            for step in range(1, len(LADDER) - 1)
        ]
        return torch.stack([frame_noise(self.seed, frames, 0, "start", size), *fresh])


def _timeline(text: str) -> PromptTimeline:
    if (DEMO_FOLDER / "text.safetensors").exists():
        return demo_prompt(text)
    return random_prompt(demo_dit()[1].text_dim)


@dataclass(frozen=True, slots=True)
class Networks:
    """The transformer, its sizes, and the VAE."""

    tree: WanDiT
    config: DiTConfig
    vae: TinyVAE


def demo_networks() -> Networks:
    """Load the demo's, or random ones of the same sizes."""
    return Networks(*demo_dit(), demo_vae())


def plain_networks() -> Networks:
    """The same without a camera: what loops run that know none."""
    return Networks(*plain_dit(), demo_vae())


@dataclass(frozen=True, slots=True)
class Part:
    """Latents (f, c, h, w) that are there together, and their frames (n, 3, H, W)."""

    index: int
    latents: Tensor
    frames: Tensor
    prompt: str


class Marks(Protocol):
    """Takes the moments at which a case begins its chunks."""

    def begin(self, index: int) -> None:
        """The prompt is about to be read for chunk `index`."""

    def make(self, index: int) -> None:
        """Chunk `index` is denoised."""


Play = Callable[[DemoShot, Marks], Iterator[Part]]
"""Makes a shot's parts, one after another."""

Denoise = Callable[[int, TimedPrompt], Tensor]
"""Makes the latents (f, c, h, w) of the chunk at a latent frame."""


def play_chunks(shot: DemoShot, marks: Marks, vae: TinyVAE, denoise: Denoise) -> Iterator[Part]:
    """Denoise chunk by chunk and decode each as soon as it is there, as Self-Forcing's demo."""
    decoder = StreamingDecoder(vae)
    for index, first in enumerate(shot.chunk_starts):
        marks.begin(index)
        prompt = shot.prompts.at(first)
        latents = denoise(first, prompt)
        marks.make(index)
        yield Part(index, latents, decoder.feed(latents), prompt.text)
